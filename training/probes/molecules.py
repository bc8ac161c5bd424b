"""Probe an encoder of molecules: how well properties can be read off its embeddings."""

import numpy as np
from numpy.typing import NDArray

from ..data.molecules import Molecules, Property
from ..data.text import tokenize
from ..encoders.text import TextEncoder
from ..sampler import evenly
from .linear import linear_auroc
from .rankme import rankme
from .regression import ridge_error
from .text_retrieval import embed

PROBED = 2048  # molecules whose RankMe is taken


def probe_molecules(encoder: TextEncoder, data: Molecules, tokenizer: bytes) -> dict[str, float]:
    """Probe an encoder, and the tokenizer it was made for, on a set's properties."""

    def vectors(smiles: tuple[str, ...]) -> NDArray[np.float32]:
        return embed(encoder, tokenize(smiles, tokenizer, max_length=encoder.max_length))

    figures = {"rankme": rankme(vectors(tuple(evenly(data.train, PROBED))))}
    for target in data.properties:
        figures |= read_off(target, vectors(target.train), vectors(target.test))
    return figures


def read_off(
    target: Property, train: NDArray[np.float32], test: NDArray[np.float32]
) -> dict[str, float]:
    """Give the AUROC of two classes, or the root mean squared error of a number, named so."""
    if target.classes:
        auroc = linear_auroc(train, target.train_values, test, target.test_values)
        return {f"{target.name}_auroc": auroc}
    error = ridge_error(train, target.train_values, test, target.test_values)
    return {f"{target.name}_error": error}
