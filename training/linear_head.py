"""Linear heads: a classifier that a run learnt on its embeddings, as a bundle has it."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from attar.heads import LinearClassifier


def linear_head(
    weights: Tensor, bias: Tensor, labels: Sequence[str], *, examples: int
) -> LinearClassifier:
    """Give the head of logits x W' + b for (k, d) weights, (k,) biases and k labels.

    `examples` are the items that it was fitted on. It is of no bundle yet: export names its model
    and fingerprint.
    """
    rows, offsets = (
        part.detach().cpu().numpy().astype(np.float32) for part in (weights.float(), bias.float())
    )
    return LinearClassifier(rows, offsets, tuple(labels), examples, model="", fingerprint="")


def centroid_head(
    embeddings: Tensor, classes: Tensor, labels: Sequence[str], *, scale: float
) -> LinearClassifier:
    """Give the head whose logits are `scale` x the cosine of a unit row to each class's centroid.

    `embeddings` are (n, d) unit rows, and `classes` (n,) the index of each one's label. A centroid
    is the mean of a class's rows (AstroM3, Rizhko and Bloom 2024, arXiv:2411.08842).
    """
    centroids = torch.stack([embeddings[classes == k].mean(0) for k in range(len(labels))])
    weights = scale * torch.nn.functional.normalize(centroids, dim=1)
    return linear_head(weights, torch.zeros(len(labels)), labels, examples=len(embeddings))
