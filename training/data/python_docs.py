"""Docstrings of a Python source, read by `ast`: nothing is imported or run."""

import ast
import warnings
from collections.abc import Iterable, Iterator

LONGEST_NAME = 255  # characters; each name inside a class repeats that of the class


def docstrings(tree: ast.Module, module: str) -> Iterator[tuple[str, str]]:
    """Give the qualified name and the docstring of each public class and function of a module."""
    return _docstrings(tree.body, module)


def parse(text: str) -> ast.Module:
    """Parse a source; what is no Python of this version gives a module without statements."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # others' invalid escapes are not ours to report
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module(body=[], type_ignores=[])  # a template, or a file for another Python


def _docstrings(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_") or len(node.name) > LONGEST_NAME:
                continue  # private and special methods repeat boilerplate
            name = f"{prefix}.{node.name}"
            if docstring := ast.get_docstring(node):
                yield name, docstring
            yield from _docstrings(node.body, name)
