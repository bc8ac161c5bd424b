"""Random field augmentations: SimCLR whose views are also bent and recoloured by smooth fields.

Mansfield et al. 2023, arXiv:2311.03629.
"""

from dataclasses import dataclass
from typing import Final

from torch import Tensor

from ...data.source import Source, item_shape
from ...distributed import step_generator
from ...loop import Training
from ...methods.siamese import Inputs
from ...recipe import Recipe
from ...views.fields import random_fields
from . import simclr
from .common import image_run
from .views import pair_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers, in addition to SimCLR's; hue and saturation are of colours alone."""

    strength: float = 1.0  # multiplies the deviations of all fields
    gamma: float = 4.0  # of the fields' spectrum |k|^-gamma
    displacement: float = 0.06  # of the image's side
    degrees: float = 10.0
    scale: float = 0.1
    hue: float = 0.05  # turns
    saturation: float = 0.2
    brightness: float = 0.1


SMALL: Final = Settings()
PAPER: Final = Settings(views="natural")  # its numbers are not given for sure


def build(data: Source, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run: fields on SimCLR's own views."""
    pair, names = pair_of(data, settings), ["displacement", "degrees", "scale", "brightness"]
    if item_shape(data.train)[0] == 3:
        names += ["hue", "saturation"]
    fields = {name: settings.strength * value for name, value in settings.only(*names).items()}

    def views(images: Tensor, step: int) -> tuple[Inputs, Inputs]:
        draw = step_generator(settings.seed, step)
        bases = (view(images, draw).data for view in pair)
        first, second = (random_fields(x, draw, gamma=settings.gamma, **fields) for x in bases)
        return (first.data,), (second.data,)

    return image_run(data, settings, simclr.contrast(settings), views)


recipe = Recipe(
    paper="Mansfield et al. 2023, arXiv:2311.03629",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits instead of ImageNet: fields bend and shade them, and have no colour",
        "fields come after SimCLR's changes instead of in place of some",
    ),
)
