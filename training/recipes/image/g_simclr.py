"""G-SimCLR: SimCLR on batches in which no two images look alike to an autoencoder.

Chakraborty et al., ICDMW 2020, arXiv:2009.12007.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from torch import nn

from ...data.source import Source, embed
from ...loop import Training
from ...methods.reconstruction import ReconstructionBatch
from ...recipe import Recipe, Stage
from ...samplers.clusters import DisjointClusters, pseudo_labels, refuse_more_clusters
from . import simclr
from .autoencoder import autoencoder
from .common import two_views
from .settings import SMALL_IMAGES


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers, in addition to SimCLR's; the decoder is as wide as the projector.

    There are as many clusters as images in a batch, which has one of each.
    """

    steps: int = 400
    batch_size: int = 16
    noise: float = 0.3  # of the autoencoder's images


SMALL: Final = Settings()
PAPER: Final = Settings(views="natural")  # all other numbers are not given for sure


def build(data: Source, settings: Settings) -> Training[ReconstructionBatch]:
    """Compose the first run, the autoencoder whose embeddings are clustered."""
    steps = max(settings.steps // 2, settings.warmup + 1)
    wide = replace(settings, batch_size=min(128, len(data.train)), steps=steps)
    return autoencoder(data, wide, hidden=settings.hidden, noise=settings.noise)


def unlike(encoder: nn.Module, data: Source, settings: Settings) -> DisjointClusters:
    """Give batches of images that are in different clusters of an encoder's embeddings."""
    embeddings = embed(encoder.eval(), data.train)
    clusters = pseudo_labels(embeddings, settings.batch_size, seed=settings.seed)
    return DisjointClusters(clusters=clusters, **settings.only("batch_size", "seed"))


def stages(data: Source, settings: Settings) -> Iterator[Stage]:
    """Give the autoencoder, and SimCLR on batches of unlike images."""
    refuse_more_clusters(settings.batch_size, items=len(data.train))
    yield Stage("autoencoder", first := build(data, settings))
    rows = unlike(first.method.encoder, data, settings)
    yield Stage("pretrain", two_views(data, settings, simclr.contrast(settings), sampler=rows))


recipe = Recipe(
    paper="Chakraborty et al. 2020, arXiv:2009.12007",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    stages=stages,
    differences=(*SMALL_IMAGES, "the autoencoder has the recipe's own encoder"),
)
