"""AstroM3: light curves, spectra and catalogue rows of stars in one space, by CLIP over all pairs.

Rizhko and Bloom 2024, arXiv:2411.08842.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import Tensor

from ...composing import RunSettings, compose, seeded, uniform
from ...data.objects import Objects, read_objects
from ...datasets.stars import METADATA, PHOTOMETRY, SPECTRA
from ...distributed import step_generator
from ...encoders.joint_space import JointSpace
from ...encoders.stars import StarSizes, star_encoders
from ...loop import Training
from ...methods.cross_modal import CrossModal
from ...probes.joint_space import probe_space
from ...recipe import Recipe
from ...views.folded_phase import first_turned

ORDER = (PHOTOMETRY, SPECTRA, METADATA)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings, StarSizes):
    """The recipe's numbers, for a thousand stars."""

    steps: int = 300
    batch_size: int = 128
    rate: float = 2e-3
    warmup: int = 30  # steps
    weight_decay: float = 4.7e-3
    scale: float = 1 / 0.07  # where the learned ones begin, CLIP's
    tuning_steps: int = 300
    tuning_rate: float = 3e-3


SMALL: Final = Settings()
PAPER: Final = Settings(  # the official code; not given: steps (100 epochs), warmup, tuning
    batch_size=512,
    rate=3.92e-3,
    scale=100.0,
    dim=512,
    window=3,
    hop=1,
    width=128,
    depth=8,
    hidden=512,
    spectral=(64, 64, 32, 32),
    tabular=512,
)


def encoders(data: Objects, settings: Settings) -> JointSpace:
    """Make the three encoders for the shapes of some data, always the same of a seed."""
    shapes = {name: data.train[name][torch.tensor([0])].shape[1:] for name in ORDER}
    with seeded(settings.seed):
        return star_encoders(shapes, settings)


def build(data: Objects, settings: Settings) -> Training[tuple[Tensor, ...]]:
    """Compose the run; its probe gives RankMe and k-NN of the fused embeddings, and search."""
    space = encoders(data, settings)
    return compose(
        CrossModal(space, scale=settings.scale),
        settings,
        items=lambda rows: tuple(data.train[name][rows] for name in ORDER),
        rows=uniform(len(data.train_labels), settings),
        views=lambda batch, step: first_turned(batch, step_generator(settings.seed, step)),
        probe=partial(probe_space, space, data),
    )


recipe = Recipe(
    paper="Rizhko and Bloom 2024, arXiv:2411.08842",
    family="contrast",
    modality="multimodal",
    settings=SMALL,
    published=PAPER,
    build=build,
    read=partial(read_objects, names=ORDER),
    differences=(
        "simulated stars instead of those of ASAS-SN and LAMOST",
        "light curves folded on their period, from a random phase, instead of random crops in time",
        "softmax attention over windows of samples instead of ProbSparse attention",
        "Mahalanobis distances to centroids in addition to the paper's cosines",
        "AdamW with half a cosine and no dropout instead of a rate that falls at plateaus",
    ),
)
