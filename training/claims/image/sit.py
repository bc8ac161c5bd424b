"""SiT's two losses are better together than alone, on digits."""

from dataclasses import replace
from typing import Final

from ...claim import Claim, difference
from ...data.source import Source
from ...datasets.digits import digits
from ...loop import fit
from ...recipes.image.sit import SMALL, build

WEIGHTS = {"both": (5.0, 1.0), "rebuild": (5.0, 0.0), "contrast": (0.0, 1.0)}


def trial(data: Source, seed: int) -> dict[str, float]:
    """Pretrain with both parts of the loss, and with either alone."""
    figures: dict[str, float] = {}
    for name, (rebuild, contrast) in WEIGHTS.items():
        settings = replace(SMALL, seed=seed, rebuild=rebuild, contrast=contrast)
        rows = fit(build(data, settings), accelerator="cpu", progress=False).rows
        figures[f"{name}/scarce"] = rows[-1]["scarce"]
        figures["untrained/scarce"] = next(row["scarce"] for row in rows if "scarce" in row)
    return figures


claim: Final = Claim(
    "with five labels a class, 1-NN accuracy on held-out digits is on average higher after "
    "both parts of the loss than after either alone",
    digits,
    trial,
    effects=(
        difference("both/scarce", "rebuild/scarce"),
        difference("both/scarce", "contrast/scarce"),
        difference("both/scarce", "untrained/scarce"),
    ),
)
