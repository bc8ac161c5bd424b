"""Label augmentation: classes and quarter turns in one softmax, from few labels a class.

Lee et al., ICML 2020, arXiv:1910.05872.
"""

from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor

from ...composing import uniform
from ...data.source import Source
from ...distributed import step_generator
from ...encoders.encoder import TensorEncoder
from ...loop import Training
from ...methods.label_augmentation import LabelAugmentation, LabelAugmentationBatch
from ...probes.few_labels import few_labels
from ...recipe import Recipe
from ...views.puzzle import quarter_turns
from .common import image_run
from .settings import ImageSettings
from .views import view_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers."""

    steps: int = 300
    batch_size: int = 50
    each: int = 10  # labels a class
    turns: bool = True  # without, a plain classifier
    temperature: float = 1.0  # of the distillation


SMALL: Final = Settings()
PAPER: Final = Settings(batch_size=128, views="natural", optimizer="sgd")  # others: not given


def build(data: Source, settings: Settings) -> Training[LabelAugmentationBatch]:
    """Compose the run; raises InvalidInput for a source without labels."""
    few = few_labels(data, settings.each, seed=settings.seed)
    distort, own = view_of(data, settings), settings.only("temperature")
    own |= {"classes": few.classes, "examples": len(few)}
    own["forms"] = quarter_turns.classes if settings.turns else 1

    def method(encoder: TensorEncoder) -> LabelAugmentation:
        return LabelAugmentation(encoder, dim=encoder.dim, distil=settings.turns, **own)

    def views(labelled: tuple[Tensor, Tensor], step: int) -> LabelAugmentationBatch:
        seen = distort(labelled[0], step_generator(settings.seed, step)).data
        copies = quarter_turns.all_classes(seen).data if settings.turns else seen
        return LabelAugmentationBatch(copies, labelled[1])

    sampler = uniform(len(few), replace(settings, batch_size=min(settings.batch_size, len(few))))
    return image_run(data, settings, method, views, items=few.__getitem__, sampler=sampler)


recipe = Recipe(
    paper="Lee et al. 2020, arXiv:1910.05872",
    family="classify",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "small grey digits with affine, erasing and noise views instead of CIFAR and photographs",
        "quarter turns only, no permutations of colours",
    ),
)
