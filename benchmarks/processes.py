"""Servers in processes of their own: started on chosen cores, watched, and ended for certain.

A core is the budget that no server can exceed, whatever threads and processes it is made of: every
thread of it is held to the cores it is given, and the load generator to the others. Besides,
each is set to use as many threads as it has cores.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

DEADLINE_S = 180  # seconds until a server answers
TELLING_NOBODY = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "INFINITY_ANONYMOUS_USAGE_STATS": "0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cores:
    """Which cores the server has, and which its clients."""

    server: tuple[int, ...]
    clients: tuple[int, ...]


class Running:
    """A server's process and its children."""

    def __init__(self, process: subprocess.Popen[bytes], cores: Cores, log: Path) -> None:
        self.process = process
        self._cores = cores
        self._log = log

    @property
    def family(self) -> list[psutil.Process]:
        """Itself and its descendants."""
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self.process.pid)
            return [parent, *parent.children(recursive=True)]
        return []

    def hold(self) -> None:
        """Hold every thread to the server's cores: some libraries pin theirs elsewhere."""
        for one in self.family:
            with suppress(psutil.NoSuchProcess):
                for thread in one.threads():
                    with suppress(ProcessLookupError):
                        os.sched_setaffinity(thread.id, self._cores.server)

    def cpu_s(self) -> float:
        """Give the seconds of CPU, user and system, that all of it has used so far."""
        total = 0.0
        for one in self.family:
            with suppress(psutil.NoSuchProcess):
                times = one.cpu_times()
                total += times.user + times.system
        return total

    def rss_mb(self) -> float:
        """Give the resident memory of all of it, in MB; pages that are shared count twice."""
        total = 0
        for one in self.family:
            with suppress(psutil.NoSuchProcess):
                total += one.memory_info().rss
        return round(total / 1e6, 1)

    def last_line(self) -> str:
        """Give the end of what it printed."""
        lines = self._log.read_text("utf-8", errors="replace").strip().splitlines()
        return next((line for line in reversed(lines) if line.strip()), "it said nothing")

    def wait_until(self, condition: Callable[[], bool]) -> float:
        """Wait until it answers; give the seconds since it started, or raise RuntimeError."""
        while not condition():
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended when started: {self.last_line()}")
            if time.time() > psutil.Process(self.process.pid).create_time() + DEADLINE_S:
                raise RuntimeError(f"no answer in {DEADLINE_S} s: {self.last_line()}")
            time.sleep(0.005)
        return float(time.time() - psutil.Process(self.process.pid).create_time())


@contextmanager
def running(
    command: Sequence[str | Path],
    *,
    cores: Cores,
    log: Path,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[Running]:
    """Run a server until the end of the block; SIGTERM, and later SIGKILL to all that is left."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # by way of `finally`
    threads = str(len(cores.server))
    pools = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={
                **os.environ,
                **dict.fromkeys(pools, threads),
                **TELLING_NOBODY,
                **(environment or {}),
            },
            cwd=cwd,
        )
    os.sched_setaffinity(process.pid, cores.server)  # its children inherit it
    one = Running(process, cores, log)
    try:
        yield one
    finally:
        family = one.family
        process.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=15)
        for left in alive:
            with suppress(psutil.NoSuchProcess):
                left.kill()
        process.wait()


def attar_command(
    bundle: Path,
    variant: str,
    scratch: Path,
    *,
    threads: int,
    http_port: int | str = "off",
    metrics_port: int | str = "off",
) -> list[str | Path]:
    """Give the command of attar's server; a file tells the free port that gRPC takes."""
    return [
        *(sys.executable, "-m", "attar.server", bundle, "--variant", variant),
        *("--threads", str(threads), "--data-dir", scratch / "data"),
        *("--port", "0", "--ready-file", scratch / "ready"),
        *("--http-port", str(http_port), "--metrics-port", str(metrics_port)),
    ]


def half_of_the_cores() -> Cores:
    """Part the cores that there are: the first half the server's, the others the clients'."""
    every = sorted(os.sched_getaffinity(0))
    if len(every) < 2:
        raise SystemExit("one core is too few: the server and its clients need one each")
    half = len(every) // 2
    return Cores(server=tuple(every[:half]), clients=tuple(every[half:]))


def every_core() -> Cores:
    """Let the server and its clients share all cores."""
    every = tuple(sorted(os.sched_getaffinity(0)))
    return Cores(server=every, clients=every)
