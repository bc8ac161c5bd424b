"""Sentences and passages of a text, as spans of its characters.

A passage is a run of whole sentences with at most so many words, so that an encoder reads it whole.
"""

import re
from collections.abc import Iterator

from attar.errors import InvalidInput

PASSAGE_WORDS = 100
"""Words of a passage, as Karpukhin et al. have them (2020, arXiv:2004.04906, section 4.1)."""

Span = tuple[int, int]  # the first character, and the one after the last

# A character of Chinese or Japanese counts as a word, and so do 32 characters without a blank.
CJK = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
WORD = re.compile(rf"[{CJK}]|[^\s{CJK}]{{1,32}}")
# Ends: a blank line; a full stop of Chinese or Japanese; a mark, closing quotes and a blank.
# Possessive, and from the first mark of a row: a row of a million dots is read once.
END = re.compile(r"\n[ \t\r]*+\n\s*+|[。！？][」』”’）]*+\s*+|(?<![.!?])[.!?]++[\"'”’)\]]*+\s++")
ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|al|fig|figs|eq|eqs|sec|no|vol|pp|ch|dr|mr|mrs|ms|prof|st|approx)"
    r"|\b[A-Za-z])\.$",
    re.IGNORECASE,
)
LOOK_BACK = 8  # characters before an end that may be an abbreviation


def sentence_spans(text: str) -> tuple[Span, ...]:
    """Split a text into sentences without the white space around them.

    A sentence ends at a blank line, and at ".", "!" or "?" before white space, unless an
    abbreviation ends there ("e.g.", "Fig.", an initial) or a small letter follows; after a blank
    and a full stop, as old corpora write them, any letter may follow. English and languages with
    the same marks are split well, others at blank lines alone.
    """
    spans, start = [], 0
    for match in END.finditer(text):
        if _ends(text, match):
            spans.append((start, match.end()))
            start = match.end()
    spans.append((start, len(text)))
    return tuple(filter(None, (_stripped(text, span) for span in spans)))


def _ends(text: str, match: re.Match[str]) -> bool:
    """Say whether a sentence ends where a mark was found."""
    mark = match[0]
    if mark[0] in "\n。！？" or "\n\n" in mark:
        return True
    at, after = match.start(), text[match.end() : match.end() + 1]
    if at and text[at - 1].isspace():
        return True  # "in a slipstream . an experimental study"
    if after.islower():
        return False
    return mark[0] != "." or not ABBREVIATION.search(text[max(0, at - LOOK_BACK) : at + 1])


def _stripped(text: str, span: Span) -> Span | None:
    """Leave out white space at both ends; None where there is nothing else."""
    start, end = span
    bare = text[start:end]
    if not bare.strip():
        return None
    return start + len(bare) - len(bare.lstrip()), end - (len(bare) - len(bare.rstrip()))


def word_count(text: str) -> int:
    """Count words; a character of Chinese or Japanese is one."""
    return sum(1 for _ in WORD.finditer(text))


def passage_spans(text: str, *, words: int = PASSAGE_WORDS, overlap: int = 0) -> tuple[Span, ...]:
    """Split a text into passages of whole sentences, each of at most `words` words.

    A sentence that is longer is cut between words. A passage begins with the last sentences of the
    one before, as many as have at most `overlap` words. Every word is in a passage, and with
    `overlap=0` in one alone.

    Raises InvalidInput unless 1 <= words and 0 <= overlap < words.
    """
    if words < 1 or not 0 <= overlap < words:
        raise InvalidInput(
            f"words must be at least 1 and overlap in [0, words); got {words} and {overlap}"
        )
    spans: list[Span] = []
    pending: list[tuple[Span, int]] = []  # pieces of the next passage, and the words of each
    for piece, count in _pieces(text, words):
        if sum(n for _, n in pending) + count > words:
            spans.append((pending[0][0][0], pending[-1][0][1]))
            while pending and (
                sum(n for _, n in pending) > overlap or sum(n for _, n in pending) + count > words
            ):
                pending.pop(0)
        pending.append((piece, count))
    if pending:
        spans.append((pending[0][0][0], pending[-1][0][1]))
    return tuple(spans)


def _pieces(text: str, words: int) -> Iterator[tuple[Span, int]]:
    """Give each sentence and its words; one of more than `words` in pieces of so many."""
    for start, end in sentence_spans(text):
        found = [match.span() for match in WORD.finditer(text, start, end)]
        for first in range(0, len(found), words):
            part = found[first : first + words]
            yield (part[0][0], part[-1][1]), len(part)


def passages(text: str, *, words: int = PASSAGE_WORDS, overlap: int = 0) -> tuple[str, ...]:
    """Give the texts of `passage_spans`, their white space folded."""
    spans = passage_spans(text, words=words, overlap=overlap)
    return tuple(" ".join(text[start:end].split()) for start, end in spans)


def sentences(text: str) -> tuple[str, ...]:
    """Give the texts of `sentence_spans`, their white space folded."""
    return tuple(" ".join(text[start:end].split()) for start, end in sentence_spans(text))
