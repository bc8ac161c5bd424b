"""The documentation already on this machine as pairs of views: a summary line and its body.

Every Python environment carries several thousand documented functions. Their docstrings are read
from source with `ast`, so nothing is imported or run, and each gives two views of one meaning: the
summary line and the rest. A summary must retrieve its own body, which is a retrieval task with
ground truth and without labels.
"""

import ast
import hashlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator, Sequence
from pathlib import Path

from attar.errors import InvalidInput

from ..data.documents import Document
from ..data.pairs import Pair, by_hash
from ..data.python_docs import docstrings, parse

PACKAGES = ("numpy", "scipy", "sklearn", "torch", "stdlib")
SKIPPED_FOLDERS = frozenset(
    ("tests", "test", "testing", "site-packages", "dist-packages", "idlelib", "lib2to3")
)
SUMMARY_CHARACTERS = (16, 240)  # shorter says nothing, longer is a paragraph and no summary line
BODY_CHARACTERS = 80
LINES_PER_FILE = 4
SIGNATURE = re.compile(r"^[\w.]+\s*\(.*\)\s*(->.*)?\.?$")  # "dot(a, b, out=None)", "f(x) -> y"


def read(
    packages: Sequence[str] = PACKAGES, *, per_package: int | None = None, seed: int = 0
) -> tuple[Pair, ...]:
    """Collect the pairs of `packages`, sorted by name; no name, summary or body occurs twice.

    "stdlib" is the standard library; the others are names to import. A repeated summary has more
    than one right answer and a repeated body more than one right place, so only the first by name
    is kept. `per_package` keeps at most that many of each package, drawn by a hash of their names
    under `seed`, so that no package outweighs the others.

    Raises InvalidInput when a package is not installed.
    """
    unique = [pair for pair, _ in _unique(packages)]
    if per_package is None:
        return tuple(unique)
    drawn = (
        pair
        for package in packages
        for pair in by_hash([pair for pair in unique if pair.package == package], seed)[
            :per_package
        ]
    )
    return tuple(sorted(drawn, key=lambda pair: pair.name))


def documents(packages: Sequence[str] = PACKAGES) -> tuple[Document, ...]:
    """Give the same as documents: the summary is the title, and the module the group.

    Raises InvalidInput when a package is not installed.
    """
    return tuple(
        Document(name=pair.name, group=module, title=pair.summary, text=pair.body)
        for pair, module in _unique(packages)
    )


def code_lines(count: int, *, seed: int = 0, packages: Sequence[str] = PACKAGES) -> tuple[str, ...]:
    """Pick `count` distinct first lines of statements from the sources of `packages`.

    They are text from the same place that is no documentation: what an anomaly detector that has
    seen documentation should find strange. Few are from one file, and `seed` picks the files.
    Raises InvalidInput when a package is not installed or there are not enough lines.
    """
    lines: dict[str, None] = {}  # a set that keeps its order
    files = (path for package in packages for path in _sources(package))
    for path in sorted(files, key=lambda path: _hash(seed, "/".join(path.parts[-3:]))):
        statements = sorted(set(_statements(path)), key=lambda line: _hash(seed, line))
        lines.update(dict.fromkeys(statements[:LINES_PER_FILE]))
        if len(lines) >= count:
            return tuple(lines)[:count]
    raise InvalidInput(
        f"{count} lines of code were requested and {len(lines)} found; request fewer"
    )


def summary_and_body(docstring: str) -> tuple[str, str] | None:
    """Part a docstring at its first blank line and fold white space.

    None when either part is too short to mean something, the summary is a paragraph, or it is a
    signature, as functions written in C have.
    """
    head, _, tail = docstring.strip().partition("\n\n")
    summary, body = " ".join(head.split()), " ".join(tail.split())
    shortest, longest = SUMMARY_CHARACTERS
    if not shortest <= len(summary) <= longest or len(body) < BODY_CHARACTERS:
        return None
    return None if SIGNATURE.match(summary) else (summary, body)


def _unique(packages: Sequence[str]) -> Iterator[tuple[Pair, str]]:
    """Give the pairs of packages and the module of each, by name; no text occurs twice."""
    pairs = (pair for package in packages for pair in _package_pairs(package))
    seen: set[str] = set()
    for pair, module in sorted(pairs, key=lambda item: item[0].name):
        texts = {pair.name, pair.summary, pair.body}
        if not seen & texts:
            seen |= texts
            yield pair, module


def _package_pairs(package: str) -> Iterator[tuple[Pair, str]]:
    root = _root(package)
    for path in _sources(package):
        parts = path.relative_to(root).with_suffix("").parts
        module = ".".join((package, *(part for part in parts if part != "__init__")))
        for name, docstring in docstrings(parse(_text(path)), module):
            if halves := summary_and_body(docstring):
                yield Pair(name, package, summary=halves[0], body=halves[1]), module


def _statements(path: Path) -> Iterator[str]:
    text = _text(path)
    lines = text.split("\n")  # as ast counts them; splitlines would also part at form feeds
    for node in ast.walk(parse(text)):
        if isinstance(node, ast.Assign | ast.Return | ast.If | ast.For | ast.Raise | ast.With):
            line = lines[node.lineno - 1].strip()
            if len(line) >= SUMMARY_CHARACTERS[0]:
                yield line


def _text(path: Path) -> str:
    return path.read_text("utf-8", errors="replace")


def _sources(package: str) -> Iterator[Path]:
    root = _root(package)
    for path in sorted(root.rglob("*.py")):
        if all(_public(folder) for folder in path.relative_to(root).parts[:-1]):
            yield path


def _public(folder: str) -> bool:
    # Private folders hold compilers and vendored code; numpy's _core is its public face.
    return folder == "_core" or not (folder.startswith("_") or folder in SKIPPED_FOLDERS)


def _root(package: str) -> Path:
    if package == "stdlib":
        return Path(sysconfig.get_paths()["stdlib"])
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InvalidInput(
            f"there is no package {package!r} here; install it or leave it out of the list"
        )
    return Path(spec.submodule_search_locations[0])


def _hash(seed: int, text: str) -> bytes:
    return hashlib.sha256(f"{seed}:{text}".encode()).digest()
