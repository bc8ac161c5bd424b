"""Rebuild a corrupted image and know it again: group-masked autoencoding beside contrast.

SiT, Atito et al. 2021, arXiv:2104.03602.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..distributed import gather, weight
from ..encoders.vit import VitEncoder
from ..method import Method, Metrics
from ..objectives.info_nce import info_nce
from ..objectives.masked import masked_values
from ..schedules import Schedule
from ..targets import Ema
from .asymmetric import Chain


class GroupMaskedBatch(NamedTuple):
    """One view of each image: as it is, as the student sees it, and what is hidden there."""

    clean: Tensor  # (n, channels, side, side)
    seen: Tensor  # the same
    hidden: Tensor  # (n, side, side) bool


class GroupMasked(Method[tuple[GroupMaskedBatch, GroupMaskedBatch]]):
    """A transformer of patches, a projector, and a linear map from a patch's state to its pixels.

    Of either view the student sees the corrupted form: it rebuilds what is hidden and picks the
    slow copy's projection of the other view, clean, from among the batch's. `rebuild` and
    `contrast` weigh the two; at 0 a part is left out. Logs both.
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
        self.pixels = nn.Linear(encoder.width, encoder.shape.channels * encoder.shape.patch**2)
        self.slow = Ema(Chain(encoder, projector), momentum)
        self.temperature = temperature
        self.rebuild = rebuild
        self.contrast = contrast

    def loss(
        self,
        batch: tuple[GroupMaskedBatch, GroupMaskedBatch],
        step: int,
    ) -> tuple[Tensor, Metrics]:
        """Add up the two parts, each averaged over the views."""
        rebuilt, queries = [], []
        for view in batch:
            states = self.encoder.states(self.encoder.tokens(view.seen))
            hidden = view.hidden[:, None].expand_as(view.clean)
            image = self._image(self.pixels(self.encoder.own(states)))
            apart = masked_values(image, view.clean, hidden, power=1)
            rebuilt.append(apart * weight(view.hidden.sum()))
            queries.append(gather(self.projector(self.encoder.embed(states))))
        keys = [gather(self.slow(view.clean)) for view in batch]
        known = [
            info_nce(query, key, temperature=self.temperature) * 2 * self.temperature
            for query, key in zip(queries, keys[::-1], strict=True)
        ]
        parts = {"rebuilt": torch.stack(rebuilt).mean(), "known": torch.stack(known).mean()}
        loss = self.rebuild * parts["rebuilt"] + self.contrast * parts["known"]
        return loss, {name: part.detach() for name, part in parts.items()}

    def after_step(self, step: int) -> None:
        """Move the slow copy."""
        self.slow.update(Chain(self.encoder, self.projector), step)

    def _image(self, patches: Tensor) -> Tensor:
        """Lay (n, patches, channels patch²) out as images."""
        shape = self.encoder.shape
        grid = shape.side // shape.patch
        sizes = (len(patches), grid, grid, shape.channels, shape.patch, shape.patch)
        cells = patches.view(sizes)  # (n, down, across, channels, patch, patch)
        return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
