"""Costly documents: small files and folders that cost a careless reader hours, or gigabytes.

The one list; tests/hostile/test_documents.py and `python -m benchmarks.attacks` read each as
`attar adapt` does, and make pairs of it by every rule, in one process with limits:

    python -m benchmarks.hostile.documents FOLDER
"""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from attar.errors import AttarError

Make = Callable[[Path], object]
"""Lays files in a folder."""

CPU_S: Final = 120  # for all; each takes a second or less
MEMORY_BYTES: Final = 2**31  # of data; the largest needs a third
_MANY: Final = 300_000


@dataclass(frozen=True, slots=True)
class Case:
    """Files in a folder, what of it is read, and how many documents that has or why it is refused.

    `data` is a file's name, or "" for the folder.
    """

    what: str
    make: Make
    outcome: int | str
    data: str = ""

    def __str__(self) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Reading:
    """What came back: how many documents, or the refusal; and the processor's time."""

    what: str
    outcome: int | str
    cpu_s: float


def written(what: str, name: str, text: str, outcome: int | str) -> Case:
    """A case of one file."""
    return Case(what, lambda folder: (folder / name).write_text(text, "utf-8"), outcome, name)


def linked(folder: Path) -> None:
    """Lay thirty folders, each with two links to the next: a billion paths to one file."""
    (folder / "29").mkdir()
    (folder / "29" / "a.md").write_text("one")
    for number in range(28, -1, -1):
        (folder / f"{number}").mkdir()
        for link in ("a", "b"):
            (folder / f"{number}" / link).symlink_to(folder / f"{number + 1}")


def huge(folder: Path) -> None:
    """Lay a page of a gigabyte, which takes no room on the disk."""
    (folder / "a.md").write_text("one")
    with (folder / "b.md").open("wb") as file:
        file.truncate(2**30)


def repeated(folder: Path) -> None:
    """Lay a table of one text of two megabytes, which 2,000 rows repeat."""
    texts = pa.array(["word " * 400_000])
    rows = pa.DictionaryArray.from_arrays(np.zeros(2_000, np.int8), texts)
    parquet.write_table(pa.table({"text": rows}), folder / "a.parquet", store_schema=False)


def billions(folder: Path) -> None:
    """Lay a table of forty million rows in a few bytes."""
    rows = pa.DictionaryArray.from_arrays(np.zeros(40_000_000, np.int8), pa.array(["a"]))
    parquet.write_table(pa.table({"text": rows}), folder / "a.parquet", store_schema=False)


def packed(folder: Path) -> None:
    """Lay a table of 300 MB, compressed to one hundredth."""
    with gzip.open(folder / "a.csv.gz", "wb", compresslevel=1) as file:
        file.write(b"text\n")
        for _ in range(300):
            file.write(b"a" * 2**20 + b"\n")


def _keys(count: int) -> str:
    keys = ",".join(f'"{number}":0' for number in range(count))
    return f'{{"text":"one",{keys},"0":1}}\n'


CASES: Final = (
    written("tags that never end", "a.html", "<a " * _MANY, 1),
    written("quotes that never end", "a.html", "<a \"<a '" * _MANY, 1),
    written("declarations that never end", "a.html", "one" + "<![CDATA[>" * _MANY, 1),
    written("a script that never ends", "a.html", "one<script>" + "</" * _MANY, 1),
    written("elements in one another", "a.html", "<div>" * _MANY + "one" + "</div>" * _MANY, 1),
    written("ends of nothing", "a.html", "one" + "<form>" * _MANY + "</nav>" * _MANY, 1),
    written("a row of dots", "a.md", "." * 1_000_000 + "one", 1),
    written("blanks in a line", "a.md", " " * 1_000_000 + "one", 1),
    written("blanks in a table's rule", "a.md", "---" + " " * 1_000_000 + "one", 1),
    written("blanks in a heading", "a.md", "# a" + " " * 1_000_000 + "b\none", 1),
    written("blanks in a title", "a.md", f"---\ntitle: a{' ' * 1_000_000}b\n---\none", 1),
    written("a title of every section", "a.md", f"# {'a' * _MANY}\n" + "## b\none\n" * 50_000, 1),
    written("a character of a million digits", "a.md", f"one &#{'1' * 1_000_000};", 1),
    written("such a character in a page", "a.html", f"one &#x{'f' * 1_000_000};", 1),
    written("roles that never end", "a.rst", ":" * 1_000_000 + " one", 1),
    written("blanks in a link", "a.rst", "`one" + " " * 1_000_000 + "two", 1),
    written("a module of a million lists", "a.py", f"x = [{'[], ' * 1_000_000}]", "are not parsed"),
    written("brackets in one another", "a.py", f"x = {'(' * _MANY}", "has no text"),
    written("a million keys, one of them twice", "a.jsonl", _keys(200_000), "'0' occurs twice"),
    written("a page of binary", "a.md", "one\0two", "has a NUL at character 3"),
    Case("a billion paths", linked, "are one folder, by a link; take one of them away"),
    Case("a pipe", lambda folder: os.mkfifo(folder / "a.md"), "neither a file nor", "a.md"),
    Case("a page of a gigabyte", huge, "has 1,073,741,824 bytes, and a document may have"),
    Case("a text that Parquet repeats", repeated, "becomes more than", "a.parquet"),
    Case("forty million rows of Parquet", billions, "becomes more than", "a.parquet"),
    Case("a compressed table", packed, "becomes more than", "a.csv.gz"),
)


def lay(folder: Path) -> None:
    """Lay the files of every case, each in a folder of its number."""
    for number, case in enumerate(CASES):
        (folder / f"{number}").mkdir()
        case.make(folder / f"{number}")


def readings(folder: Path) -> tuple[list[Reading], float]:
    """Read every case in a process with limits; give what came of each, and its peak in MB.

    After the case that breaks a limit there is none.
    """
    command = [sys.executable, "-m", "benchmarks.hostile.documents", str(folder)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=900)
    lines: list[dict[str, Any]] = [json.loads(line) for line in ended.stdout.splitlines()]
    peak_mb = max((line.pop("peak_mb") for line in lines), default=0.0)
    return [Reading(**line) for line in lines], peak_mb


def _read(folder: Path) -> Iterator[Reading]:
    # Both import large libraries, which the limits are not for.
    from attar.training.data.documents import read_documents
    from attar.training.data.pair_rules import RULES

    resource.setrlimit(resource.RLIMIT_CPU, (CPU_S, CPU_S))
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_BYTES, MEMORY_BYTES))
    for number, case in enumerate(CASES):
        began = time.process_time()
        try:
            documents = read_documents(folder / f"{number}" / case.data)
            for rule in RULES.values():
                rule(documents)
            outcome: int | str = len(documents)
        except AttarError as error:
            outcome = str(error)
        yield Reading(case.what, outcome, round(time.process_time() - began, 3))


def main() -> None:
    """Read every case, and print a line each."""
    parser = argparse.ArgumentParser(description="Read costly documents within limits.")
    parser.add_argument("folder", type=Path, help="where `lay` has put them")
    for reading in _read(parser.parse_args().folder):
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
        print(json.dumps({**asdict(reading), "peak_mb": round(peak_mb, 1)}), flush=True)


if __name__ == "__main__":
    main()
