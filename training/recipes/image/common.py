"""What the image recipes share: an encoder, views of each image, probes, and a claim."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from attar.errors import InvalidInput

from ...data.source import Source, embed, some
from ...datasets.digits import digits
from ...distributed import shard, step_generator
from ...encoders.encoder import TensorEncoder
from ...loop import Training, fit
from ...method import Method
from ...methods.reconstruction import ReconstructionBatch
from ...methods.siamese import Inputs
from ...optimisers import adamw
from ...probes.suite import evaluate
from ...recipe import Claim, Figures
from ...sampler import Sampler, seed_at
from ...schedules import warmup_cosine
from ...views.image import ImageView, distortion, natural
from .encoders import EncoderName, image_encoder

CLAIMED_GAIN = 0.05  # of scarce-label accuracy
PROBED = 2048  # most images of a part that a probe looks at, taken from all over it

Views: TypeAlias = Literal["affine", "natural"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """The numbers of every run on images; a recipe adds those of its objective.

    They are for small images and hundreds of steps; a large set wants another encoder, natural
    views and more steps.
    """

    steps: int = 200
    seed: int = 0
    batch_size: int = 128
    rate: float = 2e-3
    warmup: int = 20  # steps
    weight_decay: float = 1e-4
    dim: int = 64
    encoder: EncoderName = "small"
    views: Views = "affine"


SettingsT = TypeVar("SettingsT", bound=ImageSettings)


def two_views(
    data: Source,
    settings: ImageSettings,
    method: Callable[[TensorEncoder], Method[Any]],
    *,
    view: ImageView | None = None,
    sampler: Callable[[int], Tensor] | None = None,
) -> Training[tuple[Inputs, Inputs]]:
    """Compose a run on two views of each image, the settings' without a `view`; see `image_run`."""
    made = view or image_view(settings.views, side_of(data))

    def views(images: Tensor, step: int) -> tuple[Inputs, Inputs]:
        generator = step_generator(settings.seed, step)
        return (made(images, generator).data,), (made(images, generator).data,)

    return image_run(data, settings, method, views, sampler=sampler)


def image_run(
    data: Source,
    settings: ImageSettings,
    method: Callable[[TensorEncoder], Method[Any]],
    views: Callable[[Any, int], Any],
    *,
    sampler: Callable[[int], Tensor] | None = None,
) -> Training[Any]:
    """Compose a run on images; its probe gives RankMe and, with labels, accuracies.

    `method` is made around a new encoder. `views` makes its batch of a step's images; `sampler`
    gives the rows of a step, uniformly without one.
    """
    encoder = new_encoder(data, settings)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_at(settings.seed, 0))
        made = method(encoder)
    rows = sampler or Sampler(
        items=len(data.train), batch_size=settings.batch_size, seed=settings.seed
    )
    return Training(
        method=made,
        batches=lambda step: data.train[shard(rows(step))],
        views=views,
        optimiser=adamw(made, weight_decay=settings.weight_decay),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: probe(encoder, data),
    )


def new_encoder(data: Source, settings: ImageSettings) -> TensorEncoder:
    """Make the encoder that the settings name, for a source's images, always the same of a seed."""
    channels, side = data.train[torch.tensor([0])].shape[1], side_of(data)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        return image_encoder(settings.encoder, channels=channels, side=side, dim=settings.dim)


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


def side_of(data: Source) -> int:
    """Give the side of a source's images; raises InvalidInput where they are not square."""
    height, width = data.train[torch.tensor([0])].shape[-2:]
    if height != width:
        raise InvalidInput(
            f"the recipe learns from square images; got {height} x {width} pixels: cut and resize "
            f"them by side={min(height, width)} as they are read (--read), or another side"
        )
    return height


def image_view(word: Views, side: int) -> ImageView:
    """Make the views that a word names: for small drawings, or for photographs."""
    if word == "natural":
        return natural(side)
    return distortion(degrees=20, scale=(0.75, 1.25), shear=15)


def probe(encoder: nn.Module, source: Source) -> dict[str, float]:
    """Probe an encoder on a source, or on some of a large one."""
    data = some(source, PROBED)
    test = np.zeros((0, 1), np.float32) if data.test is None else embed(encoder, data.test)
    return evaluate(embed(encoder, data.train), test, data)


def scarce_claim(
    build: Callable[[Source, SettingsT], Training[Any]], settings: SettingsT
) -> Claim[Source]:
    """Claim that an image recipe makes few labels go further, on held-out digits."""

    def trial(data: Source, seed: int) -> dict[str, float]:
        training = build(data, replace(settings, seed=seed))
        probed = fit(training, accelerator="cpu", progress=False).rows
        before, after = (row for row in probed if "scarce" in row)
        stages = {"pixels": probe(nn.Flatten(), data), "untrained": before, "pretrained": after}
        return {
            f"{stage}/{name}": value
            for stage, row in stages.items()
            for name, value in row.items()
            if name != "step"
        }

    def holds(figures: Figures) -> bool:
        before, after = figures["untrained/scarce"], figures["pretrained/scarce"]
        worst = min(last - first for first, last in zip(before, after, strict=True))
        return worst >= CLAIMED_GAIN and fmean(after) > fmean(figures["pixels/scarce"])

    return Claim(
        f"with five labels a class, 1-NN accuracy on held-out digits is at least "
        f"{CLAIMED_GAIN * 100:.0f} points above the untrained encoder's at each seed, and on "
        "average above raw pixels'",
        digits,
        trial,
        holds,
    )
