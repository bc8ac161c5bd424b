"""Pairs of texts with one meaning: the data of the text recipes, from a file or a corpus."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from attar.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Pair:
    """One item: its unique name, where it is from, a short text and a longer one that mean the same."""

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

    A pair's place depends on its own name alone, so a pair more or less in the corpus moves only the
    pair at the boundary.  Raises InvalidInput when that leaves nothing on either side.
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
    """Read a JSON-lines file with `name`, `summary` and `body` in each line, and perhaps `package`.

    Raises InvalidInput that names the line.
    """
    pairs: dict[str, Pair] = {}
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read pairs from {path}: {error}") from error
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            pair = Pair(row["name"], row.get("package", ""), row["summary"], row["body"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InvalidInput(
                f"{path}, line {number}: {error!r}; a line is an object with name, summary and body"
            ) from error
        if pair.name in pairs or not all(isinstance(text, str) for text in (pair.name, pair.summary, pair.body)):
            raise InvalidInput(f"{path}, line {number}: names must be unique and all three be strings; got {row}")
        pairs[pair.name] = pair
    return tuple(pairs.values())
