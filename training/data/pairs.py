"""Pairs of texts with one meaning: the data of the text recipes, from a file or a corpus."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Pair:
    """One item: a unique name, where it is from, and a short and a longer text of one meaning."""

    name: str
    package: str
    summary: str
    body: str


@dataclass(frozen=True, slots=True)
class Split:
    """The pairs to train on and those held out, whose summaries no training may see."""

    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]


def split(pairs: Sequence[Pair], *, held_out: int, seed: int = 0) -> Split:
    """Hold out the `held_out` pairs whose names hash lowest under `seed`.

    A pair's place depends on names alone, so that a pair more or less in the corpus moves at most
    one other, the pair at the boundary. Raises InvalidInput when a side would be empty.
    """
    if not 0 < held_out < len(pairs):
        raise InvalidInput(
            f"held_out must be in [1, {len(pairs) - 1}], the pairs less one; got {held_out}"
        )
    chosen = {pair.name for pair in by_hash(pairs, seed)[:held_out]}
    return Split(
        train=tuple(pair for pair in pairs if pair.name not in chosen),
        held_out=tuple(pair for pair in pairs if pair.name in chosen),
    )


def by_hash(pairs: Sequence[Pair], seed: int) -> list[Pair]:
    """Shuffle pairs in an order that depends on their names alone."""
    return sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}:{pair.name}".encode()).digest())


def line_objects(path: Path) -> tuple[dict[int, dict[str, object]], int]:
    """Read a file of a JSON object a line: the objects by line number, and how many were blank.

    It is UTF-8, perhaps after a byte order mark. Raises InvalidInput that names the line.
    """
    rows: dict[int, dict[str, object]] = {}
    blank = 0
    try:
        # Lines end at newlines only, as JSON's do; a carriage return before one is blank to JSON.
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            lines = list(file)
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"cannot read pairs from {path}: {error}; save it as UTF-8, unpacked"
        ) from error
    except OSError as error:
        raise InvalidInput(f"cannot read pairs from {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            blank += 1
            continue
        try:
            rows[number] = _object(line)
        except (ValueError, RecursionError) as error:
            raise InvalidInput(
                f"{path}, line {number}: {error}; a line is an object of strings with name, "
                "summary and body, or with text"
            ) from error
    return rows, blank


def _object(line: str) -> dict[str, object]:
    value = json.loads(line, object_pairs_hook=_unique)
    if isinstance(value, list):
        raise ValueError("an array and no object: write each of its objects in a line")
    if not isinstance(value, dict):
        raise ValueError(f"{line.strip()[:40]} is no object")
    return value


def _unique(items: list[tuple[str, object]]) -> dict[str, object]:
    keys = dict(items)
    if len(keys) != len(items):
        ((twice, _),) = Counter(key for key, _ in items).most_common(1)
        raise ValueError(f"the key {twice!r:.80} occurs twice")
    return keys


def valid_text(where: str, text: str) -> str:
    """Give a text back; raises InvalidInput, naming `where`, for half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"{where}: {error}; it is half of a pair of escapes, so write the character itself"
        ) from error
    return text


def pair_of(where: str, row: Mapping[str, object]) -> Pair:
    """Give the pair of an object, which is at `where`; without a name, its texts are that.

    Raises InvalidInput for texts that are missing, blank or no strings.
    """
    fields = [row.get(key, "") for key in ("name", "package", "summary", "body")]
    if not all(isinstance(text, str) for text in fields):
        raise InvalidInput(
            f"{where}: not all of {str(fields)[:200]} are strings; a pair is an object of strings "
            "with summary and body, and perhaps name"
        )
    name, package, summary, body = (valid_text(where, str(text)) for text in fields)
    for key, text in (("summary", summary), ("body", body)):
        if not text.strip():
            raise InvalidInput(
                f"{where}: {key} is {'blank' if key in row else 'missing'}; a pair is an object of "
                "strings with summary and body, and perhaps name (or give texts alone, under text)"
            )
    return Pair(name or f"{summary}\n{body}", package, summary, body)
