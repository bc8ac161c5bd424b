"""What the text recipes share: settings, and two views of a text through one encoder."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ...composing import RunSettings, compose, seeded
from ...encoders.students import STUDENT
from ...encoders.text import TextConfig, TextEncoder
from ...loop import Training
from ...methods.siamese import Inputs, Siamese
from ...optimisers import parameter_groups
from ...text_data import TextData

IMAGES_TO_TEXTS = (
    "the views are a docstring's summary and its body instead of two distortions of an image",
    "a small token transformer instead of ResNet-50; AdamW instead of LARS",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PretrainingSettings(RunSettings):
    """The numbers of every run from scratch on two views; a recipe adds those of its objective."""

    steps: int = 300
    batch_size: int = 128
    rate: float = 1e-3
    warmup: int = 10  # steps
    weight_decay: float = 0.01
    shape: TextConfig = STUDENT


def two_text_views(
    data: TextData,
    settings: PretrainingSettings,
    *,
    projector: Callable[[int], nn.Module],
    objective: Callable[[Tensor, Tensor], Tensor],
) -> Training[tuple[Inputs, Inputs]]:
    """Compose a run in which summary and body are the two views of one encoder, made from scratch.

    `projector` makes the head in front of the objective for an embedding width.
    """
    with seeded(settings.seed):
        encoder = TextEncoder(settings.shape)
        method = Siamese(encoder, projector(encoder.dim), objective)
    return compose(
        method,
        settings,
        items=data.pairs.batch,
        rows=data.pairs.sampler(batch_size=settings.batch_size, seed=settings.seed),
        optimiser=torch.optim.AdamW(parameter_groups(method, weight_decay=settings.weight_decay)),
        probe=lambda: data.probe(encoder),
    )
