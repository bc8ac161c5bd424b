"""Copies: files that say again what other files of a folder say, such as a page of each chapter."""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

COPIED: Final = 0.5  # the share of a file's words, in paragraphs that other files have
WORD: Final = re.compile(r"\w+")


def copies(files: Mapping[str, Sequence[str]]) -> frozenset[str]:
    """Give the names of files that mostly repeat others, by the texts of each.

    Documentation is often shipped as Markdown, as HTML and as one page of all. Then a held-out text
    would be in training under another name. Files are taken from the smallest on, and a file is a
    copy where paragraphs that earlier ones have hold half of its words. Paragraphs are between
    blank lines, and only their letters and digits are compared, so that markup makes no difference.
    """
    paragraphs = {name: [*_paragraphs(texts)] for name, texts in files.items()}
    sizes = {name: sum(words for _, words in own) for name, own in paragraphs.items()}
    seen: set[int] = set()
    found = set()
    for name in sorted(files, key=lambda name: (sizes[name], name)):
        repeated = sum(words for paragraph, words in paragraphs[name] if paragraph in seen)
        if repeated and repeated >= COPIED * sizes[name]:
            found.add(name)
        else:
            seen |= {paragraph for paragraph, _ in paragraphs[name]}
    return frozenset(found)


def _paragraphs(texts: Sequence[str]) -> Iterator[tuple[int, int]]:
    """Give a hash of the words of each paragraph, and how many they are."""
    for text in texts:
        for paragraph in text.casefold().split("\n\n"):
            words = tuple(WORD.findall(paragraph))
            yield hash(words), len(words)
