"""A student is better than its random teacher, on digits."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from ...claim import Claim, Effect
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


def _gain(figures: Mapping[str, float], name: str) -> float:
    return figures[f"{name}/after"] - figures[f"{name}/before"]


claim: Final = Claim(
    "a student that starts at the weights of its random teacher gains at least five points of "
    "1-NN accuracy on held-out digits from five labels a class, less than half of that if it "
    "is trained on noise, and less if it starts far from the teacher",
    digits,
    trial,
    effects=(
        Effect("gain of near", lambda f: _gain(f, "near"), above=0.05),
        Effect(
            "half the gain of near - gain of noise",
            lambda f: _gain(f, "near") / 2 - _gain(f, "noise"),
        ),
        Effect("gain of near - gain of far", lambda f: _gain(f, "near") - _gain(f, "far")),
    ),
)
