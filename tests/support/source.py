"""The source as a test reads it: its files, its modules, and what each imports."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

SOURCES = ("device", "client", "training", "export", "server", "cli")
"""The root folders of the package; `device` is `attar` itself."""


def files(*folders: str) -> list[Path]:
    """Give the Python files that git knows or will know, without the generated ones."""
    return sorted(
        path
        for folder in folders
        for path in (ROOT / folder).rglob("*.py")
        if not path.stem.endswith(("_pb2", "_pb2_grpc")) and "rival_servers" not in path.parts
    )


def package(path: Path) -> tuple[str, ...]:
    """Give the package that a file lies in."""
    parts = path.relative_to(ROOT).parent.parts
    if parts[0] in SOURCES:
        return ("attar", *parts[parts[0] == "device" :])
    return parts


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    """Give the imports and functions of a module, wherever they stand in it."""
    kinds = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return tuple(node for node in ast.walk(tree) if isinstance(node, kinds))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Give the dots and the full name of each module or name that a module imports."""
    own = package(path)
    for node in nodes(path):
        if isinstance(node, ast.Import):
            yield from ((0, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = own[: len(own) - node.level + 1] if node.level else ()
            base = ".".join((*above, *filter(None, [node.module])))
            yield from ((node.level, f"{base}.{alias.name}") for alias in node.names)


def modules() -> dict[str, Path]:
    """Give every module of the package by its full name."""
    named = {}
    for path in files(*SOURCES):
        parts = package(path) if path.stem == "__init__" else (*package(path), path.stem)
        named[".".join(parts)] = path
    return named


def module_of(name: str) -> str:
    """Give the module that an imported name lies in, or nothing where it is not ours."""
    while name and name not in MODULES and name != "attar.v1":
        name = name.rpartition(".")[0]
    return name


MODULES = modules()


def root_of(module: str) -> str:
    """Give the root folder that a module of ours lies in."""
    parts = module.split(".")
    if parts[1:2] == ["v1"]:
        return "protos"
    return parts[1] if parts[1:] and parts[1] in SOURCES else "device"


def short(path: Path) -> str:
    """Give a path as it is written in this repository."""
    return path.relative_to(ROOT).as_posix()
