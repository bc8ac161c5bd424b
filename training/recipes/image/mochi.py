"""MoCHi on digits: MoCo with negatives mixed from the hardest.

Kalantidis et al., NeurIPS 2020, arXiv:2010.01028, with a small convolutional encoder.
"""

from dataclasses import dataclass, replace
from statistics import fmean

from ...data.source import Source
from ...datasets.digits import digits
from ...loop import Training, fit
from ...methods.momentum import Mixing
from ...methods.siamese import Inputs
from ...recipe import Claim, Figures, Recipe
from . import moco


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(moco.Settings):
    """The recipe's numbers, beside MoCo's."""

    hardest: int = 64
    mixed: int = 64
    harder: int = 16
    mixing_after: int = 40  # steps


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run."""
    mixing = Mixing(
        hardest=settings.hardest,
        mixed=settings.mixed,
        harder=settings.harder,
        warmup=settings.mixing_after,
    )
    return moco.build(data, settings, mixing)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Train with mixed negatives, and never (MoCo); `found` is how often a query finds its key."""
    default = replace(Settings(), seed=seed)
    figures: dict[str, float] = {}
    for name, after in (("moco", default.steps), ("mochi", default.mixing_after)):
        settings = replace(default, mixing_after=after)
        history = fit(build(data, settings), accelerator="cpu", progress=False, log_every=1)
        late = [found for made, found in history.series("proxy") if made > default.steps // 2]
        figures |= {f"{name}/found": fmean(late), f"{name}/scarce": history.rows[-1]["scarce"]}
    return figures


def _holds(figures: Figures) -> bool:
    found, scarce = (
        fmean(figures[f"mochi/{what}"]) - fmean(figures[f"moco/{what}"])
        for what in ("found", "scarce")
    )
    return found < 0 and scarce >= -0.01


recipe = Recipe(
    paper="Kalantidis et al. 2020, arXiv:2010.01028",
    family="contrast",
    modality="image",
    claim=Claim(
        "with mixed negatives the task is harder, for queries find their keys less often than with "
        "MoCo, and 1-NN accuracy on held-out digits from five labels a class is on average no more "
        "than a point lower",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for ImageNet and its colour views",
        "a queue of 512 for 1,257 images, and a copy that is slow by 0.98, for 65,536 and 0.999",
        "both views ask, and batch norm is not shuffled",
        "AdamW at batch 128, for SGD at 256",
    ),
)
