"""What the image recipes share: digits, their probes, two views of each, and a claim."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from ..encoders.conv import SmallConv
from ..loop import Training, fit
from ..method import Method
from ..optimisers import parameter_groups
from ..probes.knn import knn_accuracy
from ..probes.linear import linear_accuracy
from ..probes.rankme import rankme
from ..recipe import Claim, Verdict
from ..sampler import Sampler, seed_at
from ..schedules import warmup_cosine
from ..twins import Inputs
from ..views.image import distortion

LABELS, DRAWS = 5, 5  # labels a class in the scarce-label probe, and how often they are drawn
CLAIMED_GAIN = 0.05  # of scarce-label accuracy


@dataclass(frozen=True, slots=True)
class Digits:
    """Images (n, 1, 8, 8) float32 in [0, 1] and their labels (n,); labels are for probes only."""

    train: Tensor
    train_labels: NDArray[np.int64]
    test: Tensor
    test_labels: NDArray[np.int64]


def load() -> Digits:
    """Give the 1797 digits that scikit-learn ships, 30 % held out, always the same split."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels / 16).astype(np.float32)).view(-1, 1, 8, 8)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0
    )
    return Digits(images[train], labels[train], images[test], labels[test])


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSettings:
    """The numbers of every run of two views on digits; a recipe adds those of its objective."""

    steps: int = 200
    seed: int = 0
    batch_size: int = 128
    rate: float = 2e-3
    warmup: int = 20  # steps
    weight_decay: float = 1e-4
    dim: int = 64


SettingsT = TypeVar("SettingsT", bound=ImageSettings)


def image_run(
    data: Digits, settings: ImageSettings, method: Callable[[SmallConv], Method[Any]]
) -> Training[tuple[Inputs, Inputs]]:
    """Compose a run on two distortions of each image; `method` is made around a new encoder.

    Its probe gives RankMe, kNN, linear and scarce-label accuracy.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)
        encoder = SmallConv(side=8, dim=settings.dim)
        made = method(encoder)
    sampler = Sampler(items=len(data.train), batch_size=settings.batch_size, seed=settings.seed)
    view = distortion(degrees=20, scale=(0.75, 1.25), shear=15)

    def batches(step: int) -> tuple[Inputs, Inputs]:
        images = data.train[sampler(step)]
        generator = torch.Generator().manual_seed(seed_at(settings.seed, step, 1))
        return (view(images, generator).data,), (view(images, generator).data,)

    return Training(
        method=made,
        batches=batches,
        optimiser=torch.optim.AdamW(parameter_groups(made, weight_decay=settings.weight_decay)),
        rate=warmup_cosine(settings.rate, settings.warmup, settings.steps),
        steps=settings.steps,
        seed=settings.seed,
        probe=lambda _made: evaluate(embed(encoder, data.train), embed(encoder, data.test), data),
    )


def embed(encoder: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """Give the embeddings of images, from wherever the encoder is."""
    device = next(encoder.parameters()).device
    with torch.no_grad():
        embeddings: NDArray[np.float32] = encoder(images.to(device)).cpu().numpy()
    return embeddings


def evaluate(
    train: NDArray[np.float32], test: NDArray[np.float32], data: Digits
) -> dict[str, float]:
    """Probe embeddings of the digits, wherever they were computed.

    `scarce` is the 1-NN accuracy from five labels a class, averaged over five seeded draws.
    """
    scarce = [
        knn_accuracy(train[rows], data.train_labels[rows], test, data.test_labels, k=1)
        for rows in (_few(data.train_labels, seed=draw) for draw in range(DRAWS))
    ]
    everything = train, data.train_labels, test, data.test_labels
    return {
        "rankme": rankme(train),
        "knn": knn_accuracy(*everything),
        "linear": linear_accuracy(*everything),
        "scarce": float(np.mean(scarce)),
    }


def _few(labels: NDArray[np.int64], *, seed: int) -> NDArray[np.int64]:
    draw = np.random.default_rng(seed)
    classes = np.unique(labels)
    rows = [draw.choice(np.flatnonzero(labels == c), LABELS, replace=False) for c in classes]
    return np.concatenate(rows)


def scarce_claim(
    build: Callable[[Digits, SettingsT], Training[tuple[Inputs, Inputs]]], settings: SettingsT
) -> Claim:
    """Claim that an image recipe makes few labels go further, on held-out digits."""

    def check(seeds: Sequence[int] = (0, 1, 2)) -> Verdict:
        data = load()
        pixels = evaluate(data.train.flatten(1).numpy(), data.test.flatten(1).numpy(), data)
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
        f"{CLAIMED_GAIN * 100:.0f} points above the untrained encoder's at each of three seeds, and "
        "on average above raw pixels'",
        check,
    )
