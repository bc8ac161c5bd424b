"""Do to a real server every fault that it must survive, and count what became of the requests.

    python -m benchmarks.faults --full --out benchmarks/results/faults.json
    python -m benchmarks.faults --only 'disk full' --only 'clock moved'

Without --full the counts are small, and it takes two or three minutes; with it, about half an hour.
Each has a server of its own, `attar serve` in a process of its own, and stays on this machine.
A row has the requests that were sent; how many had the right answer (the numbers that `attar.load`
gives for the same bundle, or for a bad request its one status); how many a wrong one; and how many
were lost: accepted and never answered, or acknowledged and gone. What was refused as it should be
is none of these, and the note counts it.

Disk full needs a tmpfs of its own (unshare), clock moved Debian's libfaketime, which is fetched by
apt-get into build/; without them the row says so.
"""

import argparse
import importlib.metadata
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from attar.host import describe

from . import load, messages, models, storage
from .seen import NotRun, Seen

ROOT: Final = Path(__file__).parents[2]
FAKETIME: Final = ROOT / "build" / "faketime"
LONGEST_S: Final = 1800  # of one fault; then it counts as lost
VERSIONS: Final = ("attar", "grpcio", "protobuf", "qdrant-edge-py", "starlette", "uvicorn")

Do = Callable[[Path], Seen]


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault by name, done a little or in full."""

    name: str
    small: Do
    full: Do


def clock_moved(folder: Path) -> Seen:
    """Fetch libfaketime, then move the clock."""
    return storage.clock_moved(folder, library=faketime())


FAULTS: Final = (
    Fault("poison text", load.poison, load.poison),
    Fault("20 % cancelled", load.cancelled, load.cancelled),
    Fault("20 % with 5 ms", load.hurried, load.hurried),
    Fault("5 times overload", load.overloaded, partial(load.overloaded, seconds=60.0)),
    Fault("process paused", load.paused, load.paused),
    Fault("SIGTERM under load", load.terminated, load.terminated),
    Fault("model swapped", models.swapped, partial(models.swapped, swaps=20)),
    Fault("bad bundle", models.spoiled, models.spoiled),
    Fault("run hung", models.hung, models.hung),
    Fault("store killed", storage.store_killed, partial(storage.store_killed, kills=20)),
    Fault("kill -9", storage.killed, partial(storage.killed, count=100)),
    Fault("disk full", storage.disk_full, storage.disk_full),
    Fault("clock moved", clock_moved, clock_moved),
    Fault("malformed messages", messages.malformed, partial(messages.malformed, messages=20_000)),
    Fault(
        "slow connections",
        messages.endless,
        partial(messages.endless, connections=200, seconds=10.0),
    ),
    Fault("huge messages", messages.huge, partial(messages.huge, count=100)),
    Fault("bad fields", messages.bad_fields, messages.bad_fields),
    Fault("error table", messages.every_error, messages.every_error),
)


def main() -> None:
    """Do the faults one after another, print a row each, and write them all."""
    parser = argparse.ArgumentParser(description="Do faults to a real server, and count.")
    parser.add_argument("--full", action="store_true", help="large counts: about 20 minutes")
    parser.add_argument("--only", action="append", choices=[fault.name for fault in FAULTS])
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    chosen = [one for one in FAULTS if arguments.only is None or one.name in arguments.only]
    rows = [row(fault.name, fault.full if arguments.full else fault.small) for fault in chosen]
    if arguments.out is not None:
        only = "".join(f" --only {name!r}" for name in arguments.only or ())
        result = {
            "command": f"python -m benchmarks.faults{' --full' * arguments.full}{only} --out OUT",
            "machine": describe(),
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "rows": rows,
        }
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if any(one["wrong"] or one["lost"] for one in rows):
        sys.exit("a fault did harm")


def row(name: str, do: Do) -> dict[str, Any]:
    """Do one fault in a folder of its own, within its time, and print what was seen."""
    nothing = Seen(requests=0, answered=0, wrong=0, lost=0, note="")
    with tempfile.TemporaryDirectory(prefix="attar-fault-", ignore_cleanup_errors=True) as folder:
        try:
            with _within(LONGEST_S):
                seen = do(Path(folder))
        except NotRun as why:
            seen = Seen(**{**asdict(nothing), "note": f"not run: {why}"})
        except (AssertionError, TimeoutError) as why:  # a server that does not start again, or end
            first = next(iter(str(why).splitlines()), "")
            seen = Seen(**{**asdict(nothing), "lost": 1, "note": f"it did not end: {first}"})
    found = {"fault": name, **asdict(seen), "note": seen.note.replace(folder, "DIR")}
    print(json.dumps(found), flush=True)
    return found


def faketime() -> Path:
    """Give libfaketime, out of Debian's package; NotRun where that cannot be fetched."""
    found = sorted(FAKETIME.glob("usr/lib/*/faketime/libfaketimeMT.so.1"))
    if found:
        return found[0]
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        raise NotRun("libfaketime comes from Debian, and this system has no apt-get")
    FAKETIME.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(["apt-get", "download", "libfaketime"], cwd=FAKETIME, check=True)
        (package,) = FAKETIME.glob("libfaketime_*.deb")
        subprocess.run(["dpkg-deb", "-x", package, FAKETIME], check=True)
    except (subprocess.CalledProcessError, ValueError) as error:
        raise NotRun(f"libfaketime cannot be fetched: {error}") from error
    return faketime()


@contextmanager
def _within(seconds: int) -> Iterator[None]:
    """Raise TimeoutError in the main thread when the block takes longer."""

    def end(*_: object) -> None:
        raise TimeoutError(f"{seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
