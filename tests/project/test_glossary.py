"""Names are the field's: the words that docs/glossary.md retires stand in no name of ours."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "glossary.md").read_text("utf-8")
FOLDERS = ("cli", "client", "device", "export", "server", "training")


def retired() -> set[str]:
    """The words in the first column of the page's last table."""
    rows = PAGE[PAGE.index("| not | but |") :].splitlines()[2:]
    return {word for row in rows for word in re.findall(r"\w+", row.split("|")[1])}


def names(path: Path) -> Iterator[tuple[int, str]]:
    """Give the names that a module defines, with their lines: classes, functions, arguments."""
    yield 0, path.stem
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef):
            yield node.lineno, node.name
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.lineno, node.name
            for argument in (*node.args.args, *node.args.kwonlyargs):
                yield argument.lineno, argument.arg


THEIRS = {"NotFound", "connection_made", "max_answer_bytes"}
"""Names of the protocols, of asyncio, and of a setting that users have in their files."""


def words(name: str) -> set[str]:
    """The words of a name, each in lower case."""
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_name_is_a_retired_word(folder: str) -> None:
    strays = [
        f"{path.relative_to(ROOT)}:{line} {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for line, name in names(path)
        if not name.startswith("_") and name not in THEIRS and words(name) & retired()
    ]

    assert retired() >= {"asked", "told", "shelf"}
    assert not strays
