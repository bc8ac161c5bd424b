"""Documents are what a file or folder has, titled and grouped.

What is refused is in `benchmarks/hostile/data.py`, and tested in `tests/hostile/test_data.py`.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attar.errors import InvalidInput
from attar.training.data.documents import Document, read_documents
from attar.training.data.pair_rules import title_and_body
from attar.training.datasets import docstrings


def test_a_folder_gives_sections_files_and_docstrings_by_file(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide/start.md").write_text("# Start\nHello.\n## Install\nRun it.\n", "utf-8")
    (tmp_path / "notes.txt").write_text("One.\n\nTwo.\n", "utf-8")
    (tmp_path / "tool.py").write_text(
        '"""Alone."""\ndef f():\n    """Do.\n\n    It does.\n\n    >>> f()\n    """\n'
    )
    (tmp_path / "empty.md").write_text("# Title\n", "utf-8")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    documents = read_documents(tmp_path)
    assert documents.documents == (
        Document("guide/start.md#1", "guide/start.md", "Start", "Hello."),
        Document("guide/start.md#2", "guide/start.md", "Start: Install", "Run it."),
        Document("notes.txt", "notes.txt", "", "One.\n\nTwo."),
        Document("tool", "tool.py", "", "Alone."),
        Document("tool.f", "tool.py", "Do.", "It does."),
    )
    assert list(documents.lines()) == [
        f"{tmp_path}: 5 sections, files and docstrings; 3 have a title; 3 groups",
        "passed over: 1 named *.png, 1 files without text",
    ]


def test_a_line_an_object_and_a_row_are_documents(tmp_path: Path) -> None:
    lines = tmp_path / "a.txt"
    lines.write_text("one\n\ntwo\none\n", "utf-8")
    read = read_documents(lines)
    assert read.documents == (
        Document("a.txt:1", "a.txt:1", "", "one"),
        Document("a.txt:3", "a.txt:3", "", "two"),
    )
    assert read.passed_over == {"blank texts": 2, "texts that occur before": 1}
    objects = tmp_path / "a.jsonl"
    objects.write_text('{"name": "n", "summary": "s", "body": "b", "group": "g"}\n', "utf-8")
    assert read_documents(objects).documents == (Document("n", "g", "s", "b"),)
    table = tmp_path / "a.csv"
    table.write_text("Title,Text,q\nt,one,x\n", "utf-8")
    assert read_documents(table).documents == (Document("a.csv:0", "a.csv:0", "t", "one"),)
    assert read_documents(table, column="q").documents[0].text == "x"
    parquet = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["one", None], "title": [None, "t"], "n": [1, 2]}), parquet)
    assert read_documents(parquet).documents == (Document("a.parquet:0", "a.parquet:0", "", "one"),)


def test_docstrings_of_a_package_as_documents_are_the_pairs_of_the_corpus() -> None:
    documents = docstrings.documents(["asyncio"])
    pairs = {(pair.name, pair.summary): pair.body for pair in docstrings.read(["asyncio"])}
    assert {(d.name, d.title): d.text for d in documents} == pairs
    made = title_and_body(documents)
    assert len(made) > 0.99 * len(pairs)
    assert all(pair.name.startswith(pair.package + ".") for pair in made)


def test_a_module_too_large_to_parse_is_refused_alone_and_counted_in_a_folder(
    tmp_path: Path,
) -> None:
    large = tmp_path / "large.py"
    large.write_text('"""A docstring."""\n' + "a = 1\n" * 200_000, "utf-8")
    (tmp_path / "text.md").write_text("# Title\n\nA text.\n", "utf-8")
    with pytest.raises(InvalidInput, match=r"large\.py .*1,048,576 bytes.*split it"):
        read_documents(large)
    documents = read_documents(tmp_path)
    assert documents.passed_over == {"Python files of more than 1,048,576 bytes": 1}
    assert [document.text for document in documents] == ["A text."]


CHAPTERS = {
    "files": "A file is opened by its path. It must be closed after use.",
    "streams": "A stream gives its data in chunks. It pauses where nobody reads.",
}


def test_a_file_that_mostly_repeats_others_is_passed_over(tmp_path: Path) -> None:
    for name, text in CHAPTERS.items():
        (tmp_path / f"{name}.md").write_text(f"# The {name}\n\n{text}\n\nStable.\n", "utf-8")
        (tmp_path / f"{name}.html").write_text(
            f"<title>Manual</title><h2>The {name}</h2><p>{text}<p><i>Stable.</i><p>Since 1.0."
        )
    pages = "".join(f"<h2>{name}</h2><p>{text}" for name, text in CHAPTERS.items())
    (tmp_path / "all.html").write_text(f"<title>Manual</title>{pages}")
    (tmp_path / "zip.md").write_text("# The zip\n\nIt packs.\n\nIt unpacks.\n\nStable.\n")
    documents = read_documents(tmp_path)
    assert [document.group for document in documents] == ["files.md", "streams.md", "zip.md"]
    assert documents.passed_over == {"files that mostly repeat others": 3}
