"""What every command says to a bad input: its exit code, its message, and what it left behind.

    python -m benchmarks.bad_command_table --out benchmarks/results/bad_commands.md

Every row is a command that really ran, in a process of its own: about 150 of them, 5 minutes.
"""

import argparse
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .hostile.commands import CASES, Case, run

HEADER = "| command | input | fault | exit code | left behind | message |\n" + "| --- " * 6 + "|\n"


def row(case: Case) -> str:
    """Run one bad command and give its row."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = run(case, Path(folder) / "x")
    message = outcome.message.replace("|", "\\|")
    left = ", ".join(outcome.written) or "nothing"
    return (
        f"| {case.command} | {case.kind} | {case.fault} | {outcome.status} | {left} | {message} |\n"
    )


def main() -> None:
    """Run every bad command, two at a time, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bad_commands.md"))
    out = parser.parse_args().out
    with ThreadPoolExecutor(max_workers=2) as pool:
        rows = list(pool.map(row, CASES))
    out.write_text(HEADER + "".join(rows), "utf-8")
    print(f"{len(rows)} commands, {out} is written")


if __name__ == "__main__":
    main()
