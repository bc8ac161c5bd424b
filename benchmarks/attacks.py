"""Attack real servers in every way that tests/attacks knows, and see what each comes to.

    python benchmarks/attacks.py --out benchmarks/results/attacks.json
    python benchmarks/attacks.py --only 'a shape without bytes'

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

sys.path.append(str(Path(__file__).parents[1]))

import tests.attacks
from attar.host import describe
from tests.attacks.ground import Attack
from tests.faults.seen import NotRun

VERSIONS: Final = ("attar", "grpcio", "protobuf", "qdrant-edge-py", "starlette", "uvicorn")


def attacks() -> tuple[Attack, ...]:
    """Every row of every module of tests/attacks."""
    names = sorted(module.name for module in pkgutil.iter_modules(tests.attacks.__path__))
    modules = [
        importlib.import_module(f"tests.attacks.{name}")
        for name in names
        if name != "ground" and not name.startswith("test_")
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
            "command": f"python benchmarks/attacks.py{only} --out OUT",
            "machine": describe(),
            "versions": {name: importlib.metadata.version(name) for name in VERSIONS},
            "rows": rows,
        }
        arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if fallen := [one["attack"] for one in rows if one["held"] is False]:
        sys.exit(f"{len(fallen)} of {len(rows)} attacks did harm: {', '.join(fallen)}")


if __name__ == "__main__":
    main()
