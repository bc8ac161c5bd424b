"""Embed: items in, one encoded matrix and one status per item out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from attar.encodings import Encoding
    from attar.errors import AttarError
    from attar.server.engine.models import Model, Models

Items = Sequence[str] | NDArray[np.generic]
Role = Literal["query", "passage"]
Truncation = Literal["error", "truncate"]


@dataclass(frozen=True, slots=True)
class Item:
    """How one item fared: `error` is None when its row is an embedding."""

    error: AttarError | None
    tokens: int
    truncated: bool


@dataclass(frozen=True, slots=True)
class Embedded:
    """One row per item, zeros where the item failed, and what the model did to get there."""

    vectors: NDArray[np.generic]  # (n, dims) in the encoding's dtype
    items: tuple[Item, ...]
    model: Model
    dims: int
    encoding: Encoding
    queue_s: float
    tokenize_s: float
    infer_s: float


async def embed(
    models: Models,
    *,
    items: Items,
    model: str = "",
    role: Role = "passage",
    dims: int | None = None,
    encoding: Encoding = "f32",
    truncation: Truncation = "truncate",
    deadline: float | None = None,
    wait: bool = False,
) -> Embedded:
    raise NotImplementedError
