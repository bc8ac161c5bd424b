"""G-SimCLR: SimCLR on batches in which no two images look alike to an autoencoder.

Chakraborty et al., ICDMW 2020, arXiv:2009.12007, with a small convolutional encoder.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from statistics import fmean

import numpy as np
import torch
from sklearn.cluster import KMeans

from attar.errors import InvalidInput

from ...data.source import Labels, Source, embed
from ...datasets.digits import digits
from ...encoders.mlp import mlp
from ...loop import Training, fit
from ...methods.reconstruction import Reconstruction, ReconstructionBatch
from ...methods.siamese import Inputs
from ...recipe import Claim, Figures, Recipe, Stage
from ...sampler import Sampler
from ...samplers.clusters import DisjointClusters
from . import simclr
from .common import image_run, noisy, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers, beside SimCLR's; the decoder is as wide inside as the projector."""

    steps: int = 400
    batch_size: int = 16
    noise: float = 0.3  # of the autoencoder's images
    clusters: int = 16


def build(data: Source, settings: Settings) -> Training[ReconstructionBatch]:
    """Compose the first run, the autoencoder whose embeddings are clustered."""
    numbers = data.train[torch.tensor([0])].numel()
    return image_run(
        data,
        replace(
            settings,
            batch_size=min(128, len(data.train)),
            steps=max(settings.steps // 2, settings.warmup + 1),
        ),
        lambda encoder: Reconstruction(encoder, mlp(settings.dim, settings.hidden, numbers)),
        noisy(settings, settings.noise),
    )


def clusters(
    autoencoder: Training[ReconstructionBatch], data: Source, settings: Settings
) -> Labels:
    """Give each training image its cluster, by k-means on the autoencoder's embeddings."""
    embeddings = embed(autoencoder.method.encoder.eval(), data.train)
    means = KMeans(settings.clusters, n_init=4, random_state=settings.seed)
    pseudo_labels: Labels = means.fit_predict(embeddings).astype(np.int64)
    return pseudo_labels


def guided(
    data: Source, settings: Settings, pseudo_labels: Labels | None
) -> Training[tuple[Inputs, Inputs]]:
    """Compose the second run, SimCLR on batches of unlike images; uniform ones without clusters."""
    return two_views(
        data,
        settings,
        simclr.contrast(settings),
        sampler=sampler(data, settings, pseudo_labels),
    )


def sampler(
    data: Source, settings: Settings, pseudo_labels: Labels | None
) -> DisjointClusters | Sampler:
    """Give the rows of each step."""
    size, seed = settings.batch_size, settings.seed
    if pseudo_labels is None:
        return Sampler(items=len(data.train), batch_size=size, seed=seed)
    return DisjointClusters(clusters=pseudo_labels, batch_size=size, seed=seed)


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give the two runs; raises InvalidInput for fewer images than clusters, before the first."""
    if not 1 <= settings.clusters <= len(data.train):
        raise InvalidInput(
            f"clusters must be in [1, images = {len(data.train)}]; got {settings.clusters}: change "
            "it, or give more images"
        )
    first = build(data, settings)
    yield Stage("autoencoder", first)
    yield Stage("pretrain", guided(data, settings, clusters(first, data, settings)))


def trial(data: Source, seed: int) -> dict[str, float]:
    """Pretrain on uniform and on guided batches; `alike` is how many pairs share a label."""
    settings = replace(Settings(), seed=seed)
    autoencoder = replace(build(data, settings), probe=None)
    fit(autoencoder, accelerator="cpu", progress=False)
    figures: dict[str, float] = {}
    for name, pseudo_labels in (
        ("uniform", None),
        ("guided", clusters(autoencoder, data, settings)),
    ):
        row = fit(guided(data, settings, pseudo_labels), accelerator="cpu", progress=False).rows[-1]
        figures |= {f"{name}/knn": row["knn"], f"{name}/scarce": row["scarce"]}
        if data.train_labels is not None:
            batches = sampler(data, settings, pseudo_labels)
            drawn = [data.train_labels[batches(step).numpy()] for step in range(settings.steps)]
            figures[f"{name}/alike"] = fmean(_alike(labels) for labels in drawn)
    return figures


def _alike(labels: Labels) -> float:
    """Give the share of pairs that have one label: the false negatives of a contrast."""
    same = (labels[:, None] == labels).sum() - len(labels)
    return float(same / (len(labels) * (len(labels) - 1)))


def _holds(figures: Figures) -> bool:
    rarer = fmean(figures["guided/alike"]) < 0.7 * fmean(figures["uniform/alike"])
    return rarer and fmean(figures["guided/knn"]) >= fmean(figures["uniform/knn"]) - 0.005


recipe = Recipe(
    paper="Chakraborty et al. 2020, arXiv:2009.12007",
    family="contrast",
    modality="image",
    claim=Claim(
        "in guided batches of 16, at least 30 % fewer pairs of digits share a label than in "
        "uniform ones, and k-NN accuracy after as many steps is no more than half a point lower",
        digits,
        trial,
        _holds,
    ),
    settings=Settings(),
    build=build,
    stages=stages,
    departures=(
        "8x8 grey digits and affine, erasing and noise views, for CIFAR-10 and its colour views",
        "the autoencoder has the recipe's own small encoder; batches of 16 and as many clusters",
    ),
)
