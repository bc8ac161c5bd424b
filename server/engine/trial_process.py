"""The trial process: a bundle is opened and tried there before the server opens it.

    python -m attar.server.engine.trial_process PARENT JOB

Whatever a bundle does there, panic, abort, take all memory or never end, is a refusal with a
reason. The process works in an empty folder, writes nothing, and dies with the server. What it
says of a bundle holds for the bytes that it read: it gives the SHA-256 of their manifest, by which
the server opens those and no others.
"""

import asyncio
import ctypes
import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from itertools import islice
from pathlib import Path
from typing import Any, Final

import psutil

from attar.bundle import MAX_FILES, Bundle
from attar.errors import (
    AttarError,
    BackendError,
    BundleRefused,
    InvalidInput,
    NotFound,
    NotSupported,
    Unavailable,
)

from .bundle_repository import BundleLocation, Proven

TIMES: Final = 4
"""Times a bundle's bytes: the file, its parsed form, its weights, and the prepacked weights."""

_LOOK_EVERY_S: Final = 0.05
_SPARE_BYTES: Final = 128 * 2**20  # of libraries, which are resident, and no data of the process
_MOST_CHARACTERS: Final = 2**14
_PDEATHSIG: Final = 1  # of linux/prctl.h
_KINDS: Final[Mapping[str, type[AttarError]]] = {
    kind.__name__: kind for kind in (BackendError, InvalidInput, NotFound, NotSupported)
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Prover:
    """How bundles are tried; calling it tries one."""

    choices: Mapping[str, Any] = field(default_factory=dict)  # more arguments of `attar.load`
    runs: bool = True  # the graph too; else something else runs it, and the least item is enough
    timeout_s: float
    memory_bytes: int  # besides TIMES the bundle's own on disk
    require_signature: Path | None = None  # a file of keys, one of which must have signed
    ledger: Path | None = None  # a folder in which several servers tell one another the outcome

    async def __call__(self, location: BundleLocation, variant: str | None) -> Proven:
        """Try a bundle; raises why it cannot be served, Unavailable for what is not its fault."""
        if self.ledger is None:
            outcome = await self._tried(location.path, variant)
        else:
            named = (
                f"{os.fsencode(location.path)!r}\0{location.stamp}\0{location.content}\0{variant}"
            )
            outcome = await self._agreed(
                self.ledger / sha256(named.encode()).hexdigest(), location, variant
            )
        return _judged(outcome)

    async def _agreed(
        self, entry: Path, location: BundleLocation, variant: str | None
    ) -> dict[str, Any]:
        """Read what another server has said of the same bundle, or be the one who tries it."""
        async with _turn(entry.with_suffix(".turn")):
            if (written := await asyncio.to_thread(_read, entry)) is not None:
                return written
            outcome = await self._tried(location.path, variant)
            if "passing" not in outcome:
                await asyncio.to_thread(_write, entry, outcome)
            return outcome

    async def _tried(self, path: Path, variant: str | None) -> dict[str, Any]:
        memory = self.memory_bytes + TIMES * await asyncio.to_thread(_bytes_on_disk, path)
        with tempfile.TemporaryDirectory(prefix="attar-") as empty:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", __name__, str(os.getpid())),
                self._job(path, variant, memory),
                cwd=empty,
                env=_environment(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                return await self._heard(child, path, memory)
            finally:
                if child.returncode is None:
                    with suppress(ProcessLookupError):
                        child.kill()
                    await child.wait()

    def _job(self, path: Path, variant: str | None, memory: int) -> str:
        job = {
            "path": str(path.absolute()),
            "variant": variant,
            "choices": dict(self.choices),
            "runs": self.runs,
            "keys": self.require_signature and str(self.require_signature.absolute()),
            "memory_bytes": memory,
            "timeout_s": self.timeout_s,
        }
        return json.dumps(job)

    async def _heard(
        self, child: asyncio.subprocess.Process, path: Path, memory: int
    ) -> dict[str, Any]:
        """Give what a child says, or why it says nothing."""
        if child.stdout is None:
            raise RuntimeError("a child without a pipe is a bug in attar")
        watch = asyncio.create_task(_killed_above(child.pid, memory + _SPARE_BYTES))
        try:
            async with asyncio.timeout(self.timeout_s):
                line = await child.stdout.readline()
                if line.endswith(b"\n"):
                    outcome: dict[str, Any] = json.loads(line)
                    return outcome
                code = await child.wait()
        except TimeoutError:
            return _refusal(
                f"{path} was not opened and tried within load_timeout_s, {self.timeout_s:g} s; "
                "give it longer, or export it again"
            )
        finally:
            watch.cancel()
            await asyncio.wait([watch])
        if not watch.cancelled():
            return _refusal(
                f"{path} took more than {memory} bytes of memory to be opened and tried; raise "
                "load_memory_bytes, or export it again"
            )
        if code in (-signal.SIGKILL, -signal.SIGTERM):
            return {
                "passing": f"the process that tried {path} was killed; is memory short? It is tried"
                " again"
            }
        how = signal.Signals(-code).name if code < 0 else f"status {code}"
        return _refusal(
            f"{path} ended the process that tried it, by {how}: it takes more than "
            f"load_memory_bytes allow, {memory} for it, or breaks what reads it; export it again"
        )


def _judged(outcome: Mapping[str, Any]) -> Proven:
    """Give the proof of an outcome, or raise its refusal."""
    if "passing" in outcome:
        raise Unavailable(outcome["passing"])
    if "refused" not in outcome:
        return Proven(content=outcome["content"], variant=outcome["variant"])
    kind = _KINDS.get(outcome["kind"])
    if kind is None:
        raise BundleRefused(outcome["code"], outcome["refused"])
    raise kind(outcome["refused"])


def _refusal(message: str) -> dict[str, Any]:
    return {"refused": message, "kind": "BundleRefused", "code": "unloadable"}


def _environment() -> dict[str, str]:
    """Give the child no settings, which may be secrets, and one thread to tokenise in."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("ATTAR_")
    }
    return {**environment, "TOKENIZERS_PARALLELISM": "false", "PYTHONDONTWRITEBYTECODE": "1"}


async def _killed_above(pid: int, most: int) -> None:
    """Kill a process, and return, once it has more than `most` bytes resident."""
    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(pid)
        while process.memory_info().rss <= most:  # noqa: ASYNC110 (nobody tells of another's memory)
            await asyncio.sleep(_LOOK_EVERY_S)
        process.kill()
        return
    await asyncio.Event().wait()  # it ended by itself


def _read(entry: Path) -> dict[str, Any] | None:
    with suppress(FileNotFoundError):
        outcome: dict[str, Any] = json.loads(entry.read_bytes())
        return outcome
    return None


def _write(entry: Path, outcome: Mapping[str, Any]) -> None:
    """Write the whole file at once: a reader never meets half of one."""
    partial = entry.with_suffix(".partial")
    partial.write_text(json.dumps(outcome), "utf-8")
    partial.replace(entry)


@asynccontextmanager
async def _turn(path: Path) -> AsyncIterator[None]:
    """Have a file's lock, which no two processes have."""
    import fcntl

    with path.open("wb") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                await asyncio.sleep(_LOOK_EVERY_S)
            else:
                break
        yield


def _bytes_on_disk(path: Path) -> int:
    """Count what a bundle occupies, not what it claims: holes and deflated zeros take nothing."""
    total = 0
    with suppress(OSError):
        files = islice(path.rglob("*"), MAX_FILES) if path.is_dir() else (path.resolve(),)
        for file in files:
            status = file.lstat()
            total += min(status.st_size, getattr(status, "st_blocks", 0) * 512)
    return total


# ---------------------------------------------------------------------- in the process of its own


def main(parent: str, job: str) -> None:
    """Do the job, say how it ended in one line, and end without any clearing away."""
    _die_with(int(parent))
    output = os.dup(1)
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 (a device, not a file)
        os.dup2(nowhere.fileno(), 1)  # whatever else writes there is not heard
    choices: dict[str, Any] = json.loads(job)
    _limit(choices)
    path = choices["path"]
    try:
        outcome = asdict(_prove(choices))
    except BundleRefused as error:
        outcome = {**_refusal(str(error.args[-1])), "code": error.code}
    except AttarError as error:
        kind = type(error).__name__
        outcome = {**_refusal(str(error)), "kind": kind if kind in _KINDS else "BundleRefused"}
    except MemoryError:
        outcome = _refusal(
            f"{path} takes more memory to be opened and tried than load_memory_bytes allow, "
            f"{choices['memory_bytes']} for it; raise it, or export the bundle again"
        )
    except BaseException as error:
        outcome = _refusal(f"{path} cannot be opened and tried: {type(error).__name__}: {error}")
    outcome = {
        key: value[:_MOST_CHARACTERS] if isinstance(value, str) else value
        for key, value in outcome.items()
    }
    os.write(output, json.dumps(outcome).encode() + b"\n")
    os._exit(0)


def _prove(job: Mapping[str, Any]) -> Proven:
    from attar import load, trial_inputs
    from attar.host_step import host_step
    from attar.runtime import read_heads

    bundle = Bundle.open(job["path"], require_signature=job["keys"])
    read_heads(bundle)
    if job["runs"]:
        encoder = load(bundle, variant=job["variant"], **job["choices"])
        trial_inputs.check(encoder)
        return Proven(content=bundle.content, variant=encoder.variant.name)
    reference = bundle.variant(bundle.manifest.reference)
    if reference.requires.provider or reference.requires.library or reference.requires.extra:
        host_step(bundle)
    else:
        trial_inputs.first_that_runs(
            load(bundle, variant=reference.name, threads=job["choices"].get("threads"))
        )
    return Proven(content=bundle.content, variant=job["variant"])


def _limit(job: Mapping[str, Any]) -> None:
    """Bound what this process may take, hard: nothing in it can take more back."""
    with suppress(OSError):  # the first to go where memory is short
        Path("/proc/self/oom_score_adj").write_text("1000", "utf-8")
    import resource

    cores = os.cpu_count() or 1
    for kind, most in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_DATA, job["memory_bytes"]),
        (resource.RLIMIT_CPU, int(job["timeout_s"] * cores) + 1),
    ):
        _, hard = resource.getrlimit(kind)
        allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (allowed, allowed))


def _die_with(parent: int) -> None:
    """Have the kernel end this process with its parent, even where that is killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it was killed before
        sys.exit(1)


if __name__ == "__main__":
    main(*sys.argv[1:])
