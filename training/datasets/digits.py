"""Images that are here without a download: scikit-learn's digits."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from ..data.source import Labels, Source


def digits() -> Source:
    """Give the 1797 8x8 digits that scikit-learn ships, 30 % held out, always the same split."""
    images, labels, train, test = _digits()
    return Source(
        train=images[train],
        train_labels=labels[train],
        test=images[test],
        test_labels=labels[test],
    )


def turned_digits(most: int | None = None) -> Source:
    """Give the digits turned by a quarter: all of them, or the first `most` of the training part.

    They are a second domain for recipes that go on from one to another.
    """
    images, labels, train, test = _digits()
    turned, train = images.rot90(1, (-2, -1)), train[:most]
    return Source(
        train=turned[train],
        train_labels=labels[train],
        test=turned[test],
        test_labels=labels[test],
    )


def _digits() -> tuple[Tensor, Labels, Labels, Labels]:
    """Give all images and labels, and the rows of either part."""
    pixels, labels = load_digits(return_X_y=True)
    images = torch.from_numpy((pixels / 16).astype(np.float32)).view(-1, 1, 8, 8)
    train, test = train_test_split(
        np.arange(len(labels)), test_size=0.3, stratify=labels, random_state=0
    )
    return images, labels, train, test


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The training images of some styles, in one source, with their digits and styles."""

    source: Source
    labels: Labels
    styles: Labels


@dataclass(frozen=True, slots=True, kw_only=True)
class Styled:
    """Digits painted in several styles: each part's images by style, and what digit each shows."""

    styles: tuple[str, ...]
    train: tuple[Tensor, ...]
    train_labels: Labels
    test: tuple[Tensor, ...]
    test_labels: Labels

    def without(self, unseen: int) -> Seen:
        """Give the training images of all styles but one."""
        seen = [style for style in range(len(self.styles)) if style != unseen]
        return Seen(
            source=Source(train=torch.cat([self.train[style] for style in seen])),
            labels=np.tile(self.train_labels, len(seen)),
            styles=np.repeat(np.array(seen), len(self.train_labels)),
        )


def styled_digits() -> Styled:
    """Paint the digits, 16x16 RGB, in three synthetic styles, always the same.

    A style is a colour of the stroke, one of the ground and a smooth shading in a direction of its
    own whose strength varies from image to image: what low frequencies hold, and digits do not.
    """
    images, labels, train, test = _digits()
    draw = torch.Generator().manual_seed(0)
    return Styled(
        styles=tuple(STYLES),
        train=tuple(_painted(images[train], style, draw) for style in STYLES.values()),
        train_labels=labels[train],
        test=tuple(_painted(images[test], style, draw) for style in STYLES.values()),
        test_labels=labels[test],
    )


Colour = tuple[float, float, float]
STYLES: Mapping[str, tuple[Colour, Colour, tuple[float, float]]] = {
    "sunset": ((1.0, 0.8, 0.4), (0.4, 0.1, 0.1), (1.0, 0.0)),
    "sea": ((0.6, 0.9, 1.0), (0.0, 0.2, 0.4), (0.0, 1.0)),
    "meadow": ((0.9, 1.0, 0.5), (0.1, 0.4, 0.1), (-0.7, -0.7)),
}
"""Stroke, ground, and the direction in which the shading falls."""


def _painted(
    images: Tensor, style: tuple[Colour, Colour, tuple[float, float]], draw: torch.Generator
) -> Tensor:
    stroke, ground, (down, across) = style
    large = images.repeat_interleave(2, 2).repeat_interleave(2, 3)  # (n, 1, 16, 16)
    ramp = torch.linspace(-0.5, 0.5, 16)
    shading = down * ramp[:, None] + across * ramp
    strength = 0.4 + 0.4 * torch.rand(len(images), 1, 1, 1, generator=draw)
    on, off = (torch.tensor(colour).view(1, 3, 1, 1) for colour in (stroke, ground))
    return (off + large * (on - off) + strength * shading).clamp(0, 1)
