"""A public function says what each of its arguments is, and what it raises."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support.source import ROOT

DOORS = (
    "device/__init__.py",
    "client/calls.py",
    "client/methods.py",
    "training/__init__.py",
    "training/recipes/__init__.py",
    "export/__init__.py",
)
"""The modules that public names are imported from."""

SHARED = ast.get_docstring(ast.parse((ROOT / "client" / "calls.py").read_text("utf-8"))) or ""
"""What a call's arguments and errors mean, where all calls have them."""

RAISES = re.compile(r"\b[Rr]aises?\b|\b[A-Z]\w+: |\b(NotFound|AlreadyExists|InvalidInput)\b")


def source_of(door: str, node: ast.ImportFrom) -> Path:
    """Give the file that a relative import in a front door names."""
    folder = (ROOT / door).parents[node.level - 1]
    return folder / f"{(node.module or '').replace('.', '/')}.py"


def functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Give the functions of the front doors, and the methods of their classes."""
    public = {
        (source_of(door, node), alias.name)
        for door in DOORS
        for node in ast.walk(ast.parse((ROOT / door).read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and node.level and node.module
        for alias in node.names
    }
    for path, name in sorted(public):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name == name:
                yield f"{path.relative_to(ROOT).as_posix()}:{name}", node
            elif isinstance(node, ast.ClassDef) and node.name == name:
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and not method.name.startswith("_"):
                        yield f"{path.relative_to(ROOT).as_posix()}:{name}.{method.name}", method


def arguments(function: ast.FunctionDef) -> list[str]:
    """Give the names of a function's arguments."""
    given = (*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs)
    return [argument.arg for argument in given if argument.arg not in ("self", "cls")]


@pytest.mark.parametrize(("name", "function"), [pytest.param(*f, id=f[0]) for f in functions()])
def test_a_public_function_describes_its_arguments_and_errors(
    name: str, function: ast.FunctionDef
) -> None:
    docstring = ast.get_docstring(function) or ""
    if name.startswith("client/"):
        docstring += SHARED
    names = arguments(function)
    assert not [argument for argument in names if not re.search(rf"\b{argument}\b", docstring)]
    assert not names or RAISES.search(docstring)
