"""RankMe chooses among nine runs almost as labels would, on digits."""

from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Final

from scipy.stats import spearmanr

from ...claim import Claim, Effect, difference
from ...data.source import Source
from ...datasets.digits import digits
from ...loop import fit
from ...metrics import Row
from ...recipes.image.rankme import SMALL, build, grid

RANK: Final = "rankme_projector"


def trial(data: Source, seed: int) -> dict[str, float]:
    """Train each of what is tried; compare what RankMe chooses with what labels would."""
    rows = [
        fit(build(data, settings), accelerator="cpu", progress=False).rows[-1]
        for settings in grid(replace(SMALL, seed=seed))
    ]
    return {
        "chosen_by_rankme": _best(rows, RANK)["linear"],
        "chosen_by_labels": _best(rows, "linear")["linear"],
        "median": sorted(row["linear"] for row in rows)[len(rows) // 2],
        "worst": min(row["linear"] for row in rows),
        "spearman": float(spearmanr(*(_column(rows, name) for name in (RANK, "linear")))[0]),
    }


def _best(rows: Sequence[Row], name: str) -> Row:
    return max(rows, key=lambda row: row[name])


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows]


claim: Final = Claim(
    "of nine runs, the one with the highest RankMe of its projector's outputs, which needs no "
    "labels, is on average within a point of the best linear accuracy on held-out digits, and the "
    "ranks of the two figures agree (Spearman above 0.7)",
    digits,
    trial,
    effects=(
        difference("chosen_by_rankme", "chosen_by_labels", above=-0.01),
        Effect("spearman", itemgetter("spearman"), above=0.7),
    ),
)
