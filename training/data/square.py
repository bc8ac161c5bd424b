"""Square images: the side of a source's, and a source turned by a quarter."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attar.errors import InvalidInput

from .source import Rows, Source, subset


def side_of(data: Source) -> int:
    """Give the side of a source's images; raises InvalidInput where they are not square."""
    height, width = data.train[torch.tensor([0])].shape[-2:]
    if height != width:
        raise InvalidInput(
            f"the recipe learns from square images; got {height} x {width} pixels: cut and resize "
            f"them by side={min(height, width)} as they are read (--read), or another side"
        )
    return height


def sideways(data: Source) -> Source:
    """Give a source with all images turned by a quarter."""
    test = None if data.test is None else _Turned(data.test)
    return replace(data, train=_Turned(data.train), test=test)


def sideways_sample(data: Source, target: int) -> Source:
    """Give the first `target` training images turned by a quarter, and all test images.

    Raises InvalidInput for a target below one.
    """
    if target < 1:
        raise InvalidInput(f"target must be at least 1; got {target}")
    rows = torch.arange(min(target, len(data.train)))
    labels = None if data.train_labels is None else data.train_labels[: len(rows)]
    turned = sideways(data)
    return replace(turned, train=subset(turned.train, rows), train_labels=labels)


def upright_then_sideways(data: Source) -> Source:
    """Give a source's training images twice, without labels: upright, then turned by a quarter."""
    return Source(train=_Both(data.train, _Turned(data.train)))


@dataclass(frozen=True, slots=True)
class _Turned:
    items: Rows

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        return self.items[rows].rot90(1, (-2, -1))


@dataclass(frozen=True, slots=True)
class _Both:
    first: Rows
    second: Rows

    def __len__(self) -> int:
        return len(self.first) + len(self.second)

    def __getitem__(self, rows: Tensor, /) -> Tensor:
        ahead = len(self.first)
        late = rows >= ahead
        return torch.where(
            late.view(-1, 1, 1, 1), self.second[rows % ahead], self.first[rows % ahead]
        )
