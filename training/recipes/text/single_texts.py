"""Runs on single texts: every text of a pair is an item by itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from attar.errors import InvalidInput

from ...composing import compose, uniform
from ...data.text import pad
from ...encoders.text import TextConfig
from ...loop import Training, as_it_is
from ...method import Method
from ...text_data import TextData
from .common import PretrainingSettings


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
