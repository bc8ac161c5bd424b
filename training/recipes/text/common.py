"""What the text recipes share: settings, and runs on two views of a text or on single texts."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attar.errors import InvalidInput

from ...composing import RunSettings, compose, seeded, uniform
from ...data.text import pad
from ...encoders.students import STUDENT
from ...encoders.text import TextConfig, TextEncoder
from ...loop import Training, as_it_is
from ...method import Method
from ...methods.siamese import Inputs, Siamese
from ...optimisers import parameter_groups
from ...text_data import TextData

IMAGES_TO_TEXTS = (
    "the views are a docstring's summary and its body instead of two distortions of an image",
    "a small token transformer instead of ResNet-50; AdamW instead of LARS",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingSettings(RunSettings):
    """The numbers of every run from scratch on two views; a recipe adds those of its objective."""

    steps: int = 300
    batch_size: int = 128
    rate: float = 1e-3
    warmup: int = 10  # steps
    weight_decay: float = 0.01
    shape: TextConfig = STUDENT


def two_text_views(
    data: TextData,
    settings: PretrainingSettings,
    *,
    projector: Callable[[int], nn.Module],
    objective: Callable[[Tensor, Tensor], Tensor],
) -> Training[tuple[Inputs, Inputs]]:
    """Compose a run in which summary and body are the two views of one encoder, made from scratch.

    `projector` makes the head in front of the objective for an embedding width.
    """
    with seeded(settings.seed):
        encoder = TextEncoder(settings.shape)
        method = Siamese(encoder, projector(encoder.dim), objective)
    return compose(
        method,
        settings,
        items=data.pairs.batch,
        rows=data.pairs.sampler(batch_size=settings.batch_size, seed=settings.seed),
        optimiser=torch.optim.AdamW(parameter_groups(method, weight_decay=settings.weight_decay)),
        probe=lambda: data.probe(encoder),
    )


def with_mask(shape: TextConfig) -> TextConfig:
    """Give a shape whose token table has one more row, its last, for [MASK].

    So any tokenizer will do. Raises InvalidInput where the shape has a `dim`: a loss on the tokens
    does not train the map to it.
    """
    if shape.dim is not None:
        raise InvalidInput(
            f"shape.dim={shape.dim} is a map that a loss on tokens does not train; change "
            "shape.transformer.width instead"
        )
    return replace(shape, vocabulary=shape.vocabulary + 1)


def single_texts(
    method: Method[Any],
    data: TextData,
    settings: PretrainingSettings,
    *,
    views: Callable[[Any, int], Any] = as_it_is,
) -> Training[Any]:
    """Compose a run in which every text of a pair is an item by itself, as padded tokens.

    Raises InvalidInput where no text has a token between its first and its last, [CLS] and [SEP].
    """
    rows = tuple(row for row in (*data.pairs.first, *data.pairs.second) if len(row) > 2)
    if len(rows) < settings.batch_size:
        raise InvalidInput(
            f"a batch of {settings.batch_size} needs as many texts with a token in them, and there "
            f"are {len(rows)}; give more"
        )

    def items(drawn: Tensor) -> Any:
        return pad([rows[row] for row in drawn.tolist()])

    return compose(
        method,
        settings,
        items=items,
        rows=uniform(len(rows), settings, lengths=tuple(map(len, rows))),
        views=views,
        probe=lambda: data.probe(method.encoder),
    )
