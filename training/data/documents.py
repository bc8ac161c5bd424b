"""Documents: titled texts, with the group that each is held out with, from a file or a folder."""

import ast
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from attar.errors import InvalidInput, NotFound

from .columns import read_table
from .copies import copies
from .corpus import (
    JSON_LINES,
    LINES,
    document_text,
    file_text,
    parquet_columns,
    refuse_parts,
    refuse_special,
    shown,
)
from .folder import TABLES, exists, suffix_of, text_files
from .markup import Section, markdown, page, rst
from .pairs import line_objects, valid_text
from .python_docs import docstrings, parse

MARKUP: Mapping[str, Callable[[str], tuple[Section, ...]]] = {
    **dict.fromkeys((".md", ".markdown"), markdown),
    ".rst": rst,
    **dict.fromkeys((".html", ".htm", ".xhtml"), page),
}
PYTHON = ".py"
FILES = (*LINES, *MARKUP, PYTHON)  # those of a folder
TEXT_FIELDS = ("text", "body")  # the columns of a table, or keys of an object, that are read
TITLE_FIELDS = ("title", "summary")
NO_TEXT = "files without text"
SOURCE_BYTES = 2**20  # of a module that is parsed: its tree takes hundreds of bytes for each
REPEATED = "files that mostly repeat others"
TOO_LARGE = f"Python files of more than {SOURCE_BYTES:,} bytes"


@dataclass(frozen=True, slots=True)
class Document:
    """One text with what it is called.

    `name` is unique among documents that were read together. Those of one `group` (a file, a
    module) are held out together. `title` may be "". Blank lines separate paragraphs of `text`.
    """

    name: str
    group: str
    title: str
    text: str


@dataclass(frozen=True, slots=True)
class Documents:
    """Documents in the order in which they were read, and what was passed over."""

    name: str
    documents: tuple[Document, ...]
    what: str  # a document is
    passed_over: Mapping[str, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Document]:
        return iter(self.documents)

    def __len__(self) -> int:
        return len(self.documents)

    def lines(self) -> Iterator[str]:
        """Give a line for each thing to know."""
        titles = sum(bool(document.title) for document in self.documents)
        groups = len({document.group for document in self.documents})
        yield f"{self.name}: {len(self):,} {self.what}; {titles:,} have a title; {groups:,} groups"
        if self.passed_over:
            counts = (f"{count:,} {what}" for what, count in self.passed_over.items())
            yield "passed over: " + ", ".join(counts)


def read_documents(path: Path, *, column: str | None = None) -> Documents:
    """Read a file or a folder of texts.

    | at `path` | a document is | its title | its group |
    |---|---|---|---|
    | a folder | as of each file below; a whole file for .txt | as below | the file |
    | .txt, .text | a line | none | itself |
    | .md, .rst, .html | a section | that of the file, and its heading | the file |
    | .py | the docstring of a public class or function, or of the module | its summary | the file |
    | .jsonl, .ndjson, .json | a line's object | `title` or `summary` | `group`, or itself |
    | .csv, .tsv, .parquet | a row | `title` or `summary` | `group`, or itself |

    The text of an object or a row is its `text` or `body`, or what `column` names. Texts that are
    blank, or occur before with the same title, are passed over and counted; of a folder also files
    that mostly repeat others (`copies`).

    Raises:
        NotFound: there is nothing at `path`, or no such column.
        InvalidInput: a file is damaged, is not UTF-8, is too large, or holds no text.
        MissingExtra: Parquet without the data extra.
    """
    suffix = suffix_of(path)
    if not exists(path):
        raise NotFound(f"there is no file or folder {path}")
    refuse_special(path)
    if column is not None and (path.is_dir() or suffix in FILES):
        raise InvalidInput(f"column is {column!r}, but {path} has no columns; leave it out")
    if path.is_dir():
        return _folder(path)
    if suffix in LINES:
        rows = enumerate(file_text(path).split("\n"), start=1)
        found = (_alone(f"{path.name}:{number}", line) for number, line in rows)
        return _documents(path, found, "lines", {})
    if _is_large_source(path):
        raise InvalidInput(f"{path} is one of the {TOO_LARGE}, which are not parsed; split it")
    if suffix in FILES:
        return _documents(path, _of_file(path, path.name), _unit(suffix), {})
    if suffix in JSON_LINES:
        objects, blank = line_objects(path)
        passed_over = {"blank lines": blank} if blank else {}
        return _of_rows(path, objects, column, "line", passed_over)
    if suffix in TABLES:
        table = read_table(path)
        return _of_rows(path, _rows(table.fields), column, "row", table.passed_over)
    if suffix == ".parquet":
        return _of_rows(path, _rows(parquet_columns(path)), column, "row", {})
    raise InvalidInput(
        f"{path} has no documents that are read; pass a folder, or one of "
        f"{', '.join((*FILES, *JSON_LINES, *TABLES, '.parquet'))}"
    )


