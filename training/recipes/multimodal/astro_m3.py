"""AstroM3: light curves, spectra and catalogue rows of stars in one space, by CLIP over all pairs.

Rizhko and Bloom 2024, arXiv:2411.08842.
"""

from dataclasses import asdict, dataclass
from functools import partial
from typing import Final

from torch import Tensor

from ...composing import RunSettings, compose_rows, seeded, step_views
from ...data.objects import Objects, read_objects
from ...datasets.stars import MODALITIES
from ...encoders.stars import OFFICIAL, StarSizes, star_encoders
from ...loop import Training
from ...methods.cross_modal import CrossModal
from ...probes.joint_space import probe_space
from ...recipe import Recipe
from ...views.folded_phase import first_turned


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings, StarSizes):
    """The recipe's numbers, for a thousand stars."""

    steps: int = 300
    batch_size: int = 128
    warmup: int = 30  # steps
    weight_decay: float = 4.7e-3
    scale: float = 1 / 0.07  # where the learned ones begin, CLIP's
    tuning_steps: int = 300
    tuning_rate: float = 3e-3


SMALL: Final = Settings()
PAPER: Final = Settings(  # the official code; not given: steps (100 epochs), warmup, tuning
    batch_size=512, rate=3.92e-3, scale=100.0, **asdict(OFFICIAL)
)


def build(data: Objects, settings: Settings) -> Training[tuple[Tensor, ...]]:
    """Compose the run; its probe gives RankMe and k-NN of the fused embeddings, and search."""
    with seeded(settings.seed):
        space = star_encoders(data.shapes(MODALITIES), settings)
    method, items = CrossModal(space, scale=settings.scale), data.joined(MODALITIES)
    views, probe = step_views(first_turned, settings), partial(probe_space, space, data)
    return compose_rows(method, settings, items, views=views, probe=probe)


recipe = Recipe(
    paper="Rizhko and Bloom 2024, arXiv:2411.08842",
    family="contrast",
    modality="multimodal",
    settings=SMALL,
    published=PAPER,
    build=build,
    read=partial(read_objects, names=MODALITIES),
    differences=(
        "simulated stars instead of those of ASAS-SN and LAMOST",
        "light curves folded on their period, from a random phase, instead of random crops in time",
        "softmax attention over windows of samples instead of ProbSparse attention",
        "Mahalanobis distances to centroids in addition to the paper's cosines",
        "AdamW with half a cosine and no dropout instead of a rate that falls at plateaus",
    ),
)
