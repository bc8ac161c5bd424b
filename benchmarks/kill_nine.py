"""Kill a server with SIGKILL in the middle of upserts, many rounds, and say what was lost.

    python benchmarks/kill_nine.py --rounds 100 --out benchmarks/results/kill_nine.json

Each round a server is killed at a random moment while a client upserts, and another is started on
the same folder and asked for every point that was ever sent. 100 rounds take about 10 minutes.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from attar.host import describe
from tests.bundles import tiny_bundle
from tests.crashes import BATCH, Round, rounds


def row(seen: list[Round]) -> dict[str, object]:
    """Sum the rounds up, in points: what was lost in one round is missed by every later one."""
    acknowledged = BATCH * sum(one.acknowledged for one in seen)
    lost = max(one.lost for one in seen)
    wrong = max(one.torn for one in seen) + max(one.partial for one in seen)
    return {
        "fault": "kill -9 during upserts",
        "requests": acknowledged,
        "answered": acknowledged - lost,
        "wrong": wrong,
        "lost": lost,
        "note": f"{len(seen)} kills at random moments, each followed by another server on the same"
        f" folder; counted in points that were acknowledged, {BATCH} a call. Wrong: a vector or"
        " payload of another point, or a batch that is there in part",
    }


def main() -> None:
    """Print a row a round, then the sum as JSON, and write it if told where."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    print("| round | batches acknowledged | points lost | torn | batches in part |")
    print("| --- | --- | --- | --- | --- |")
    seen: list[Round] = []
    # The store of the server killed last may still be closing its files.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        bundle = tiny_bundle(Path(folder) / "tiny.attar")
        for one in rounds(bundle, Path(folder), count=arguments.rounds, seed=1):
            seen.append(one)
            counts = (len(seen), one.acknowledged, one.lost, one.torn, one.partial)
            print(f"| {' | '.join(map(str, counts))} |", flush=True)
    report = {
        "command": f"python benchmarks/kill_nine.py --rounds {arguments.rounds}",
        "machine": describe(),
        "rows": [row(seen)],
    }
    print(json.dumps(report["rows"]))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
