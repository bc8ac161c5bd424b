"""A view: one augmented or masked version of a batch, with the parameters that made it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

Data = TypeVar("Data")


@dataclass(frozen=True, slots=True)
class View(Generic[Data]):
    """What the encoder sees, and, one row per item, what was done to make it."""

    data: Data
    params: Mapping[str, Tensor]
