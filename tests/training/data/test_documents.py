"""Documents are what a file or folder has, titled and grouped; the rest is refused by its name."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from attar.errors import AttarError
from attar.training.data.documents import Document, read_documents
from attar.training.data.pair_rules import title_and_body
from attar.training.datasets import docstrings


def test_a_folder_gives_sections_files_and_docstrings_by_file(tmp_path: Path) -> None:
    (tmp_path / "guide").mkdir()
    (tmp_path / "guide/start.md").write_text("# Start\nHello.\n## Install\nRun it.\n", "utf-8")
    (tmp_path / "notes.txt").write_text("One.\n\nTwo.\n", "utf-8")
    (tmp_path / "tool.py").write_text('"""Alone."""\ndef f():\n    """Do.\n\n    It does."""\n')
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
    documents = docstrings.documents(["scipy"])
    pairs = {(pair.name, pair.summary): pair.body for pair in docstrings.read(["scipy"])}
    assert {(d.name, d.title): d.text for d in documents} == pairs
    made = title_and_body(documents)
    assert len(made) > 0.99 * len(pairs)
    assert all(pair.name.startswith(pair.package + ".") for pair in made)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "a.txt has no text; pass a file or a folder with texts"),
        ("a.md", b"# Title\n", "a.md has no text"),
        ("a.html", b"<script>let x = 1</script><nav>Home</nav>", "a.html has no text"),
        ("a.py", b"x = 1\n", "a.py has no text"),
        ("a.jsonl", b"\n", "a.jsonl has no text"),
        ("a.md", b"\xff\xfeH\x00i\x00", "a.md is not UTF-8 (.*); save it as UTF-8"),
        ("a.html", b"caf\xe9", "a.html is not UTF-8"),
        ("a.txt", b"PK\x03\x04\x00\x00", "a.txt has a NUL at character 4.*save it so, or remove"),
        ("a.pdf", b"%PDF", "a.pdf has no documents that are read; pass a folder, or one of .txt"),
        ("a.jsonl", b'{"text": 5}', "a.jsonl, line 1: 'text' is 5; it must be a text"),
        ("a.jsonl", b'{"t": "x", "u": "y"}', "no column text or body; choose by --read column=N"),
        (
            "a.jsonl",
            b'{"name": "n", "text": "a"}\n{"name": "n", "text": "b"}',
            "a.jsonl, line 2: the name 'n' occurs twice",
        ),
    ],
)
def test_what_has_no_documents_is_refused_by_name(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(AttarError, match=message):
        read_documents(tmp_path / name)


def test_a_folder_names_the_file_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "good.md").write_text("Good.", "utf-8")
    (tmp_path / "bad.rst").write_bytes(b"caf\xe9")
    with pytest.raises(AttarError, match=r"bad\.rst is not UTF-8"):
        read_documents(tmp_path)


def test_columns_of_what_has_none_and_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AttarError, match="has no columns; leave it out"):
        read_documents(tmp_path, column="q")
    with pytest.raises(AttarError, match="there is no file or folder"):
        read_documents(tmp_path / "nowhere.md")
