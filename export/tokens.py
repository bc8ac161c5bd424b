"""Token vectors of the torch encoder, which every variant's are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import NotSupported
from attar.inputs import Prepared, TensorInput, TextInput
from attar.manifest import TokenOutput
from attar.token_vectors import Grid, at_unit_length
from attar.training.encoders.encoder import without_tokens
from attar.training.sampler import evenly

TOKENS = "tokens"
ITEMS = 64
"""Items whose tokens are compared: hundreds or thousands of vectors."""
BATCH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenReference:
    """Some prepared items, and the encoder's vectors of their tokens at unit length, (m, dim)."""

    rows: Sequence[Prepared]
    vectors: NDArray[np.float32]
    grid: Grid | None

    @property
    def dim(self) -> int:
        """Give the width of a token vector."""
        return int(self.vectors.shape[1])

    @property
    def output(self) -> TokenOutput:
        """Give what the manifest says of them, but for their ranges."""
        return TokenOutput(name=TOKENS, dim=self.dim, grid=self.grid)


def refuse_without_tokens(encoder: object) -> None:
    """Raise NotSupported for an encoder without token vectors, by its name."""
    if getattr(encoder, "grid", None) is None and getattr(encoder, "token_dim", None) is None:
        raise NotSupported(without_tokens(encoder))


def token_reference(
    encoder: Any, host: TensorInput | TextInput, rows: Sequence[Prepared]
) -> TokenReference:
    """Run an encoder, which is in evaluation mode, on some of the prepared rows.

    Raises NotSupported for an encoder without token vectors.
    """
    refuse_without_tokens(encoder)
    grid: Grid | None = getattr(encoder, "grid", None)
    some = evenly(sorted(rows, key=lambda row: row.tokens), ITEMS)
    parts: list[NDArray[np.float32]] = []
    for start in range(0, len(some), BATCH):
        # Alone where shapes differ; texts of like length, so that padding wastes little.
        batch = some[start : start + BATCH]
        alike = len({host.key(row) for row in batch}) == 1
        for together in [batch] if alike else [[row] for row in batch]:
            arrays = [torch.from_numpy(array) for array in host.batch(together)]
            with torch.no_grad():
                vectors = encoder.with_tokens(*arrays)[1].numpy()
            for row, tokens in zip(together, vectors, strict=True):
                parts.append(tokens if grid else tokens[: row.tokens])
    return TokenReference(rows=some, vectors=at_unit_length(np.concatenate(parts)), grid=grid)
