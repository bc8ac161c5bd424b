"""Trials in few steps: every run of a recipe's trial begins, and none is trained to its end."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

from attar.training import loop
from attar.training.claim import Claim
from attar.training.data.pairs import Pair, split
from attar.training.datasets.synthetic_molecules import synthetic_molecules
from attar.training.loop import History, Training
from attar.training.recipe import Recipe
from attar.training.text_data import text_data
from benchmarks.support.bundles import tokenizer_json
from benchmarks.support.encoders import random_texts

STEPS = 4


@dataclass(slots=True)
class ShortFit:
    """Stands for `fit`: makes `STEPS` steps, spread evenly over those of a run.

    The steps keep their numbers, so that schedules, domains and whatever else depends on the step
    are met from their beginning to their last quarter. `losses` has those of each run.
    """

    losses: list[list[float]] = field(default_factory=list)

    def __call__(self, training: Training[Any], *, probe_every: int = 0, **options: Any) -> History:
        short = min(STEPS, training.steps)
        stride = training.steps // short
        probe, rate, batches = training.probe, training.rate, training.batches
        decay = training.weight_decay
        history = loop.fit(
            replace(
                training,
                steps=short,
                rate=lambda step: rate(step * stride),
                weight_decay=None if decay is None else lambda step: decay(step * stride),
                batches=lambda step: batches(step * stride),
                views=lambda items, step: training.views(items, step * stride),
                probe=None if probe is None else lambda at: probe(at * stride),
            ),
            probe_every=probe_every // stride,
            **{**options, "log_every": 1},
        )
        self.losses.append([loss for _, loss in history.series("loss")])
        return History(tuple({**row, "step": row["step"] * stride} for row in history.rows))


@contextmanager
def short_runs() -> Iterator[ShortFit]:
    """Put `ShortFit` in the place of `fit` wherever a module of attar.training has imported it."""
    short = ShortFit()
    users = [
        module
        for name, module in sys.modules.items()
        if name.startswith("attar.training.") and name != loop.__name__
        if getattr(module, "fit", None) is loop.fit
    ]
    patches = [patch.object(module, "fit", short) for module in users]
    for each in patches:
        each.start()
    try:
        yield short
    finally:
        for each in patches:
            each.stop()


def short_data(recipe: Recipe[Any, Any], claim: Claim[Any]) -> Any:
    """Give what a short trial runs on: the claim's own data, but made-up texts for documentation.

    Documentation differs from one version of Python to the next. Molecules are fewer, for the
    probes' time.
    """
    if recipe.modality == "text":
        bodies = random_texts(160, length=(6, 14))
        pairs = [
            Pair(str(i), "", " ".join(text.split()[:5]), text) for i, text in enumerate(bodies)
        ]
        return text_data(split(pairs, held_out=20), tokenizer_json(), max_length=32)
    if recipe.modality == "molecule":
        return synthetic_molecules(pretrained=256, train=60, test=60)
    return claim.data()


def short_trial(claim: Claim[Any], data: Any) -> tuple[Mapping[str, float], list[list[float]]]:
    """Run a claim's trial of seed 0 in few steps; give its figures, and the losses of each run."""
    with short_runs() as short:
        return claim.trial(data, 0), short.losses
