"""A random teacher: distil a network that never learned anything, and probe better than it.

Sarnthein et al., ICML 2023, arXiv:2302.12091.
"""

from dataclasses import dataclass, replace
from typing import Final

from ...composing import step_views
from ...data.source import Source
from ...encoders.encoder import TensorEncoder
from ...encoders.prototype_head import PrototypeHead
from ...loop import Training
from ...methods.random_teacher import RandomTeacher, images_or_noise
from ...methods.siamese import Inputs
from ...recipe import Recipe
from ...schedules import warmup_cosine
from .common import image_run
from .settings import ImageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; the rate rises to `rate` over `warmup` steps and stays there."""

    steps: int = 1000
    rate: float = 1e-3
    warmup: int = 0
    weight_decay: float = 0.0
    hidden: int = 256  # width inside the head
    bottleneck: int = 64
    outputs: int = 1024  # of the head, whose softmax is matched
    distance: float = 0.0  # of the student's start: 0 is the teacher, 1 another random net
    noise: bool = False  # learn from noise instead of images


SMALL: Final = Settings()
PAPER: Final = Settings(  # the official code; not given: steps
    batch_size=256, encoder="resnet18", hidden=2048, bottleneck=256, outputs=65536
)


def build(data: Source, settings: Settings) -> Training[tuple[Inputs]]:
    """Compose the run; images are not changed."""
    views = step_views(images_or_noise, settings, "noise")

    def method(encoder: TensorEncoder) -> RandomTeacher:
        sizes = settings.only("hidden", "bottleneck", "outputs")
        head, distance = PrototypeHead(encoder.dim, **sizes), settings.distance
        return RandomTeacher(encoder, head, distance=distance, seed=settings.seed + 1)

    rate = warmup_cosine(settings.rate, settings.warmup, settings.steps, floor=settings.rate)
    return replace(image_run(data, settings, method, views), rate=rate)


recipe = Recipe(
    paper="Sarnthein et al. 2023, arXiv:2302.12091",
    family="distribute",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=("small grey digits instead of CIFAR",),
)
