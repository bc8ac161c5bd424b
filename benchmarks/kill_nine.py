"""Kill a server with SIGKILL in the middle of upserts, 20 rounds, and say what was lost."""

import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from tests.bundles import tiny_bundle
from tests.crashes import BATCH, rounds

ROUNDS = 20


def main() -> None:
    """Print a row a round and the sum."""
    print("| round | batches acknowledged | points lost | torn | batches in part |")
    print("| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        bundle = tiny_bundle(Path(folder) / "tiny.attar")
        total = 0
        for number, seen in enumerate(rounds(bundle, Path(folder), count=ROUNDS, seed=1), start=1):
            total += seen.acknowledged
            print(
                f"| {number} | {seen.acknowledged} | {seen.lost} | {seen.torn} | {seen.partial} |"
            )
    print(f"\n{total} batches of {BATCH} points were acknowledged over {ROUNDS} kills")


if __name__ == "__main__":
    main()
