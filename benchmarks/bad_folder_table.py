"""Print, as a Markdown table, what `attar import` says of each bad folder, and its exit code."""

import tempfile
from pathlib import Path

from .hostile.folders import CASES, attempt


def main() -> None:
    """Spoil a tiny folder in every way, import each, print a row each."""
    print("| kind | fault | exit code | message |\n| --- | --- | --- | --- |")
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            outcome = attempt(case, Path(folder))
        message = " ".join(outcome.message.split()).replace("|", "\\|")
        print(f"| {case.kind} | {case.fault} | {outcome.status} | {message} |")


if __name__ == "__main__":
    main()
