"""What the image recipes share: an encoder, views of each image, probes, and a claim."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from ...data.images import digits
from ...data.source import Source, embed
from ...encoders.conv import SmallConv, SmallConvShape
from ...loop import Training, fit
from ...method import Method
from ...methods.twins import Inputs
from ...optimisers import adamw
from ...probes.suite import evaluate
from ...recipe import Claim, Verdict
from ...sampler import Sampler, seed_at
from ...schedules import warmup_cosine
from ...views.image import ImageView, distortion
from ...world import share

CLAIMED_GAIN = 0.05  # of scarce-label accuracy
PROBED = 2048  # images of a probe while training, of each part

Views: TypeAlias = Literal["affine"]


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
    views: Views = "affine"


SettingsT = TypeVar("SettingsT", bound=ImageSettings)


def two_views(
    data: Source, settings: ImageSettings, method: Callable[[nn.Module], Method[Any]]
) -> Training[tuple[Inputs, Inputs]]:
    """Compose a run on two views of each image; `method` is made around a new encoder."""
    view = image_view(settings)

    def views(images: Tensor, step: int) -> tuple[Inputs, Inputs]:
        generator = torch.Generator().manual_seed(seed_at(settings.seed, step, 1))
        return (view(images, generator).data,), (view(images, generator).data,)

    return image_run(data, settings, method, views)


def image_run(
    data: Source,
    settings: ImageSettings,
    method: Callable[[nn.Module], Method[Any]],
    views: Callable[[Tensor, int], Any],
    *,
    sampler: Callable[[int], Tensor] | None = None,
) -> Training[Any]:
    """Compose a run on images; its probe gives RankMe and, with labels, accuracies.

    `views` makes a method's batch of a step's images; `sampler` gives the rows of a step, uniformly
    without one.
    """
    channels, side, _ = data.train[torch.tensor([0])].shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        encoder = image_encoder(channels, side, settings)
        made = method(encoder)
    rows = sampler or Sampler(
        items=len(data.train), batch_size=settings.batch_size, seed=settings.seed
    )
    return Training(
        method=made,
        batches=lambda step: data.train[share(rows(step))],
        views=views,
        optimiser=adamw(made, weight_decay=settings.weight_decay),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: probe(encoder, data),
    )


def image_encoder(channels: int, side: int, settings: ImageSettings) -> nn.Module:
    """Make the encoder that the settings name, for images of one size."""
    return SmallConv(SmallConvShape(channels=channels, side=side, dim=settings.dim))


def image_view(settings: ImageSettings) -> ImageView:
    """Make the views that the settings name."""
    return distortion(degrees=20, scale=(0.75, 1.25), shear=15)


def probe(encoder: nn.Module, data: Source) -> dict[str, float]:
    """Probe an encoder on a source."""
    test = np.zeros((0, 1), np.float32) if data.test is None else embed(encoder, data.test)
    return evaluate(embed(encoder, data.train), test, data)


def scarce_claim(build: Callable[[Source, SettingsT], Training[Any]], settings: SettingsT) -> Claim:
    """Claim that an image recipe makes few labels go further, on held-out digits."""

    def check(seeds: Sequence[int] = (0, 1, 2)) -> Verdict:
        data = digits()
        pixels = probe(nn.Flatten(), data)
        before, after = [], []
        for seed in seeds:
            training = build(data, replace(settings, seed=seed))
            probed = fit(training, accelerator="cpu", progress=False).rows
            first, last = (row for row in probed if "scarce" in row)
            before.append(first)
            after.append(last)
        figures = {f"pixels/{name}": value for name, value in pixels.items()}
        for stage, rows in (("untrained", before), ("pretrained", after)):
            for name in pixels:
                figures[f"{stage}/{name}"] = float(np.mean([row[name] for row in rows]))
        gains = [
            last["scarce"] - first["scarce"] for first, last in zip(before, after, strict=True)
        ]
        figures["scarce_gain_worst"] = min(gains)
        ahead = figures["pretrained/scarce"] > figures["pixels/scarce"]
        return Verdict(holds=min(gains) >= CLAIMED_GAIN and ahead, figures=figures)

    return Claim(
        f"with five labels a class, 1-NN accuracy on held-out digits is at least "
        f"{CLAIMED_GAIN * 100:.0f} points above the untrained encoder's at each of three seeds, "
        "and on average above raw pixels'",
        check,
    )
