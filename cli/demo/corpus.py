"""The documents of the demo: docstrings that are on this machine, with some held out."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from attar.training.data.pairs import Pair, Split, split
from attar.training.datasets import docstrings, package_descriptions
from attar.training.sampler import evenly

WORDS = 32  # of a body: few enough that every encoder reads all of them


def read_corpus(packages: Sequence[str], *, per_package: int, held_out: int, seed: int) -> Split:
    """Read pairs of a summary and the first words of its body; `held_out` are for the report."""
    pairs = docstrings.read(packages, per_package=per_package, seed=seed)
    return split(_openings(pairs), held_out=held_out, seed=seed)


def opening(text: str) -> str:
    """Give the first words of a text, as many as of each body."""
    return " ".join(text.split()[:WORDS])


def searched(splits: Split, count: int) -> Split:
    """Give the held-out pairs, and so many others that all together have `count` bodies."""
    others = evenly(splits.train, count - len(splits.held_out))
    return Split(tuple(others), splits.held_out)


def write_corpus(pairs: Iterable[Pair], path: Path) -> None:
    """Write pairs in lines of JSON as `attar adapt` and `attar distill` read them.

    A pair's group is its module or class, which `attar adapt` holds out as a whole.
    """
    with path.open("w", encoding="utf-8") as file:
        for pair in pairs:
            row = {
                "name": pair.name,
                "package": pair.package,
                "group": pair.name.rpartition(".")[0],
                "summary": pair.summary,
                "body": pair.body,
            }
            file.write(json.dumps(row) + "\n")


def write_general(count: int, path: Path) -> None:
    """Write so many texts of no subject in particular, one a line."""
    path.write_text("\n".join(package_descriptions.read(count)), "utf-8")


def _openings(pairs: Sequence[Pair]) -> tuple[Pair, ...]:
    """Cut bodies; of those that begin alike only the first is kept, for one is right of each."""
    unique: dict[str, Pair] = {}
    for pair in pairs:
        body = opening(pair.body)
        unique.setdefault(body, replace(pair, body=body))
    return tuple(unique.values())
