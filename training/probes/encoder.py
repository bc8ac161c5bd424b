"""Probe an encoder on a source: embed both parts, and evaluate the embeddings."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..data.source import Source, embed, some
from .rankme import rankme
from .suite import evaluate


def probe_encoder(
    encoder: nn.Module,
    source: Source,
    *,
    most: int | None = None,
    projector: nn.Module | None = None,
) -> dict[str, float]:
    """Give the figures of `evaluate`, of at most `most` items a part, taken from all over it.

    With the encoder's projector there is also `rankme_projector`, RankMe of its outputs for the
    training items: the Z = g(f(x)) of the paper (arXiv:2210.02885). `rankme` is of the
    embeddings f(x).
    """
    data = source if most is None else some(source, most)
    test = np.zeros((0, 1), np.float32) if data.test is None else embed(encoder, data.test)
    train = embed(encoder, data.train)
    figures = evaluate(train, test, data)
    if projector is None:
        return figures
    return figures | {"rankme_projector": rankme(_projected(projector, train))}


@torch.no_grad()
def _projected(projector: nn.Module, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    device = next((weight.device for weight in projector.parameters()), torch.device("cpu"))
    outputs: NDArray[np.float32] = (
        projector(torch.from_numpy(embeddings).to(device)).float().cpu().numpy()
    )
    return outputs
