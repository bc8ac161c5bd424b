"""Code surprise: how unexpected a series' codes are to n-grams of the normal ones."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import InvalidInput

from ..data.source import Rows, Source, embed, subset
from ..methods.vector_quantised import VectorQuantised, perplexity
from .anomaly import auroc
from .rankme import rankme
from .surprise import n_grams


def code_probe(
    method: VectorQuantised, data: Source, *, order: int, run: int
) -> Callable[[], dict[str, float]]:
    """Give `probe_codes` as a probe; raises InvalidInput where no segment is labelled normal."""
    normal_items(data)
    return partial(probe_codes, method, data, order=order, run=run)


def probe_codes(method: VectorQuantised, data: Source, *, order: int, run: int) -> dict[str, float]:
    """Give the RankMe of embeddings, the perplexity of codes, and the AUROC of their surprise."""
    size = len(method.codebook.vectors)
    figures = {
        "rankme": rankme(embed(method.encoder, data.train)),
        "perplexity": float(perplexity(torch.from_numpy(codes(method, data.train)), size)),
    }
    if data.test is None or data.test_labels is None:
        return figures
    scores = surprises(method, data, order=order, run=run)
    strange = data.test_labels == 1
    return figures | {"auroc": auroc(scores[~strange], scores[strange])}


def surprises(
    method: VectorQuantised, data: Source, *, order: int, run: int
) -> NDArray[np.float64]:
    """Score test segments by the mean surprise of their strangest `run` of codes.

    A code's surprise is that of the n-gram of `order` codes that it ends, among normal segments'.
    """
    assert data.test is not None
    model = n_grams(codes(method, normal_items(data)), len(method.codebook.vectors), order=order)
    each = model.surprise(codes(method, data.test))
    runs = np.lib.stride_tricks.sliding_window_view(each, min(run, each.shape[1]), axis=1)
    return np.asarray(runs.mean(2).max(1))


def normal_items(data: Source) -> Rows:
    """Give the training segments labelled 0, or all where none has a label.

    Raises InvalidInput where there are labels and none is 0.
    """
    if data.train_labels is None:
        return data.train
    names = () if data.summary is None else data.summary.classes
    if not (data.train_labels == 0).any() or (names and "0" not in names):
        raise InvalidInput(
            "items of label 0 are the normal ones, which the probe compares with; there are none"
            + (f", but {', '.join(names)}: write 0 for normal" if names else "")
            + ", or read without labels by labels=none"
        )
    return subset(data.train, torch.from_numpy(np.flatnonzero(data.train_labels == 0)))


def codes(method: VectorQuantised, items: Rows) -> NDArray[np.int64]:
    """Give the codes of every item's tokens, (n, tokens)."""
    device = method.codebook.vectors.device
    parts = [
        method.codes(items[rows].to(device)).cpu()
        for rows in torch.split(torch.arange(len(items)), 256)
    ]
    return torch.cat(parts).numpy()
