"""SIE: a part of the embedding that views do not change, and a part that changes predictably.

Garrido et al., ICML 2023, arXiv:2302.10283; dimensions as in the authors' code (src/models.py of
github.com/facebookresearch/SIE at 54541cf).
"""

from collections.abc import Callable
from copy import copy
from dataclasses import replace
from typing import ClassVar, Literal, NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from attar.errors import InvalidInput

from ..distributed import gather
from ..encoders.encoder import Projection, TensorEncoder
from ..method import Method, Metrics
from ..objectives.sie import sie
from ..views.image import ImageView
from ..views.view import View

Part: TypeAlias = Literal["all", "invariant", "equivariant"]


class SieBatch(NamedTuple):
    """Two views of each image, and the numbers of what turns the first into the second."""

    first: Tensor  # (n, channels, side, side)
    second: Tensor  # (n, channels, side, side)
    transformation: Tensor  # (n, k)

    @classmethod
    def two(cls, first: ImageView, second: ImageView) -> Callable[[Tensor, Generator], "SieBatch"]:
        """Give what makes both views of images, and the `transformation` between them."""

        def view(images: Tensor, draw: Generator) -> "SieBatch":
            one, other = first(images, draw), second(images, draw)
            return cls(one.data, other.data, transformation(one, other).to(one.data))

        return view


def transformation(first: View[Tensor], second: View[Tensor]) -> Float[Tensor, "n k"]:
    """Give the numbers of what turns the first view of each image into the second.

    Of affine views the six of the matrix between them, of crops the box of the second in the first
    (left, top, right, bottom, as shares of its sides) and whether one alone is mirrored, and with
    colours the four differences of the changes of colour.
    """
    one, other = first.params, second.params
    if "affine" in one:
        between: Tensor = other["affine"].double() @ torch.linalg.inv(one["affine"].double())
        between[:, :2, 2] /= first.data.shape[-1]
        return between[:, :2].flatten(1)
    low, high = one["crop"].double().view(-1, 2, 2).unbind(1)
    corners = other["crop"].double().view(-1, 2, 2)
    box = (corners - low[:, None]) / (high - low).clamp(min=1)[:, None]
    mirrored = (one["flipped"] ^ other["flipped"])[:, None].double()
    colours = [other["colour"] - one["colour"]] if first.data.shape[1] == 3 else []
    return torch.cat([box.flatten(1), mirrored, *colours], 1)


class Sie(Method[SieBatch]):
    """An encoder whose last `equivariant` dimensions, or half, follow what is done to an image.

    Each part has a projector, which `projector` makes for its dimensions. The invariant one gives
    the same for both views, and `predictor` turns the equivariant one of the first view into that
    of the second, given the transformation. What is exported has all dimensions or, by `part`,
    those of one. Logs how far the second's is from what is `predicted`, and from the first's,
    `unchanged`, as mean squares.
    """

    least_items: ClassVar[int] = 2

    encoder: TensorEncoder

    def __init__(
        self,
        encoder: TensorEncoder,
        projector: Callable[[int], nn.Module],
        predictor: nn.Module,
        *,
        equivariant: int | None = None,
        objective: Callable[[Tensor, Tensor, Tensor], Tensor] = sie,
        part: Part = "all",
    ) -> None:
        super().__init__()
        last = encoder.dim // 2 if equivariant is None else equivariant
        if not 0 < last < encoder.dim:
            raise InvalidInput(
                f"equivariant must be in [1, {encoder.dim - 1}], of {encoder.dim} dimensions; got "
                f"{last}"
            )
        self.encoder = encoder
        self.split = encoder.dim - last
        self.invariant, self.equivariant = projector(self.split), projector(last)
        self.predictor = predictor
        self.objective = objective
        self.selection = None if part == "all" else self._selection(part)

    @property
    def exported(self) -> nn.Module:
        """The encoder, or one that gives the chosen part and has the same weights otherwise."""
        if self.selection is None:
            return self.encoder
        chosen = copy(self.encoder)  # its layers are the encoder's own
        chosen._modules = {**self.encoder._modules, "project": self.selection}  # noqa: SLF001
        chosen.shape = replace(self.encoder.shape, dim=self.selection.dim)
        chosen.dim = self.selection.dim
        return chosen

    def loss(self, batch: SieBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the objective of both views' projections."""
        parts = []
        for view in (batch.first, batch.second):
            embedding = self.encoder(view)
            invariant = self.invariant(embedding[:, : self.split])
            parts.append((invariant, self.equivariant(embedding[:, self.split :])))
        predicted = self.predictor(parts[0][1], batch.transformation)
        first, second = (gather(torch.cat(part, 1)) for part in parts)
        error = nn.functional.mse_loss(predicted, parts[1][1]).detach()
        still = nn.functional.mse_loss(parts[0][1], parts[1][1]).detach()
        metrics: Metrics = {"predicted": error, "unchanged": still}
        return self.objective(first, second, gather(predicted)), metrics

    def _selection(self, part: Part) -> Projection:
        """Make the linear map to one part of the pooled features, which does not learn."""
        if not isinstance(self.encoder.project.map, nn.Identity):
            raise InvalidInput(
                "part chooses among pooled features; leave dim out, or take part=all"
            )
        width, split = self.encoder.dim, self.split
        rows = torch.eye(width)[:split] if part == "invariant" else torch.eye(width)[split:]
        selection = Projection(width, len(rows), normalized=False)
        selection.map = nn.Linear(width, len(rows))
        with torch.no_grad():
            selection.map.weight.copy_(rows)
            selection.map.bias.zero_()
        return selection.requires_grad_(requires_grad=False)
