"""An infinite schedule forgets less than two cosines, on digits upright and then turned."""

from dataclasses import replace
from typing import Final

from ...claim import Claim, difference
from ...datasets.digits import digits, turned_digits
from ...groups import Groups
from ...loop import fit
from ...recipes.image.infinite_schedule import SMALL, build


def digits_and_turned() -> Groups:
    """Give the digits, and the same on their side."""
    return Groups(related=digits(), target=turned_digits())


def trial(data: Groups, seed: int) -> dict[str, float]:
    """Give accuracies on either domain after the stream, and how much of the first was lost."""
    figures: dict[str, float] = {}
    for settings in (
        replace(SMALL, seed=seed, schedule="repeated"),
        replace(SMALL, seed=seed, schedule="constant"),
        replace(SMALL, seed=seed),
    ):
        schedule = settings.schedule
        history = fit(
            build(data, settings),
            accelerator="cpu",
            progress=False,
            probe_every=settings.steps,
        )
        _, (_, then), (_, now) = history.series("scarce")
        figures |= {
            f"{schedule}/forgotten": then - now,
            f"{schedule}/first": now,
            f"{schedule}/second": history.series("second/scarce")[-1][1],
        }
    return figures


claim: Final = Claim(
    "after training on upright digits and then for as many steps on digits on their side, "
    "1-NN accuracy on upright digits from five labels a class has fallen less on average than "
    "with two cosine schedules",
    digits_and_turned,
    trial,
    effects=(difference("repeated/forgotten", "infinite/forgotten"),),
)
