"""Licences that are on every machine: paragraphs of those that the installed packages carry.

They are prose of one kind that is no documentation, to be found among it. Nothing is downloaded.
"""

import re
from collections.abc import Iterator
from importlib.metadata import Distribution, distributions

NAME = re.compile(r"licen[cs]e|copying", re.IGNORECASE)
SUFFIXES = ("", ".txt", ".md")
PER_FILE = 8  # paragraphs, so that no licence outweighs the others
LEAST_WORDS = 12  # of a paragraph: fewer is a heading or a line of copyright


def read(count: int) -> tuple[str, ...]:
    """Give at most `count` different paragraphs, in the order of the packages' names."""
    packages = sorted(distributions(), key=lambda package: str(package.metadata["Name"]).lower())
    paragraphs = (text for package in packages for text in _paragraphs(package))
    return tuple(dict.fromkeys(paragraphs))[:count]


def _paragraphs(package: Distribution) -> Iterator[str]:
    for file in package.files or ():
        if not NAME.search(file.name) or file.suffix not in SUFFIXES:
            continue
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # it was removed, or is of another encoding
        blocks = [block.split() for block in re.split(r"\n\s*\n", text)]
        yield from (" ".join(words) for words in blocks[:PER_FILE] if len(words) >= LEAST_WORDS)
