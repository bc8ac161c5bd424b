"""Masked language modelling learns which words go together, in a language that is invented."""

from typing import Final

from ...claim import Claim, difference
from ...recipes.text.mlm import recipe
from ...text_data import TextData
from .common import CLAIMED_GAIN, INVENTED, invented_texts, recall


def trial(data: TextData, seed: int) -> dict[str, float]:
    """Train on single texts, and search for the text that is about the same two topics."""
    return recall(recipe, data, shape=INVENTED, steps=500, batch_size=64, rate=3e-3, seed=seed)


claim: Final = Claim(
    "in an invented language, where a text and its summary share a topic and no word of it, "
    f"recall@10 rises by at least {CLAIMED_GAIN * 100:.0f} points (the lower end of the 95 % "
    "interval over seeds)",
    invented_texts,
    trial,
    effects=(difference("pretrained/recall_at_10", "untrained/recall_at_10", above=CLAIMED_GAIN),),
)
