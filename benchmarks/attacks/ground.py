"""Ground: a server with a cap on its memory, and an honest caller of it, for attacks.

A module of attacks holds rows, `ATTACKS`; tests run some, and `python -m benchmarks.attacks` all:

    def silent_streams(folder: Path) -> Outcome:
        with attacked(folder) as server:
            ...  # the attack; it ends by itself, in seconds
            return server.outcome(held=refused == sent, note=f"{refused} of {sent} refused")
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import psutil
from numpy.typing import NDArray

import attar
from attar import Client
from attar.errors import AttarError

from ..faults.ground import Server, served
from ..support.bundles import tiny_bundle

CAP_MB: Final = 1000.0  # of memory; the server is killed above it
SAMPLE_EVERY_S: Final = 0.05
CALL_EVERY_S: Final = 0.03
DEADLINE_S: Final = 60.0  # of the honest caller, for one call
HONEST: Final = "the cat sat on the mat"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What an attack came to.

    `peak_mb` is the most memory that the server and its children had (1 MB is 10**6 bytes), and
    `others_p99_ms` the 99th percentile of an honest caller's latencies during the attack.
    """

    held: bool
    peak_mb: float
    others_p99_ms: float | None
    note: str


@dataclass(frozen=True, slots=True)
class Attack:
    """An attack by name; `run` is given an empty folder."""

    name: str
    run: Callable[[Path], Outcome]


class Attacked:
    """A server under attack, what it takes, and how an honest caller of it fares."""

    def __init__(
        self, server: Server, expected: NDArray[np.float32], *, model: str, key: str | None
    ) -> None:
        """Measure `server`, whose `model` answers `expected` to HONEST; the caller has `key`."""
        self.server = server
        self.peak_mb = server.rss_mb
        self.capped = False
        self.latencies_s: list[float] = []
        self.failures: list[str] = []
        self._expected = expected
        self._model = model
        self._key = key
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._sample, daemon=True),
            threading.Thread(target=self._call, daemon=True),
        ]

    def start(self) -> None:
        """Begin to sample memory and to call."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End both, and wait for the last call."""
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def outcome(self, *, held: bool, note: str, others: bool = True) -> Outcome:
        """End the attack. It held if `held`, and the server lives, within its cap.

        With `others` the honest caller must have been answered, rightly and every time.
        """
        if others:
            self._wait_for_a_call()
        self.stop()
        unharmed = not self.capped and self.server.alive
        if others:
            unharmed = unharmed and bool(self.latencies_s) and not self.failures
        notes = [note]
        if self.capped:
            notes.append(f"killed above {CAP_MB:g} MB")
        elif not self.server.alive:
            notes.append("the server died")
        if self.failures:
            notes.append(f"{len(self.failures)} honest calls failed: {self.failures[0][:200]}")
        p99_ms = None  # where the honest caller has no part
        if self.latencies_s:
            p99_ms = round(float(np.quantile(self.latencies_s, 0.99)) * 1e3, 1)
        return Outcome(
            held=held and unharmed,
            peak_mb=round(self.peak_mb, 1),
            others_p99_ms=p99_ms,
            note="; ".join(notes),
        )

    def _sample(self) -> None:
        with suppress(psutil.NoSuchProcess):
            while not self._stop.wait(SAMPLE_EVERY_S):
                memory_mb = self.server.rss_mb
                self.peak_mb = max(self.peak_mb, memory_mb)
                if memory_mb > CAP_MB:
                    self.capped = True
                    self.server.process.kill()
                    return

    def _wait_for_a_call(self) -> None:
        """Let the honest caller's first call end: an attack may be over before it is made."""
        ends = time.monotonic() + DEADLINE_S
        while not (self.latencies_s or self.failures) and time.monotonic() < ends:
            time.sleep(CALL_EVERY_S)

    def _call(self) -> None:
        with Client(self.server.target, key=self._key) as client:
            while not self._stop.wait(CALL_EVERY_S):
                began = time.perf_counter()
                try:
                    embedded = client.embed([HONEST], model=self._model, deadline_s=DEADLINE_S)
                except AttarError as error:
                    self.failures.append(f"{type(error).__name__}: {error}")
                    continue
                self.latencies_s.append(time.perf_counter() - began)
                if not np.allclose(embedded.vectors[0], self._expected, atol=1e-5):
                    self.failures.append("another vector")


@contextmanager
def attacked(
    folder: Path,
    *arguments: object,
    bundle: Path | None = None,
    key: str | None = None,
    within: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> Iterator[Attacked]:
    """Run a server of a tiny bundle, or of `bundle`, with memory sampled and an honest caller.

    `arguments` are more of `attar serve`, and `key` is what the honest caller sends; `within` and
    `environment` are as in `served`.
    """
    served_bundle = bundle or tiny_bundle(folder / "tiny.attar")
    encoder = attar.load(served_bundle, threads=1)
    expected = encoder.embed([HONEST]).vectors[0]
    within_that = served(folder, served_bundle, *arguments, within=within, environment=environment)
    with within_that as server:
        under_attack = Attacked(server, expected, model=encoder.manifest.name, key=key)
        under_attack.start()
        try:
            yield under_attack
        finally:
            under_attack.stop()
