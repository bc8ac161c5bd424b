"""A student is better than its random teacher, on digits."""

from dataclasses import replace
from statistics import fmean
from typing import Final

from ...claim import Claim, Figures
from ...data.source import Source
from ...datasets.digits import digits
from ...loop import fit
from ...recipes.image.random_teacher import SMALL, build


def trial(data: Source, seed: int) -> dict[str, float]:
    """Train from the teacher on digits, from it on noise, and from far away on digits."""
    default = replace(SMALL, seed=seed)
    runs = {
        "near": default,
        "noise": replace(default, noise=True),
        "far": replace(default, distance=1.0),
    }
    figures: dict[str, float] = {}
    for name, settings in runs.items():
        rows = fit(build(data, settings), accelerator="cpu", progress=False).rows
        before, after = (row["scarce"] for row in rows if "scarce" in row)
        figures |= {f"{name}/before": before, f"{name}/after": after}
    return figures


def _holds(figures: Figures) -> bool:
    near, noise, far = (
        fmean(figures[f"{name}/after"]) - fmean(figures[f"{name}/before"])
        for name in ("near", "noise", "far")
    )
    return near >= 0.05 and noise < near / 2 and far < near


claim: Final = Claim(
    "a student that starts at the weights of its random teacher gains at least five points of "
    "1-NN accuracy on held-out digits from five labels a class, less than half of that if it "
    "is trained on noise, and less if it starts far from the teacher",
    digits,
    trial,
    _holds,
)
