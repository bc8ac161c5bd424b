"""The tree: which modules import which, how many each imports, and how long functions are."""

import ast
import re

import pytest

from ..support.source import (
    MODULES,
    ROOT,
    SOURCES,
    files,
    imports,
    module_of,
    nodes,
    root_of,
    short,
)

NO_SOURCE = {"attacks", "clients", "faults", "hostile", "project", "support"}
"""The folders of tests that are about no one folder of the source."""

MOST_IMPORTS = 20
WIDE = {
    "cli/app.py": "has the flags of every command, each of which imports its own part",
    "training/pretraining.py": "joins data, encoder, recipe, loop and checkpoint into a run",
}
"""The modules that import more of ours than that, each with its reason."""

MOST_LINES = 50
MOST_LONG = 0.01
"""The share of functions that may have more lines than that, overall and in each root folder."""


def test_no_test_imports_a_test() -> None:
    assert not [
        f"{short(path)} imports {name}"
        for path in files("tests")
        for _, name in imports(path)
        if name.startswith("tests.") and ".test_" in name
    ]


def test_nothing_outside_the_tests_imports_them() -> None:
    assert not [
        f"{short(path)} imports {name}"
        for path in files(*SOURCES, "protos", "benchmarks", "examples")
        for _, name in imports(path)
        if name.split(".")[0] == "tests"
    ]


def test_no_path_of_imports_is_changed() -> None:
    changed = re.compile(r"\bsys\.path\.(append|insert|extend)\(")
    assert not [
        short(path)
        for path in files(*SOURCES, "protos", "benchmarks", "examples", "tests")
        if changed.search(path.read_text("utf-8"))
    ]


def test_folders_of_tests_mirror_folders_of_the_source() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("*.py")}
    assert not [
        f"tests/{folder}"
        for folder in sorted(folders)
        if folder.parts
        if folder.parts[0] not in NO_SOURCE
        if not (ROOT / folder).is_dir()
    ]


@pytest.mark.parametrize("root", SOURCES)
def test_inside_a_root_folder_imports_are_relative(root: str) -> None:
    assert not [
        f"{short(path)} imports {name}"
        for path in files(root)
        for dots, name in imports(path)
        if not dots
        if (module := module_of(name))
        if root_of(module) == root
    ]


@pytest.mark.parametrize("root", SOURCES)
def test_across_root_folders_imports_are_absolute(root: str) -> None:
    assert not [
        f"{short(path)} imports {name}"
        for path in files(root)
        for dots, name in imports(path)
        if dots
        if root_of(module_of(name)) != root
    ]


def folder_of(module: str) -> str:
    """Give the folder below a root that a module lies in, or the root itself."""
    path = MODULES[module].relative_to(ROOT)
    return path.parts[1] if len(path.parts) > 2 else ""


@pytest.mark.parametrize("root", SOURCES)
def test_no_folders_import_in_a_circle(root: str) -> None:
    below: dict[str, set[str]] = {}
    for path in files(root):
        own = path.relative_to(ROOT / root)
        for _, name in imports(path):
            module = module_of(name)
            if len(own.parts) > 1 and module and root_of(module) == root and folder_of(module):
                below.setdefault(own.parts[0], set()).add(folder_of(module))
    while below:
        leaves = {folder for folder, used in below.items() if not (used - {folder}) & below.keys()}
        assert leaves, f"a circle among {sorted(below)}: {below}"
        below = {folder: used for folder, used in below.items() if folder not in leaves}


def test_few_modules_import_many_and_each_has_a_reason() -> None:
    counts = {
        short(path): len({module_of(name) for _, name in imports(path)} - {"", "attar"})
        for path in files(*SOURCES)
    }
    assert {name: count for name, count in counts.items() if count > MOST_IMPORTS}.keys() == (
        WIDE.keys()
    )


def lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Count a function's lines with its docstring, its decorators left out."""
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


@pytest.mark.parametrize("folders", [SOURCES, *((root,) for root in SOURCES)], ids="-".join)
def test_few_functions_are_long(folders: tuple[str, ...]) -> None:
    lengths = [
        (lines(node), f"{short(path)}:{node.name}")
        for path in files(*folders)
        for node in nodes(path)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = sorted(row for row in lengths if row[0] > MOST_LINES)
    assert len(long) < MOST_LONG * len(lengths), long
