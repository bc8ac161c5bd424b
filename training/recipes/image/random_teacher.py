"""A random teacher: distil a network that never learned anything, and probe better than it.

Sarnthein et al., ICML 2023, arXiv:2302.12091.
"""

from dataclasses import dataclass
from typing import Final

from ...composing import step_views
from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...encoders.prototype_head import PrototypeHead
from ...loop import Training
from ...methods.random_teacher import RandomTeacher, images_or_noise
from ...methods.siamese import Inputs
from ...recipe import Recipe
from .common import image_run
from .settings import ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    hidden: int = 256  # width inside the head
    bottleneck: int = 64
    outputs: int = 1024  # of the head, whose softmax is matched
    distance: float = 0.0  # of the student's start: 0 is the teacher, 1 another random net
    noise: bool = False  # learn from noise instead of images


SMALL: Final = Settings()
PAPER: Final = Settings(  # the official code; not given: steps
    batch_size=256,
    rate=1e-3,
    warmup=0,
    weight_decay=0.0,
    encoder="resnet18",
    hidden=2048,
    bottleneck=256,
    outputs=65536,
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs]]:
    """Compose the run; images are not changed."""
    views = step_views(images_or_noise, settings, "noise")

    def method(encoder: TensorEncoder) -> RandomTeacher:
        sizes = settings.only("hidden", "bottleneck", "outputs")
        head, distance = PrototypeHead(encoder.dim, **sizes), settings.distance
        return RandomTeacher(encoder, head, distance=distance, seed=settings.seed + 1)

    return image_run(data, settings, method, views)


recipe = Recipe(
    paper="Sarnthein et al. 2023, arXiv:2302.12091",
    family="distribute",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits instead of CIFAR",
        "a rate that falls instead of a constant one",
    ),
)