def _folder(folder: Path) -> Documents:
    """Read every file of text below a folder."""
    paths, passed_over = text_files(folder, FILES)
    refuse_parts(folder, paths)
    left = Counter(passed_over)
    files: dict[str, list[Document]] = {}
    for path in paths:
        if _is_large_source(path):
            left[TOO_LARGE] += 1
            continue
        name = path.relative_to(folder).as_posix()
        files[name] = [each for each in _of_file(path, name) if each.text.strip()]
        left[NO_TEXT] += not files[name]
    repeated = copies({name: [each.text for each in found] for name, found in files.items()})
    left[REPEATED] += len(repeated)
    documents: list[Document] = []
    units: Counter[str] = Counter()
    for name, found in files.items():
        if name not in repeated:
            units[_unit(suffix_of(Path(name)))] += len(found)
            documents += found
    *first, last = [unit for unit, count in units.items() if count] or ["files"]
    what = f"{', '.join(first)} and {last}" if first else last
    return _documents(folder, documents, what, +left)


def _is_large_source(path: Path) -> bool:
    return suffix_of(path) == PYTHON and path.stat().st_size > SOURCE_BYTES


def _unit(suffix: str) -> str:
    """Say what a document of a file is."""
    return "docstrings" if suffix == PYTHON else "sections" if suffix in MARKUP else "files"


def _of_file(path: Path, name: str) -> Iterator[Document]:
    """Give the documents of a file of text, markup or Python, whose name is `name`."""
    suffix, text = suffix_of(path), document_text(path)
    if suffix == PYTHON:
        yield from _of_python(name, text)
    elif suffix in MARKUP:
        for number, section in enumerate(MARKUP[suffix](text), start=1):
            yield Document(f"{name}#{number}", name, section.title, section.text)
    else:
        yield Document(name, name, "", _paragraphs(text))


def _of_python(name: str, text: str) -> Iterator[Document]:
    """Give the docstrings of a module without code; the first paragraph is the title."""
    tree = parse(text)
    module = name.removesuffix(PYTHON).removesuffix("/__init__").replace("/", ".")
    own = ((module, doc) for doc in (ast.get_docstring(tree),) if doc)
    for qualified, docstring in (*own, *docstrings(tree, module)):
        prose = "\n\n".join(section.text for section in rst(docstring))
        title, _, body = prose.partition("\n\n")
        yield Document(qualified, name, title if body else "", body or title)


def _rows(table: Mapping[str, Sequence[str]]) -> dict[int, dict[str, object]]:
    columns = table.values()
    rows = enumerate(zip(*columns, strict=True))
    return {number: dict(zip(table, row, strict=True)) for number, row in rows}


def _of_rows(
    path: Path,
    rows: Mapping[int, Mapping[str, object]],
    column: str | None,
    unit: str,
    passed_over: Mapping[str, int],
) -> Documents:
    """Give a document a row; the first row says which fields there are."""
    names = list(rows[min(rows)]) if rows else []
    key = column or _first(names, TEXT_FIELDS) or (names[0] if len(names) == 1 else "")
    if rows and key not in names:
        what = f"no column {column!r}" if column else f"no column {' or '.join(TEXT_FIELDS)}"
        raise NotFound(f"{path} has {what}; choose by --read column=NAME, of {', '.join(names)}")
    title, group, name = (_first(names, keys) for keys in (TITLE_FIELDS, ("group",), ("name",)))
    documents = []
    for number, row in rows.items():
        where = f"{path}, {unit} {number}"
        own = _string(where, row, name) or f"{path.name}:{number}"
        heading = "" if title == key else " ".join(_string(where, row, title).split())
        text = _paragraphs(_string(where, row, key, required=True))
        documents.append(Document(own, _string(where, row, group) or own, heading, text))
    return _documents(path, documents, f"{key!r} of {unit}s", passed_over)


def _first(names: Iterable[str], keys: Sequence[str]) -> str:
    """Give the first of `keys` that is a name, in any case; "" where none is."""
    lower = {name.lower(): name for name in names}
    return next((lower[key] for key in keys if key in lower), "")


def _string(where: str, row: Mapping[str, object], key: str, *, required: bool = False) -> str:
    value = row.get(key)
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise InvalidInput(f"{where}: {key!r} is {shown(value)}; it must be a text")
    return valid_text(where, value)


def _alone(name: str, text: str) -> Document:
    return Document(name, name, "", text)


def _documents(
    path: Path, documents: Iterable[Document], what: str, passed_over: Mapping[str, int]
) -> Documents:
    """Pass over blank texts and repeated ones, and number names that occur before.

    Raises InvalidInput for a source without any text.
    """
    left = Counter(passed_over)
    unique: dict[tuple[str, str], Document] = {}
    for document in documents:
        key = (document.title, document.text.strip())
        if not key[1]:
            left["blank texts"] += 1
        elif key in unique:
            left["texts that occur before"] += 1
        else:
            unique[key] = document
    if not unique:
        raise InvalidInput(f"{path} has no text; pass a file or a folder with texts")
    return Documents(str(path), tuple(_named(unique.values())), what, dict(left))


def _named(documents: Iterable[Document]) -> Iterator[Document]:
    """Give each document a name of its own: a function may be defined twice, for two platforms."""
    seen: set[str] = set()
    repeats: Counter[str] = Counter()
    for document in documents:
        name = document.name
        while name in seen:
            repeats[document.name] += 1
            name = f"{document.name}#{repeats[document.name] + 1}"
        seen.add(name)
        yield replace(document, name=name)


def _paragraphs(text: str) -> str:
    """Fold white space, and put one blank line between paragraphs."""
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n[ \t\r]*\n", text))
    return "\n\n".join(filter(None, paragraphs))
