"""What the claims of text recipes share: their data, and how an encoder learns to retrieve."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from ...claim import Claim, difference
from ...data.pairs import Pair, split
from ...datasets import docstrings
from ...datasets.invented_language import invented_language
from ...encoders.static import StaticConfig
from ...encoders.text import TextConfig
from ...encoders.transformer import TransformerConfig
from ...loop import fit
from ...recipe import Recipe
from ...text_data import TextData, text_data
from ...tokenizers.wordpiece import train_tokenizer

CLAIMED_STEPS = 60
CLAIMED_GAIN = 0.05  # of recall@10
VOCABULARY = 4096
TRANSFORMER = TextConfig(
    vocabulary=VOCABULARY,
    max_length=32,
    transformer=TransformerConfig(width=128, depth=2, heads=4, hidden=256),
)
INVENTED = TextConfig(
    vocabulary=512,
    max_length=32,
    transformer=TransformerConfig(width=64, depth=2, heads=4, hidden=128),
)


def pretraining_claim(
    recipe: Recipe[TextData, Any],
    *,
    shape: TextConfig | StaticConfig = TRANSFORMER,
) -> Claim[TextData]:
    """Claim that a text recipe learns to retrieve, on the standard library's docstrings."""

    def trial(data: TextData, seed: int) -> dict[str, float]:
        return recall(recipe, data, steps=CLAIMED_STEPS, batch_size=128, shape=shape, seed=seed)

    return Claim(
        f"after {CLAIMED_STEPS} steps on the standard library's docstrings, recall@10 of held-out "
        f"summaries is at least {CLAIMED_GAIN * 100:.0f} points above the untrained encoder's",
        documentation,
        trial,
        effects=(
            difference("pretrained/recall_at_10", "untrained/recall_at_10", above=CLAIMED_GAIN),
        ),
    )


def recall(
    recipe: Recipe[TextData, Any], data: TextData, *, name: str = "pretrained", **changes: Any
) -> dict[str, float]:
    """Give the recall@10 of an encoder before and after a run with these settings."""
    training = recipe.build(data, replace(recipe.settings, **changes))
    history = fit(training, accelerator="cpu", progress=False)
    (_, before), (_, after) = history.series("recall_at_10")
    return {"untrained/recall_at_10": before, f"{name}/recall_at_10": after}


def invented_texts() -> TextData:
    """Give texts of a language that no teacher knows, 200 pairs held out."""
    return _tokenized(invented_language(), vocabulary=INVENTED.vocabulary)


def documentation() -> TextData:
    """Give the standard library's docstrings, 200 held out."""
    return _tokenized(docstrings.read(("stdlib",)), vocabulary=VOCABULARY)


def _tokenized(pairs: Sequence[Pair], *, vocabulary: int) -> TextData:
    parts = split(pairs, held_out=200)
    tokenizer = train_tokenizer(
        (text for pair in parts.train for text in (pair.summary, pair.body)),
        vocabulary=vocabulary,
    )
    return text_data(parts, tokenizer, max_length=32)
