"""Distil a large image encoder into a small one on images without labels.

Embeddings as in LEAF (Vujanic and Rueckstiess 2025, arXiv:2509.12539) and in-batch similarities as
in SEED (Fang et al., ICLR 2021, arXiv:2101.04731). Unlike there, the teacher sees each image once,
whole, and the student crops of it: a teacher costs far more than its student.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...data.source import Source
from ...data.square import side_of
from ...distributed import step_generator
from ...loop import Training
from ...methods.image_distillation import ImageDistillation, ImageDistillationBatch
from ...views.image import natural
from .common import image_run
from .settings import ImageSettings

SOURCES = "Vujanic and Rueckstiess 2025, arXiv:2509.12539; Fang et al. 2021, arXiv:2101.04731"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(ImageSettings):
    """The recipe's numbers; `area` is the share of an image that a crop keeps at least."""

    steps: int = 600
    batch_size: int = 128
    temperature: float = 0.05
    area: float = 0.6


def build(
    data: Source, targets: NDArray[np.float32], settings: Settings
) -> Training[ImageDistillationBatch]:
    """Compose the run; `targets` (n, d) are the teacher's embeddings of the training images.

    The student is a new encoder with `settings.dim` numbers, which are to be the teacher's d.
    """
    embeddings = torch.from_numpy(targets)
    area = (settings.area, 1.0)
    crop = natural(side_of(data), area=area, jitter=0, grey=0, blur=0)

    def items(rows: Tensor) -> ImageDistillationBatch:
        return data.train[rows], embeddings[rows]

    def views(batch: ImageDistillationBatch, step: int) -> ImageDistillationBatch:
        images, goals = batch
        return crop(images, step_generator(settings.seed, step)).data, goals

    return image_run(
        data,
        settings,
        lambda encoder: ImageDistillation(encoder, **settings.only("temperature")),
        views,
        items=items,
    )
