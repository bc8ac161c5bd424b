"""Models that go while collections, detectors and classifiers need them.

The one list; test_orphans.py lets each happen to a server that holds one of every kind.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attar import AttarError, Client, NotFound, SpaceMismatch

from ..support.bundles import WORDS
from ..support.repositories import write

ITEMS = [f"{one} {other}" for one in WORDS[:8] for other in WORDS[:4]]
USES: dict[str, Callable[[Client], Any]] = {
    "collection docs": lambda client: client.search("docs", ["the cat"], limit=1),
    "detector normal": lambda client: client.score_anomaly("normal", ["the cat"]),
    "classifier topics": lambda client: client.classify("topics", ["the cat"]),
}
"""What is kept, and a call that needs its model."""


@dataclass(frozen=True, slots=True)
class Case:
    """What happens to the repository, and how every use ends; None: as before."""

    name: str
    change: Callable[[Path, Client], object]
    error: type[AttarError] | None = None
    refusal: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.name


def keep(client: Client) -> None:
    """Make one of every kind."""
    client.create_collection("docs")
    client.upsert("docs", list(range(len(ITEMS))), ITEMS)
    client.fit_anomaly("normal", ITEMS)
    client.fit_classifier("topics", ITEMS, ["a", "b"] * (len(ITEMS) // 2))


CASES: tuple[Case, ...] = (
    Case(
        "a model of another name takes its place",
        lambda folder, _: write(folder / "tiny.attar", name="other", seed=1),
        NotFound,
        ("needs model 'tiny', in the space sha256:", "this server has other", "or "),
    ),
    Case(
        "one of the same name and another space takes its place",
        lambda folder, _: write(folder / "tiny.attar", version="2", seed=1),
        SpaceMismatch,
        ("is in the space sha256:", "model tiny now embeds into sha256:", "the former bundle"),
    ),
    Case(
        "it goes",
        lambda folder, _: shutil.rmtree(folder / "tiny.attar"),
        NotFound,
        ("needs model 'tiny'", "this server has none"),
    ),
    Case(
        "it is unloaded",
        lambda _, client: client.unload_model("tiny"),
        NotFound,
        ("needs model 'tiny'", "this server has none"),
    ),
    Case(
        "a newer version of another space comes, and the old one stays",
        lambda folder, _: write(folder / "new.attar", version="2", seed=1),
    ),
    Case(
        "another model comes",
        lambda folder, _: write(folder / "other.attar", name="other", seed=1),
    ),
    Case(
        "a newer version of the same space takes its place",
        lambda folder, _: write(folder / "tiny.attar", version="2"),
    ),
)
