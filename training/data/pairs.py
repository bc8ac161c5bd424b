"""Pairs of texts with one meaning: the data of the text recipes, from a file or a corpus."""

import hashlib
import json
from collections.abc import Sequence
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
    """Shuffle pairs in an order that each one's name alone decides."""
    return sorted(pairs, key=lambda pair: hashlib.sha256(f"{seed}:{pair.name}".encode()).digest())


def read_lines(path: Path) -> tuple[Pair, ...]:
    """Read a JSON-lines file: `name`, `summary` and `body` in each line, and perhaps `package`.

    Raises InvalidInput that names the line.
    """
    pairs: dict[str, Pair] = {}
    try:
        with path.open(encoding="utf-8") as file:  # its lines end at newlines only, as JSON's do
            lines = list(file)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read pairs from {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            pair = _pair(json.loads(line))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput(
                f"{path}, line {number}: {error!r}; a line is an object of strings with name, "
                "summary and body"
            ) from error
        if pair.name in pairs:
            raise InvalidInput(
                f"{path}, line {number}: the name {pair.name!r} occurs twice; names must be unique"
            )
        pairs[pair.name] = pair
    return tuple(pairs.values())


def _pair(row: dict[str, str]) -> Pair:
    values = {"package": "", **row}
    texts = [values[key] for key in ("name", "package", "summary", "body")]
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"not all of {texts} are strings")
    return Pair(*texts)
