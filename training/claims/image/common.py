"""What the claims of several image recipes share: few labels go further."""

from dataclasses import replace
from typing import Any

from torch import nn

from ...claim import Claim, difference
from ...data.source import Source
from ...datasets.digits import digits
from ...loop import fit
from ...probes.encoder import probe_encoder
from ...recipe import Recipe
from ...recipes.image.common import PROBED

CLAIMED_GAIN = 0.05  # of scarce-label accuracy


def scarce_claim(recipe: Recipe[Source, Any]) -> Claim[Source]:
    """Claim that an image recipe makes few labels go further, on held-out digits."""

    def trial(data: Source, seed: int) -> dict[str, float]:
        training = recipe.build(data, replace(recipe.settings, seed=seed))
        probed = fit(training, accelerator="cpu", progress=False).rows
        before, after = (row for row in probed if "scarce" in row)
        pixels = probe_encoder(nn.Flatten(), data, most=PROBED)
        stages = {"pixels": pixels, "untrained": before, "pretrained": after}
        return {f"{stage}/{name}": row[name] for stage, row in stages.items() for name in pixels}

    return Claim(
        f"with five labels a class, 1-NN accuracy on held-out digits is at least "
        f"{CLAIMED_GAIN * 100:.0f} points above the untrained encoder's, and above raw pixels'",
        digits,
        trial,
        effects=(
            difference("pretrained/scarce", "untrained/scarce", above=CLAIMED_GAIN),
            difference("pretrained/scarce", "pixels/scarce"),
        ),
    )
