"""Attack real servers in every way that benchmarks/attacks knows, and see what each comes to.

    python -m benchmarks.attacks --out benchmarks/results/attacks.json
    python -m benchmarks.attacks --only 'a shape without bytes'

Each attack has a server of its own on this machine, killed above a cap of memory, and an honest
caller of it. A row says whether the attack held off, the most memory that the server and its
children had, and the 99th percentile of the honest caller's latencies during the attack.
"""

import argparse
import importlib
import importlib.metadata
import json
import pkgutil
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from attar.errors import AttarError
from attar.host import describe

from ..faults.seen import NotRun
from .ground import Attack

VERSIONS: Final = ("attar", "grpcio", "protobuf", "qdrant-edge-py", "starlette", "uvicorn")


def attacks() -> tuple[Attack, ...]:
    """Every row of every module of benchmarks/attacks."""
    names = sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))
    modules = [
        importlib.import_module(f"{__package__}.{name}")
        for name in names
        if name not in ("ground", "__main__")
    ]
    return tuple(attack for module in modules for attack in getattr(module, "ATTACKS", ()))


def row(attack: Attack) -> dict[str, Any]:
    """Run one attack in a folder of its own, and print what it came to."""
    nothing = {"held": None, "peak_mb": None, "others_p99_ms": None}
    with tempfile.TemporaryDirectory(prefix="attar-attack-", ignore_cleanup_errors=True) as folder:
        try:
            outcome = asdict(attack.run(Path(folder)))
        except NotRun as why:
            outcome = {**nothing, "note": f"not run: {why}"}
        except (AttarError, TimeoutError) as error:
            ended = f"it did not end as it should: {type(error).__name__}: {error}"[:400]
            outcome = {**nothing, "held": False, "note": ended}
        seen = {"attack": attack.name, **outcome, "note": outcome["note"].replace(folder, "DIR")}
    print(json.dumps(seen), flush=True)
    return seen


def main() -> None:
    """Run the attacks one after another, print a row each, and write them all."""
    known = attacks()
    parser = argparse.ArgumentParser(description="Attack real servers, and see what falls.")
    parser.add_argument("--only", action="append", choices=[attack.name for attack in known])
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    arguments = parser.parse_args()
    rows = [row(one) for one in known if arguments.only is None or one.name in arguments.only]
    if arguments.out is not None:
        only = "".join(f" --only {name!r}" for name in arguments.only or ())
        result = {
            "command": f"python -m benchmarks.attacks{only} --out OUT",
            "machine": describe(),
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "rows": rows,
        }
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if fallen := [one["attack"] for one in rows if one["held"] is False]:
        sys.exit(f"{len(fallen)} of {len(rows)} attacks did harm: {', '.join(fallen)}")


if __name__ == "__main__":
    main()
