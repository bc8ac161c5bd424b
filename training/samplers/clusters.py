"""Disjoint clusters: batches in which no two items are of one pseudo-class, as far as can be.

Chakraborty et al., ICDMW 2020 (G-SimCLR), arXiv:2009.12007.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor

from attar.errors import InvalidInput

from ..data.source import Labels
from ..sampler import seed_at


def pseudo_labels(embeddings: NDArray[np.float32], count: int, *, seed: int) -> Labels:
    """Give each of (n, dim) embeddings its cluster, one of `count`, by k-means."""
    means = KMeans(count, n_init=4, random_state=seed)
    labels: Labels = means.fit_predict(embeddings).astype(np.int64)
    return labels


def refuse_more_clusters(batch_size: int, *, items: int) -> None:
    """Raise InvalidInput for a batch, of an image of each cluster, that is larger than the data."""
    if not 1 <= batch_size <= items:
        raise InvalidInput(
            f"batch_size, the number of clusters, must be in [1, images = {items}]; got "
            f"{batch_size}: change it, or give more images"
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DisjointClusters:
    """Batches without replacement that have at most one item of a cluster where that is possible.

    `clusters` has one number an item. With fewer clusters than `batch_size`, or very uneven ones,
    a batch has the least possible most of any. An epoch is the greatest number of batches that
    this allows; what a large cluster has too many of waits for a later one, and so do the rows
    left over. The rows of step s depend on (seed, s) alone.
    """

    clusters: Labels
    batch_size: int
    seed: int

    def __post_init__(self) -> None:
        if self.clusters.ndim != 1 or not 1 <= self.batch_size <= len(self.clusters):
            raise InvalidInput(
                "clusters must be one number an item, and batch_size in [1, items]; got clusters "
                f"of shape {self.clusters.shape} and batch_size {self.batch_size}"
            )

    @property
    def most(self) -> int:
        """The most items of one cluster in a batch."""
        return _most(np.unique(self.clusters, return_counts=True)[1], self.batch_size)

    @property
    def steps_per_epoch(self) -> int:
        """How many batches one pass over the rows gives."""
        return _batches(np.unique(self.clusters, return_counts=True)[1], self.batch_size)

    def __call__(self, step: int) -> Tensor:
        """Give the (batch_size,) int64 rows of step `step`, from 0."""
        names, cluster, sizes = np.unique(self.clusters, return_inverse=True, return_counts=True)
        batches = _batches(sizes, self.batch_size)
        epoch, batch = divmod(step, batches)
        draw = np.random.default_rng(seed_at(self.seed, epoch))
        rows = draw.permutation(len(cluster))
        rows = rows[_rank(cluster[rows], sizes) < _most(sizes, self.batch_size) * batches]
        rows = draw.permutation(rows)[: batches * self.batch_size]
        # Dealt out cluster by cluster, a cluster's rows land in different batches until every
        # batch has one.
        dealt = rows[draw.permutation(len(names))[cluster[rows]].argsort(kind="stable")]
        return torch.from_numpy(dealt[batch::batches])


def _rank(cluster: Labels, sizes: Labels) -> Labels:
    """Give how many earlier items are of the same cluster, for each of all items."""
    order = cluster.argsort(kind="stable")
    starts = np.repeat(sizes.cumsum() - sizes, sizes)
    ranks = np.empty_like(order)
    ranks[order] = np.arange(len(order)) - starts
    return ranks


def _most(sizes: Labels, batch_size: int) -> int:
    """Give the least number of items of one cluster with which a batch can be filled."""
    return next(
        most for most in range(1, batch_size + 1) if np.minimum(sizes, most).sum() >= batch_size
    )


def _batches(sizes: Labels, batch_size: int) -> int:
    """Give the greatest number of batches with at most `_most` items of a cluster in each."""
    most = _most(sizes, batch_size)
    # What clusters can give grows ever more slowly with the batches, and what these need does not:
    # so all numbers up to the greatest will do, and none above it.
    low, high = 1, int(sizes.sum()) // batch_size
    while low < high:
        middle = (low + high + 1) // 2
        enough = np.minimum(sizes, most * middle).sum() >= middle * batch_size
        low, high = (middle, high) if enough else (low, middle - 1)
    return low
