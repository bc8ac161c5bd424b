"""SIE: a part of the embedding is the same for all views, another follows what is done to them.

Garrido et al., ICML 2023, arXiv:2302.10283.
"""

from dataclasses import dataclass
from functools import partial
from typing import Final

import torch
from torch import nn

from ...composing import step_views
from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...encoders.mlp import projector
from ...loop import Training
from ...methods.sie import Part, Sie, SieBatch
from ...objectives.sie import sie
from ...predictors import HyperPredictor
from ...recipe import Recipe
from .common import image_run
from .published import SIE_3DIEBENCH
from .settings import ImageSettings
from .views import pair_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    projector: int = 64  # width of the layers of either part's projector
    projector_depth: int = 3
    equivariant: int | None = None  # the last dimensions of the embedding; None is half of them
    part: Part = "all"  # what is exported
    invariance: float = 10.0
    equivariance: float = 4.5
    variance: float = 10.0
    covariance: float = 1.0


SMALL: Final = Settings()
PAPER: Final = Settings(**SIE_3DIEBENCH)  # section 5 and the official command; not given: steps


def build(data: Source, settings: Settings) -> Training[SieBatch]:
    """Compose the run; raises InvalidInput for a part that the embedding has not."""
    view = SieBatch.two(*pair_of(data, settings))
    numbers = view(data.train[torch.tensor([0])], torch.Generator()).transformation.shape[1]
    weights = settings.only("invariance", "equivariance", "variance", "covariance")
    own = settings.only("equivariant", "part") | {"objective": partial(sie, **weights)}

    def heads(dims: int) -> nn.Sequential:
        return projector(dims, *[settings.projector] * 2, depth=settings.projector_depth)

    def method(encoder: TensorEncoder) -> Sie:
        return Sie(encoder, heads, HyperPredictor(settings.projector, numbers), **own)

    return image_run(data, settings, method, step_views(view, settings))


recipe = Recipe(
    paper="Garrido et al. 2023, arXiv:2302.10283",
    family="decorrelate",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=("digits moved in their plane instead of two images of an object turned in space",),
)
