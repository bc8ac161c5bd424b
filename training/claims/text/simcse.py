"""SimCSE learns to find a body by its summary, among docstrings."""

from dataclasses import replace
from typing import Final

from ...claim import Claim, difference
from ...recipes.text.simcse import recipe
from ...text_data import TextData
from .common import INVENTED, VOCABULARY, documentation, recall

SHAPE = replace(INVENTED, vocabulary=VOCABULARY)
STEPS = 150


def trial(data: TextData, seed: int) -> dict[str, float]:
    """Train on single texts, which no pair joins, and search bodies by their summaries."""
    return recall(recipe, data, shape=SHAPE, steps=STEPS, batch_size=64, seed=seed)


claim: Final = Claim(
    f"after {STEPS} steps on the standard library's docstrings, without their pairs, recall@10 of "
    "held-out summaries is higher than the untrained encoder's (the lower end of the 95 % interval "
    "over seeds is above 0)",
    documentation,
    trial,
    effects=(difference("pretrained/recall_at_10", "untrained/recall_at_10"),),
)
