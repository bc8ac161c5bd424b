"""Tokenizer file: what is held to bounds in a tokenizer.json before the library reads it.

Reading is where it hurts: a piece of 200 kB ends the process when it is freed, one of 10 MB takes
3.4 GB, a map of characters that is cut asks for 4 GB, and a pattern whose groups call one another
never ends. Nothing in Python catches these.
"""

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from .patterns import check_pattern

MAX_PIECE: Final = 1024
"""Characters of a word or piece: SentencePiece's have 16, runs of blanks or signs some hundreds."""

MAX_VOCABULARY: Final = 1_000_000
MAX_MERGES: Final = 2_000_000
MAX_VOCABULARY_BYTES: Final = 2**24
MAX_PIECES_BYTES: Final = 2**22
"""Of Unigram's pieces, of each byte of which its trie makes some 340."""
MAX_ADDED_BYTES: Final = 10**6
MAX_AFFIX_BYTES: Final = 64
"""Of what is put before or after each part of a word."""
MAX_TEMPLATE: Final = 256
"""Parts of a template, and token ids of one of them."""

_TRIE_BYTES: Final = 1024  # of a trie that has a place for each first byte
_AFFIXES: Final = ("continuing_subword_prefix", "end_of_word_suffix")


def check_file(data: bytes) -> None:
    """Refuse, by a ValueError, a tokenizer.json that must not be read."""
    try:  # as floats: Python reads no whole number of thousands of digits
        document = json.loads(data.decode(), object_pairs_hook=_object, parse_int=float)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    if not isinstance(document, dict):
        return  # which the library does not read
    _check_added(_listed(document.get("added_tokens")))
    if isinstance(document.get("model"), dict):  # the library reads no model in another form
        _check_model(document["model"])
    _most(
        "parts or token ids in its template",
        max(map(len, _lists(document.get("post_processor"))), default=0),
        MAX_TEMPLATE,
    )


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make an object of JSON; each is checked here, wherever it stands."""
    made = dict(pairs)
    for key in ("precompiled_charsmap", "Regex"):
        for value in (value for name, value in pairs if name == key):
            if isinstance(value, str):
                (_check_map if key == "precompiled_charsmap" else check_pattern)(value)
    if len(made) < len(pairs):
        raise ValueError("it has a name twice in one object")
    return made


def _check_map(spelled: str) -> None:
    charsmap = b64decode(spelled)
    size = int.from_bytes(charsmap[:4], "little")
    if size % 4 or not _TRIE_BYTES <= size <= len(charsmap) - 4:
        raise ValueError(
            f"its map of characters has {len(charsmap)} bytes and says {size} of its trie"
        )


def _check_added(tokens: Sequence[Any]) -> None:
    contents = [token.get("content") for token in tokens if isinstance(token, dict)]
    _most("added tokens", len(contents), MAX_VOCABULARY)
    _most("bytes of added tokens", _bytes(contents), MAX_ADDED_BYTES)


def _check_model(model: Mapping[str, Any]) -> None:
    vocabulary = model.get("vocab")
    unigram = isinstance(vocabulary, list)
    words = [
        entry[0] if unigram and isinstance(entry, list) and entry else entry
        for entry in _listed(vocabulary)
    ]
    _most("words", len(words), MAX_VOCABULARY)
    _most("characters of a word", max(map(len, _texts(words)), default=0), MAX_PIECE)
    _most("bytes of words", _bytes(words), MAX_PIECES_BYTES if unigram else MAX_VOCABULARY_BYTES)
    _most("merges", len(_listed(model.get("merges"))), MAX_MERGES)
    for affix in _AFFIXES:
        _most(f"bytes of {affix}", _bytes([model.get(affix)]), MAX_AFFIX_BYTES)


def _lists(part: object) -> Iterator[list[Any]]:
    todo = [part]
    while todo:
        one = todo.pop()
        if isinstance(one, list):
            yield one
        if isinstance(one, dict | list):
            todo += one.values() if isinstance(one, dict) else one


def _listed(value: object) -> Sequence[Any]:
    return list(value) if isinstance(value, dict | list) else ()


def _texts(values: Iterable[object]) -> Iterator[str]:
    return (value for value in values if isinstance(value, str))


def _bytes(values: Iterable[object]) -> int:
    return sum(len(text.encode("utf-8", "surrogatepass")) for text in _texts(values))


def _most(what: str, value: int, limit: int) -> None:
    if value > limit:
        raise ValueError(f"it has {value} {what}; limit {limit}")
