"""Predict: texts or pairs in, a score for each label out, by what a bundle has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput, NotFound, NotSupported
from attar.heads import LinearClassifier
from attar.inputs import TextPair, Truncation
from attar.ranking import activated

from ..cooperative import off_the_loop
from ..engine.models import Model, Models
from ..request_context import current
from .embed import Embedded, refuse_large_response, run
from .head_store import BUNDLED

PAIR_LABEL: Final = "LABEL_0"
"""What transformers calls the one label of a cross-encoder."""
_SCORE_BYTES: Final = 48  # of JSON, the label left out
_WORK_BYTES: Final = 24  # of one score, while it is computed in float64


@dataclass(frozen=True, slots=True, eq=False)
class Predictions:
    """The scores (n, k) of `labels`, k, for each input."""

    labels: tuple[str, ...]
    scores: NDArray[np.float32]
    embedded: Embedded


async def predict(
    models: Models,
    *,
    inputs: Sequence[str | TextPair],
    model: str = "",
    raw_scores: bool = False,
    truncation: Truncation = "truncate",
) -> Predictions:
    """Score each input by a cross-encoder, or by a classifier of a model's bundle.

    `model` is a model, or MODEL/CLASSIFIER; empty where one is served. A cross-encoder scores pairs
    by the sigmoid of its logit, a classifier texts by softmax; with `raw_scores` both give logits.
    One bad input fails the call. Raises NotSupported for a model with neither.
    """
    name, _, classifier = model.partition(BUNDLED)
    chosen = models.get(name)
    if chosen.encoder.manifest.scores_pairs and not classifier:
        return await _by_cross_encoder(chosen, inputs, raw_scores, truncation)
    head = _classifier(chosen, classifier)
    texts = [item for item in inputs if isinstance(item, str)]
    if len(texts) < len(inputs):
        pair = next(i for i, item in enumerate(inputs) if isinstance(item, TextPair))
        raise InvalidInput(
            f"inputs[{pair}] is a pair, and the classifiers of {chosen.name} take one text; "
            "give texts, each in a list"
        )
    size = len(inputs) * (head.label_bytes + _SCORE_BYTES * len(head.labels))
    refuse_large_response(size, limit=chosen.max_answer_bytes)
    values = len(inputs) * len(head.labels)
    await current().hold_more(size + 8 * head.weights.size + _WORK_BYTES * values)
    embedded = await run(chosen, items=texts, truncation=truncation, all_or_nothing=True)
    work = head.logits if raw_scores else head.probabilities
    scores = await off_the_loop(
        embedded.vectors.nbytes + 4 * values,
        lambda: work(embedded.vectors, fingerprint=chosen.encoder.fingerprint),
    )
    return Predictions(head.labels, scores, embedded)


async def _by_cross_encoder(
    chosen: Model, inputs: Sequence[str | TextPair], raw_scores: bool, truncation: Truncation
) -> Predictions:
    pairs = [item for item in inputs if isinstance(item, TextPair)]
    if len(pairs) < len(inputs):
        text = next(i for i, item in enumerate(inputs) if isinstance(item, str))
        raise InvalidInput(
            f"inputs[{text}] is one text, and {chosen.name} is a cross-encoder: give "
            '["query", "document"]'
        )
    refuse_large_response(len(inputs) * _SCORE_BYTES, limit=chosen.max_answer_bytes)
    scored = await run(chosen, items=pairs, truncation=truncation, all_or_nothing=True)
    scores = scored.vectors if raw_scores else activated(scored.vectors, "sigmoid")
    return Predictions((PAIR_LABEL,), scores, scored)


def _classifier(model: Model, name: str) -> LinearClassifier:
    """Give the classifier of that name of a model's bundle, or its only one."""
    found = {name: head for name, head in model.heads.items() if isinstance(head, LinearClassifier)}
    if name:
        if name not in found:
            raise NotFound(
                f"the bundle of model {model.name} has no classifier {name[:80]!r}; it has "
                f"{', '.join(found) or 'none'}"
            )
        return found[name]
    if not found:
        raise NotSupported(
            f"{model.name} is no cross-encoder, and its bundle has no classifier; name a model "
            "that predicts"
        )
    if len(found) > 1:
        known = ", ".join(f"{model.name}{BUNDLED}{name}" for name in found)
        raise InvalidInput(f"model is {model.name}, which has several classifiers; give {known}")
    (head,) = found.values()
    return head
