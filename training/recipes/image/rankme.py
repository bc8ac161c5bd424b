"""RankMe: choose a run's numbers without a label, by the rank of what it embeds.

Garrido et al., ICML 2023, arXiv:2210.02885, with Barlow Twins and a small convolutional encoder.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from scipy.stats import spearmanr

from ...data.source import Source
from ...datasets.digits import digits
from ...loop import Training, fit
from ...methods.siamese import Inputs
from ...metrics import Row
from ...recipe import Claim, Figures, Recipe, Stage
from . import barlow_twins

REDUNDANCIES = (2e-3, 2e-2, 2e-1)
RATES = (2e-4, 2e-3, 2e-2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(barlow_twins.Settings):
    """The recipe's numbers: those of Barlow Twins, and what is tried of two of them."""

    redundancies: tuple[float, ...] = REDUNDANCIES
    rates: tuple[float, ...] = RATES


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose one run, at the settings' own redundancy and rate."""
    return barlow_twins.build(data, settings)


def tried(settings: Settings) -> list[Settings]:
    """Give the settings that are compared: every redundancy with every rate."""
    return [
        replace(settings, redundancy=redundancy, rate=rate)
        for redundancy in settings.redundancies
        for rate in settings.rates
    ]


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give a run for each of what is tried, and the best by RankMe once more, last."""
    unlabelled = replace(data, train_labels=None, test_labels=None)
    ranks = []
    for one in tried(settings):
        training = build(unlabelled, one)
        yield Stage(f"redundancy_{one.redundancy:g}_rate_{one.rate:g}", training)
        assert training.probe is not None
        training.method.eval()
        ranks.append(training.probe(one.steps)["rankme"])
    yield Stage("chosen", build(data, tried(settings)[ranks.index(max(ranks))]))


def trial(data: Source, seed: int) -> dict[str, float]:
    """Train each of what is tried; compare what RankMe chooses with what labels would."""
    rows = [
        fit(build(data, settings), accelerator="cpu", progress=False).rows[-1]
        for settings in tried(replace(Settings(), seed=seed))
    ]
    return {
        "chosen_by_rankme": _best(rows, "rankme")["linear"],
        "chosen_by_labels": _best(rows, "linear")["linear"],
        "median": sorted(row["linear"] for row in rows)[len(rows) // 2],
        "worst": min(row["linear"] for row in rows),
        "spearman": float(spearmanr(*(_column(rows, name) for name in ("rankme", "linear")))[0]),
    }


def _best(rows: Sequence[Row], name: str) -> Row:
    return max(rows, key=lambda row: row[name])


def _column(rows: Sequence[Row], name: str) -> list[float]:
    return [row[name] for row in rows]


def _holds(figures: Figures) -> bool:
    lost = fmean(figures["chosen_by_labels"]) - fmean(figures["chosen_by_rankme"])
    return lost <= 0.01 and fmean(figures["spearman"]) > 0.7


recipe = Recipe(
    paper="Garrido et al. 2023, arXiv:2210.02885",
    family="decorrelate",
    modality="image",
    claim=Claim(
        "of nine runs, the one with the highest RankMe, which needs no label, is on average within "
        "a point of the best in linear accuracy on held-out digits, and ranks of the two figures "
        "agree (Spearman above 0.7)",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    stages=stages,
    departures=(
        "8x8 grey digits and a small convolutional encoder, for ImageNet and ResNet-50",
        "nine runs over two numbers of Barlow Twins, for larger sweeps of five methods",
    ),
)
