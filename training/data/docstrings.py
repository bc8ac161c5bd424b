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
    """Collect the pairs of `packages`, sorted by name; no summary and no body occurs twice.

    A repeated summary has more than one right answer and a repeated body more than one right place,
    so only the first by name is kept.  Raises `InvalidInput` when a package is not installed.
    """
    pairs = sorted(
        (pair for package in packages for pair in _package_pairs(package)), key=lambda pair: pair.name
    )
    kept: list[Pair] = []
    seen: set[str] = set()
    for pair in pairs:
        if pair.summary in seen or pair.body in seen:
            continue
        seen |= {pair.summary, pair.body}
        kept.append(pair)
    return tuple(kept)


def split(pairs: Sequence[Pair], *, held_out: int = 800, seed: int = 0) -> Split:
    """Hold out the `held_out` pairs whose names hash lowest under `seed`.

    A pair's place depends on its own name alone, so a package more or less in the environment moves
    only pairs at the boundary.
    """
    if not 0 < held_out < len(pairs):
        raise InvalidInput(f"held_out must lie between 1 and {len(pairs) - 1}, the pairs less one; got {held_out}")
    order = sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}:{pair.name}".encode()).digest())
    by_name = {"key": lambda pair: pair.name}
    return Split(train=tuple(sorted(order[held_out:], **by_name)), held_out=tuple(sorted(order[:held_out], **by_name)))


def code_lines(count: int, *, seed: int = 0, packages: Sequence[str] = PACKAGES) -> tuple[str, ...]:
    """Pick `count` distinct lines of source code from the same packages: text, but no documentation."""
    lines: dict[bytes, str] = {}
    for package in packages:
        for path in _sources(package):
            for line in path.read_text("utf-8", errors="replace").splitlines():
                code = line.strip()
                if len(code) >= SUMMARY_CHARACTERS[0] and CODE.search(code):
                    lines[hashlib.sha256(f"{seed}:{code}".encode()).digest()] = code
    if count > len(lines):
        raise InvalidInput(f"{count} lines of code were asked for and {len(lines)} found; ask for fewer")
    return tuple(code for _, code in sorted(lines.items())[:count])


CODE = re.compile(r"^(return|if|for|while|assert|raise|with|def|self\.\w+|[\w.\[\], ]+) ?.*[=(\[:].*[)\]:\w]$")


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
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # somebody else's invalid escapes are not ours to report
                tree = ast.parse(path.read_text("utf-8", errors="replace"))
        except (SyntaxError, ValueError):
            continue  # templates and files for other versions of Python
        for name, docstring in _docstrings(tree.body, _module_name(package, path)):
            if parts := summary_and_body(docstring):
                yield Pair(name=name, package=package, summary=parts[0], body=parts[1])


def _docstrings(body: Iterable[ast.stmt], prefix: str) -> Iterator[tuple[str, str]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
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
        if SKIPPED_FOLDERS.isdisjoint(path.relative_to(root).parts):
            yield path


def _module_name(package: str, path: Path) -> str:
    parts = path.relative_to(_root(package)).with_suffix("").parts
    return ".".join((package, *(part for part in parts if part != "__init__")))
