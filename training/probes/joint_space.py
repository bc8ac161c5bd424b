"""Probe a joint space: its fused embeddings, and searches from one modality in another."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from ..data.objects import Modalities, Objects
from ..data.source import Labels, embed
from ..encoders.joint_space import JointSpace
from .fusion import fused
from .knn import knn_accuracy
from .rankme import rankme
from .retrieval import labelled_scores, recall_at_k

FUSED = "fused"

Embeddings = Mapping[str, NDArray[np.float32]]
"""By modality, and all of them fused."""


def embeddings(space: JointSpace, objects: Modalities) -> Embeddings:
    """Embed objects in every modality, and fused."""
    parts = {name: embed(space.encoder(name), objects[name]) for name in space.names}
    return {**parts, FUSED: fused(parts)}


def probe_space(space: JointSpace, data: Objects) -> dict[str, float]:
    """Give RankMe and k-NN accuracy of the fused embeddings, and how well searches do."""
    train, test = embeddings(space, data.train), embeddings(space, data.test)
    return {
        "rankme": rankme(train[FUSED]),
        "knn": knn_accuracy(train[FUSED], data.train_labels, test[FUSED], data.test_labels),
        **search(test, data.test_labels),
    }


def search(test: Embeddings, labels: Labels) -> dict[str, float]:
    """Give how often a modality finds the same object in another, and how well its class (mAP)."""
    figures = {"chance": 1 / len(labels)}
    for one, other in combinations([name for name in test if name != FUSED], 2):
        figures[f"recall_at_1/{one}-{other}"] = recall_at_k(test[one], test[other], k=1)
        of_class = labelled_scores(test[one], labels, test[other], labels)
        figures[f"map/{one}-{other}"] = of_class["map"]
    return figures
