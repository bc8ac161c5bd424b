"""General text that is on every machine: prose from the descriptions of the installed packages.

Each Python package carries its README as metadata. Its paragraphs say what libraries of many kinds
are for. They serve to measure how much of what an encoder knew is left, and nothing is downloaded.
"""

import re
from collections.abc import Iterator
from functools import cache
from importlib.metadata import Distribution, distributions

WORDS = (8, 60)  # of a paragraph: fewer is a heading, more a list or a licence
PER_PACKAGE = 8  # paragraphs, so that no package outweighs the others
PROSE = 0.9  # share of words without mark-up
WORD = re.compile(r"^[(\"'`*]*[A-Za-z][A-Za-z'-]*[`*)\"'.,:;!?]*$")


def read(count: int) -> tuple[str, ...]:
    """Give at most `count` different paragraphs, the first ones of each package in turn."""
    unique: dict[str, None] = {}
    for index in range(PER_PACKAGE):
        for own in _by_package():
            unique.update(dict.fromkeys(own[index : index + 1]))
    return tuple(unique)[:count]


@cache  # it parses the metadata of every package, which is megabytes
def _by_package() -> tuple[tuple[str, ...], ...]:
    """Give the paragraphs of each installed package, by its name."""
    named = {_name(package): package for package in distributions()}
    return tuple(tuple(_paragraphs(named[name])) for name in sorted(named))


def _name(package: Distribution) -> str:
    return str(package.metadata["Name"]).lower()


def _paragraphs(package: Distribution) -> Iterator[str]:
    """Give the paragraphs of a description that are prose."""
    metadata = package.metadata
    text = metadata.get("Description") or metadata.get_payload()  # type: ignore[attr-defined]  # a Message
    for block in re.split(r"\n\s*\n", str(text or "")):
        words = block.split()
        plain = sum(bool(WORD.match(word)) for word in words)
        if WORDS[0] <= len(words) <= WORDS[1] and plain >= PROSE * len(words):
            yield " ".join(words)
