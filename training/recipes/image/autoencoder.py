"""A denoising autoencoder of images, which other image recipes begin with or go on from."""

from collections.abc import Callable

import torch
from torch import Tensor

from ...data.source import Source
from ...distributed import step_generator
from ...encoders.mlp import mlp
from ...loop import Training
from ...methods.reconstruction import Reconstruction, ReconstructionBatch
from .common import image_run
from .settings import ImageSettings


def autoencoder(
    data: Source, settings: ImageSettings, *, hidden: int, noise: float
) -> Training[ReconstructionBatch]:
    """Compose a run that rebuilds noisy images; the decoder's inner layer is `hidden` wide."""
    numbers = data.train[torch.tensor([0])].numel()
    return image_run(
        data,
        settings,
        lambda encoder: Reconstruction(encoder, mlp(encoder.dim, hidden, numbers)),
        noisy(settings, noise),
    )


def noisy(
    settings: ImageSettings, deviation: float
) -> Callable[[Tensor, int], ReconstructionBatch]:
    """Give the views of a denoising autoencoder: images with Gaussian noise, and as they are."""

    def views(images: Tensor, step: int) -> ReconstructionBatch:
        noise = torch.randn(images.shape, generator=step_generator(settings.seed, step)).to(
            images.device
        )
        return images + deviation * noise, images

    return views
