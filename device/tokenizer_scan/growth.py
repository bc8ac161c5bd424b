"""Growth: how much a tokenizer may make of a text, by what its parts say of themselves.

A tokenizer.json is a program. One that doubles a text 24 times, or puts a megabyte in the place of
a letter, takes all memory for a short text, and Rust then ends the process. So what
its steps may multiply a text by is bounded before it is given one.
"""

import json
import re
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from tokenizers import Tokenizer

MAX_GROWTH: Final = 256
"""Times that a text's bytes may become: T5's steps say 132, of which no text makes a tenth."""

MAX_STEPS: Final = 64
"""In one part of a tokenizer."""

MAX_WORD: Final = 200
"""Characters of a word that WordPiece may try to divide: its work grows with their cube."""

_FORMS: Final = ("NFC", "NFD", "NFKC", "NFKD")
"""Unicode's normal forms: what has one grows in another no more."""

_FORM_BYTES: Final = 48
"""Of the longest string that SentencePiece's own map to such a form writes; NFKC has 33."""

_FACTORS: Final = {"form": 11, "BertNormalizer": 6, "Lowercase": 2, "ByteLevel": 2, "Metaspace": 4}
"""What a step multiplies the bytes of a text in UTF-8 by, at most; the others by 1."""

_ONCE: Final = ("form", "BertNormalizer", "Lowercase")
"""To which a second one adds nothing."""

_BELOW: Final = ("normalizers", "pretokenizers", "processors", "decoders")
_SEES_NOTHING: Final = re.compile(r"\(\?[=!<]|\\[bBAzZG]|[\^$]")
"""In a pattern: what may match where there is no character."""


def check_growth(tokenizer: Tokenizer) -> None:
    """Refuse, by a ValueError, a tokenizer that may make far more of a text than it is."""
    growth = _total(tokenizer.normalizer, tokenizer.pre_tokenizer)
    if growth > MAX_GROWTH:
        raise ValueError(f"its steps may make {growth} times of a text; limit {MAX_GROWTH}")
    spelled = _product(
        (step, _replaced(step) if step["type"] == "Replace" else 1)
        for step in _steps(tokenizer.decoder)
    )
    if spelled > MAX_GROWTH:
        raise ValueError(f"its decoder may make {spelled} times of tokens; limit {MAX_GROWTH}")
    for step in _steps(tokenizer.post_processor):
        if step["type"] == "TemplateProcessing":
            _check_template(step["single"])
    longest = getattr(tokenizer.model, "max_input_chars_per_word", 0)
    if longest > MAX_WORD:
        raise ValueError(f"it divides words of {longest} characters; limit {MAX_WORD}")
    if getattr(tokenizer.model, "dropout", None):
        raise ValueError("it drops merges at random, so that a text has no one embedding")


def _total(*parts: Any) -> int:
    """Give the most that all steps together multiply a text's bytes by."""
    return _product(_factors(step for part in parts for step in _steps(part)))


def _factors(steps: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], int]]:
    """Give each step with its factor, which some have only once."""
    seen: set[str] = set()
    for step in steps:
        kind, factor = step["type"], _factor(step)
        if kind in _FORMS or (kind == "Precompiled" and kind not in seen and factor <= _FORM_BYTES):
            seen.add(kind)
            kind, factor = "form", _FACTORS["form"]
        yield step, 1 if kind in seen and kind in _ONCE else factor
        seen.add(kind)


def _product(factors: Iterable[tuple[Mapping[str, Any], int]]) -> int:
    """Multiply steps' factors, those of a table of replacements only once.

    Literal replacements in a row take each byte of a text once, where none writes a character that
    a later one takes: then the greatest of their factors bounds them all.
    """
    product = greatest = 1
    written: set[str] | None = set()  # by the table; None: anything may have been
    for step, factor in factors:
        literal = step["pattern"].get("String") if step["type"] == "Replace" else None
        if literal and written is not None and written.isdisjoint(literal):
            greatest = max(greatest, factor)
        else:
            product, greatest = product * greatest, factor
            written = set() if literal else None
        if written is not None:
            written.update(step["content"])
    return product * greatest


def _steps(part: Any) -> Iterator[Mapping[str, Any]]:
    """Walk the steps of a part; those below a sequence in their order."""
    if part is None:
        return
    todo, count = [json.loads(part.__getstate__())], 0
    while todo:
        step = todo.pop()
        count += 1
        if count > MAX_STEPS:
            raise ValueError(f"it has more than {MAX_STEPS} steps in one of its parts")
        below = [one for key in _BELOW for one in step.get(key, ())]
        todo += reversed(below)
        if not below:
            yield step


def _factor(step: Mapping[str, Any]) -> int:
    """Give the most that a step multiplies a text's bytes by."""
    match step["type"]:
        case "Replace":
            return _replaced(step)
        case "Prepend":
            return 1 + len(step["prepend"].encode())
        case "Precompiled":
            return _longest(b64decode(step["precompiled_charsmap"]))
        case kind:
            return _FACTORS.get(kind, 1)


def _replaced(step: Mapping[str, Any]) -> int:
    """Give the most that a replacement multiplies by: what it writes, for the least it takes."""
    written = len(step["content"].encode())
    ((kind, pattern),) = step["pattern"].items()
    least = len(pattern.encode()) if kind == "String" else int(not _may_be_empty(pattern))
    return max(1, -(-written // least) if least else 1 + written)


def _may_be_empty(pattern: str) -> bool:
    if _SEES_NOTHING.search(pattern):
        return True
    try:
        return re.search(pattern, "") is not None
    except (re.error, RecursionError):
        return True


def _longest(charsmap: bytes) -> int:
    """Give the longest string that a map of SentencePiece writes: they follow its trie."""
    size = int.from_bytes(charsmap[:4], "little")
    return max(map(len, charsmap[4 + size :].split(b"\0")), default=0)


def _check_template(pieces: list[Mapping[str, Any]]) -> None:
    """Refuse a template that repeats the text, which makes it longer than it was cut to."""
    texts = [piece["Sequence"]["id"] for piece in pieces if "Sequence" in piece]
    if texts != ["A"]:
        raise ValueError(f"its template has the text {len(texts)} times; once is what fits a model")
