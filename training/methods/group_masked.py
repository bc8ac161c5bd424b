"""Group-masked autoencoding with contrast: reconstruct a corrupted image, and match its other view.

SiT, Atito et al. 2021, arXiv:2104.03602; losses and heads as in the authors' code (main.py and
vision_transformer.py of github.com/Sara-Ahmed/SiT at e895aaf).
"""

from collections.abc import Callable
from typing import NamedTuple, Self, cast

import torch
from torch import Tensor, nn

from ..distributed import gather, weight
from ..encoders.vit import VitEncoder
from ..method import Method, Metrics
from ..objectives.info_nce import info_nce
from ..objectives.masked import masked_values
from ..schedules import Schedule
from ..targets import Ema
from ..views.image import ImageView
from ..views.masks import corrupt
from .asymmetric import Chain


class GroupMaskedBatch(NamedTuple):
    """One view of each image: clean, corrupted for the student, and which pixels are corrupted."""

    clean: Tensor  # (n, channels, side, side)
    corrupted: Tensor  # (n, channels, side, side)
    hidden: Tensor  # (n, side, side) bool

    @classmethod
    def of(cls, clean: Tensor, draw: torch.Generator, *, drop: float, foreign: float) -> Self:
        """Corrupt images in cells of an eighth of their side; see `views.masks.corrupt`."""
        cell = max(1, clean.shape[-1] // 8)
        view = corrupt(clean, draw, cell=cell, drop=drop, replace=foreign)
        return cls(clean, view.data, view.params["hidden"])

    @classmethod
    def two(cls, first: ImageView, second: ImageView) -> Callable[..., tuple[Self, Self]]:
        """Give the function that makes both views of images, and corrupts them as `of` does."""

        def view(images: Tensor, draw: torch.Generator, **shares: float) -> tuple[Self, Self]:
            clean = cls.of(first(images, draw).data, draw, **shares)
            return clean, cls.of(second(images, draw).data, draw, **shares)

        return view


class GroupMasked(Method[tuple[GroupMaskedBatch, GroupMaskedBatch]]):
    """A vision transformer, a projector, and a perceptron from a patch's state to its pixels.

    From the corrupted form of each view, the student reconstructs the corrupted pixels, and picks
    the target's projection of the clean other view from those of the batch; the target is an EMA
    copy, which is exported. The loss is

        rebuild x the mean absolute error + contrast x the sum of both directions' 2τ CE

    Logs both parts before their weights, as `rebuilt` and `known`.
    """

    least_items = 2

    encoder: VitEncoder

    def __init__(
        self,
        encoder: VitEncoder,
        projector: nn.Module,
        *,
        momentum: Schedule,
        temperature: float = 0.2,
        rebuild: float = 1.0,
        contrast: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.pixels = _pixels(encoder.width, encoder.shape.channels * encoder.shape.patch**2)
        self.target = Ema(Chain(encoder, projector), momentum)
        self.temperature = temperature
        self.rebuild = rebuild
        self.contrast = contrast

    @property
    def exported(self) -> nn.Module:
        """The EMA of the encoder, which the authors evaluate."""
        return cast("Chain", self.target.copy).encoder

    def loss(
        self,
        batch: tuple[GroupMaskedBatch, GroupMaskedBatch],
        step: int,
    ) -> tuple[Tensor, Metrics]:
        """Give the weighted sum of both losses."""
        errors, queries = [], []
        for view in batch:
            states = self.encoder.states(self.encoder.tokens(view.corrupted))
            hidden = view.hidden[:, None].expand_as(view.clean)
            image = self._image(self.pixels(self.encoder.own(states)))
            error = masked_values(image, view.clean, hidden, power=1)
            errors.append(error * weight(view.hidden.sum()))
            queries.append(gather(self.projector(self.encoder.embed(states))))
        keys = [gather(self.target(view.clean)) for view in batch]
        contrasts = [
            info_nce(query, key, temperature=self.temperature) * 2 * self.temperature
            for query, key in zip(queries, keys[::-1], strict=True)
        ]
        parts = {"rebuilt": torch.stack(errors).mean(), "known": torch.stack(contrasts).sum()}
        loss = self.rebuild * parts["rebuilt"] + self.contrast * parts["known"]
        return loss, {name: part.detach() for name, part in parts.items()}

    def after_step(self, step: int) -> None:
        """Update the target."""
        self.target.update(Chain(self.encoder, self.projector), step)

    def _image(self, patches: Tensor) -> Tensor:
        """Arrange (n, patches, channels patch²) as images (n, channels, side, side)."""
        shape = self.encoder.shape
        grid = shape.side // shape.patch
        sizes = (len(patches), grid, grid, shape.channels, shape.patch, shape.patch)
        cells = patches.view(sizes)  # (n, down, across, channels, patch, patch)
        return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def _pixels(width: int, numbers: int) -> nn.Sequential:
    """Make the head from the state of a patch to its pixels: three layers with GELU, and a map."""
    hidden = [layer for _ in range(3) for layer in (nn.Linear(width, width), nn.GELU())]
    return nn.Sequential(*hidden, nn.Linear(width, numbers))
