"""DirectPred is near a trained predictor of two layers, and above a linear one, on digits."""

from dataclasses import replace
from typing import Final

from ...claim import Claim, difference
from ...data.source import Source
from ...datasets.digits import digits
from ...loop import fit
from ...recipes.image.direct_pred import SMALL, build

NEAR = 0.02  # of accuracy, that the predictor without training may fall short of BYOL's


def trial(data: Source, seed: int) -> dict[str, float]:
    """Train with the predictor set, trained with two layers and with one, and left out."""
    default = replace(SMALL, seed=seed)
    runs = {
        "direct": default,
        "mlp": replace(default, predictor="mlp"),
        "linear": replace(default, predictor="linear"),
        "identity": replace(default, predictor="identity"),
    }
    figures: dict[str, float] = {}
    for name, settings in runs.items():
        row = fit(build(data, settings), accelerator="cpu", progress=False).rows[-1]
        figures |= {f"{name}/{what}": row[what] for what in ("scarce", "rankme")}
    return figures


claim: Final = Claim(
    "1-NN accuracy on held-out digits from five labels a class is on average above that with "
    "a trained linear predictor, above that without a predictor, and no more than two points below "
    "that with BYOL's predictor of two layers with batch norm",
    digits,
    trial,
    effects=(
        difference("direct/scarce", "linear/scarce"),
        difference("direct/scarce", "identity/scarce"),
        difference("direct/scarce", "mlp/scarce", above=-NEAR),
    ),
)
