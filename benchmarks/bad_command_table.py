"""What every command says to a bad input: its exit code, its message, and what it left behind.

    python -m benchmarks.bad_command_table --out benchmarks/results/bad_commands.md

Every row is a command that really ran, in this process as in the tests: some 250 of them, which
take two minutes where nothing else runs.
"""

import argparse
import tempfile
from pathlib import Path

from .hostile.commands import CASES, Case, attempt

HEADER = "| command | input | fault | exit code | left behind | message |\n" + "| --- " * 6 + "|\n"


def row(case: Case) -> str:
    """Run one bad command and give its row."""
    with tempfile.TemporaryDirectory() as folder:
        outcome = attempt(case, Path(folder) / "x")
    message = outcome.message.replace("|", "\\|")
    left = ", ".join(outcome.written) or "nothing"
    return (
        f"| {case.command} | {case.kind} | {case.fault} | {outcome.status} | {left} | {message} |\n"
    )


def main() -> None:
    """Run every bad command, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/bad_commands.md"))
    out = parser.parse_args().out
    rows = [row(case) for case in CASES]
    out.write_text(HEADER + "".join(rows), "utf-8")
    print(f"{len(rows)} commands, {out} is written")


if __name__ == "__main__":
    main()
