"""The documentation that is already on this machine, as pairs of views: a summary line and its body.

Every Python environment carries several thousand documented functions.  Their docstrings are read from
source with `ast`, so nothing is imported or run, and each gives two views of one meaning: the summary
line and the rest.  A summary must retrieve its own body, which is a retrieval task with ground truth
and without labels.
"""

import ast
import hashlib
import importlib.util
import re
import sysconfig
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.errors import InvalidInput

PACKAGES = ("numpy", "scipy", "sklearn", "torch", "stdlib")
SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "testing", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__"}
)
SUMMARY_CHARACTERS = (16, 240)  # shorter says nothing, longer is a paragraph and no summary line
BODY_CHARACTERS = 80
LINES_PER_FILE = 4
SIGNATURE = re.compile(r"^[\w.]+\s*\(.*\)\s*(->.*)?\.?$")  # "dot(a, b, out=None)", "f(x) -> y"


@dataclass(frozen=True, slots=True)
class Pair:
    """One documented object: where it stands, its package, its summary line, the rest of its docstring."""

    name: str
    package: str
    summary: str
    body: str


@dataclass(frozen=True, slots=True)
class Split:
    """The pairs to train on and those held out, whose summaries no training may see."""

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]


def read(packages: Sequence[str] = PACKAGES) -> tuple[Pair, ...]:
    """Collect the pairs of `packages`, sorted by name; no name, summary or body occurs twice.

    A repeated summary has more than one right answer and a repeated body more than one right place,
    so only the first by name is kept.  Raises `InvalidInput` when a package is not installed.
    """
    pairs = sorted(
        (pair for package in packages for pair in _package_pairs(package)), key=lambda pair: pair.name
    )
    kept: list[Pair] = []
    seen: set[str] = set()
    for pair in pairs:
        if seen & {pair.name, pair.summary, pair.body}:
            continue
        seen |= {pair.name, pair.summary, pair.body}
        kept.append(pair)
    return tuple(kept)


def split(pairs: Sequence[Pair], *, held_out: int = 800, seed: int = 0) -> Split:
    """Hold out the `held_out` pairs whose names hash lowest under `seed`.

    A pair's place depends on its own name alone, so a package more or less in the environment moves
    only pairs at the boundary.
    """
    if not 0 < held_out < len(pairs):
        raise InvalidInput(f"held_out must lie between 1 and {len(pairs) - 1}, the pairs less one; got {held_out}")
    chosen = {pair.name for pair in sorted(pairs, key=lambda pair: _hash(seed, pair.name))[:held_out]}
    return Split(
        train=tuple(pair for pair in pairs if pair.name not in chosen),
        held_out=tuple(pair for pair in pairs if pair.name in chosen),
    )


def code_lines(count: int, *, seed: int = 0, packages: Sequence[str] = PACKAGES) -> tuple[str, ...]:
    """Pick `count` distinct lines of source code from the same packages: text, but no documentation."""
    lines: dict[str, None] = {}  # a set that keeps its order
    files = [path for package in packages for path in _sources(package)]
    for path in sorted(files, key=lambda path: _hash(seed, "/".join(path.parts[-3:]))):
        lines.update(dict.fromkeys(sorted(_statements(path), key=lambda line: _hash(seed, line))[:LINES_PER_FILE]))
        if len(lines) >= count:
            return tuple(lines)[:count]
    raise InvalidInput(f"{count} lines of code were asked for and {len(lines)} found; ask for fewer")


def summary_and_body(docstring: str) -> tuple[str, str] | None:
    """Part a docstring at its first blank line, white space folded; None when either part is missing."""
    head, _, tail = docstring.strip().partition("\n\n")
    summary, body = " ".join(head.split()), " ".join(tail.split())
    shortest, longest = SUMMARY_CHARACTERS
    if not shortest <= len(summary) <= longest or len(body) < BODY_CHARACTERS or SIGNATURE.match(summary):
        return None
    return summary, body


def _package_pairs(package: str) -> Iterator[Pair]:
    for path in _sources(package):
        for name, docstring in _docstrings(_parse(path).body, _module_name(package, path)):
            if parts := summary_and_body(docstring):
                yield Pair(name=name, package=package, summary=parts[0], body=parts[1])


def _parse(path: Path) -> ast.Module:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # somebody else's invalid escapes are not ours to report
            return ast.parse(path.read_text("utf-8", errors="replace"))
    except (SyntaxError, ValueError):
        return ast.Module(body=[], type_ignores=[])  # a template, or a file for another Python


def _statements(path: Path) -> Iterator[str]:
    lines = path.read_text("utf-8", errors="replace").splitlines()
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Assign | ast.Return | ast.If | ast.For | ast.Raise | ast.With):
            line = lines[node.lineno - 1].strip()
            if len(line) >= SUMMARY_CHARACTERS[0]:
                yield line


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()


def _docstrings(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("_"):
                continue  # private and special methods repeat boilerplate
            name = f"{prefix}.{node.name}"
            if docstring := ast.get_docstring(node):
                yield name, docstring
            yield from _docstrings(node.body, name)


def _root(package: str) -> Path:
    if package == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise InvalidInput(f"package {package!r} is not installed; install it or leave it out of the list")
    return Path(spec.origin).parent


def _sources(package: str) -> Iterator[Path]:
    root = _root(package)
    for path in sorted(root.rglob("*.py")):
        folders = path.relative_to(root).parts[:-1]
        # Compiler and vendored internals live in private folders; numpy's _core is its public face.
        if not any(folder in SKIPPED_FOLDERS or folder.startswith("_") and folder != "_core" for folder in folders):
            yield path


def _module_name(package: str, path: Path) -> str:
    parts = path.relative_to(_root(package)).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))
