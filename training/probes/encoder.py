"""Probe an encoder on a source: embed both parts, and evaluate the embeddings."""

import numpy as np
from torch import nn

from ..data.source import Source, embed, some
from .suite import evaluate


def probe_encoder(
    encoder: nn.Module, source: Source, *, most: int | None = None
) -> dict[str, float]:
    """Give the figures of `evaluate`, of at most `most` items a part, taken from all over it."""
    data = source if most is None else some(source, most)
    test = np.zeros((0, 1), np.float32) if data.test is None else embed(encoder, data.test)
    return evaluate(embed(encoder, data.train), test, data)
