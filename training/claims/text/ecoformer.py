"""Binary codes keep what softmax attention learned, on docstrings."""

from dataclasses import replace
from typing import Final, cast

from ...binarizing import Conversion, convert, recover, sample
from ...claim import Claim, difference
from ...encoders.text import TextEncoder
from ...loop import fit
from ...recipes.text.ecoformer import SMALL, build
from ...text_data import TextData
from .common import CLAIMED_STEPS, TRANSFORMER, documentation

LAYERS = (0, 1)  # all of them
NEAR = 0.02  # of recall@10, that binary codes may fall short of softmax


def trial(data: TextData, seed: int) -> dict[str, float]:
    """Give recall@10 with softmax attention, with codes in its place, and after distillation."""
    settings = replace(SMALL, seed=seed, steps=CLAIMED_STEPS, shape=TRANSFORMER)
    conversion = Conversion(
        layers=LAYERS, recovery=replace(settings.conversion.recovery, seed=seed)
    )
    first = build(data, settings)
    history = fit(first, accelerator="cpu", progress=False)
    (_, untrained), (_, softmax) = history.series("recall_at_10")
    teacher = cast("TextEncoder", first.method.encoder)
    student = convert(teacher, sample(data, conversion), conversion).encoder
    second = fit(recover(data, teacher, student, conversion), accelerator="cpu", progress=False)
    (_, hashed), (_, recovered) = second.series("recall_at_10")
    return {
        "untrained/recall_at_10": untrained,
        "softmax/recall_at_10": softmax,
        "hashed/recall_at_10": hashed,
        "recovered/recall_at_10": recovered,
    }


claim: Final = Claim(
    "with binary codes for softmax in every layer, recall@10 of held-out summaries of the standard "
    "library's docstrings is, after distillation from the same encoder, on average no more than "
    "two points lower, and higher than before distillation",
    documentation,
    trial,
    effects=(
        difference("recovered/recall_at_10", "softmax/recall_at_10", above=-NEAR),
        difference("recovered/recall_at_10", "hashed/recall_at_10"),
    ),
)
