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
from pathlib import Path

from attar.errors import InvalidInput

from .pairs import Pair, by_hash

PACKAGES = ("numpy", "scipy", "sklearn", "torch", "stdlib")
SKIPPED_FOLDERS = frozenset(
    {"tests", "test", "testing", "site-packages", "dist-packages", "idlelib", "lib2to3", "__pycache__"}
)
SUMMARY_CHARACTERS = (16, 240)  # shorter says nothing, longer is a paragraph and no summary line
BODY_CHARACTERS = 80
LINES_PER_FILE = 4
SIGNATURE = re.compile(r"^[\w.]+\s*\(.*\)\s*(->.*)?\.?$")  # "dot(a, b, out=None)", "f(x) -> y"


def read(
    packages: Sequence[str] = PACKAGES, *, per_package: int | None = None, seed: int = 0
) -> tuple[Pair, ...]:
    """Collect the pairs of `packages`, sorted by name; no name, summary or body occurs twice.

    A repeated summary has more than one right answer and a repeated body more than one right place,
    so only the first by name is kept.  `per_package` keeps at most that many of each package, drawn by
    a hash of their names under `seed`, so that no package outweighs the others.  Raises InvalidInput
    when a package is not installed.
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
    if per_package is None:
        return tuple(kept)
    drawn = (
        pair
        for package in packages
        for pair in by_hash([pair for pair in kept if pair.package == package], seed)[:per_package]
    )
    return tuple(sorted(drawn, key=lambda pair: pair.name))


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
