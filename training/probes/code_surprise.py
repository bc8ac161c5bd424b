"""Code surprise: how unexpected a series' codes are to n-grams of the normal ones."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.normal import normal_items
from ..data.source import Source, embed
from ..methods.vector_quantised import VectorQuantised, perplexity
from .anomaly import auroc
from .rankme import rankme


def code_probe(method: VectorQuantised, data: Source) -> Callable[[], dict[str, float]]:
    """Give `probe_codes` as a probe; raises InvalidInput where no segment is labelled normal."""
    normal_items(data)
    return partial(probe_codes, method, data)


def probe_codes(method: VectorQuantised, data: Source) -> dict[str, float]:
    """Give the RankMe of embeddings, the perplexity of codes, and the AUROC of their surprise."""
    size = len(method.codebook.vectors)
    codes = torch.from_numpy(method.codes_of(data.train))
    figures = {
        "rankme": rankme(embed(method.exported, data.train)),
        "perplexity": float(perplexity(codes, size)),
    }
    if data.test is None or data.test_labels is None:
        return figures
    scores = surprises(method, data)
    strange = data.test_labels == 1
    return figures | {"auroc": auroc(scores[~strange], scores[strange])}


def surprises(method: VectorQuantised, data: Source) -> NDArray[np.float64]:
    """Score test segments by the head that a bundle has, fitted on the normal ones."""
    assert data.test is not None
    return method.code_surprise(normal_items(data)).surprise(method.codes_of(data.test))
