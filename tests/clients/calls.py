"""A client's calls: what comes is held to `attar.load`, and counted.

`python -m benchmarks.clients` starts the server, and says in ATTAR_SERVED where it is and which
bundles it serves.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attar

SERVED: Any = json.loads(os.environ["ATTAR_SERVED"])
TEXTS = ("the cat sat on the mat", "a dog ran", "the sun and the rain", "blue sky")
TOLERANCE = 1e-5


@dataclass(kw_only=True, slots=True)
class Counts:
    """What a client did: calls, vectors that came, those that were wrong, and tests that failed."""

    version: str
    calls: int = 0
    vectors: int = 0
    wrong_vectors: int = 0
    refusals: int = 0
    failures: int = 0


@cache
def encoder(model: str) -> Any:
    """Give the bundle that the server serves by that name, as a device loads it."""
    return attar.load(SERVED["bundles"][model], threads=1)


def expected(
    texts: Sequence[str], *, model: str = "tiny", role: str = "passage", dims: int | None = None
) -> NDArray[np.float32]:
    """Give the vectors of a device, shape (texts, dims)."""
    vectors: NDArray[np.float32] = encoder(model).embed(list(texts), role=role, dims=dims).vectors
    return vectors


class Client:
    """One client: the server that it calls, and what is counted of it."""

    url: str = SERVED["url"]
    target: str = SERVED["target"]
    alone: str = SERVED["alone"]
    """The HTTP address of a server of the tiny bundle alone, for requests that name no model."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def same(self, given: Any, texts: Sequence[str], **chosen: Any) -> None:
        """Hold the vectors of one call to a device's, which `chosen` says how to make."""
        own = expected(texts, **chosen)
        vectors = np.asarray(given, np.float32).reshape(len(texts), -1)
        self._counts.calls += 1
        self._counts.vectors += len(vectors)
        fits = vectors.shape == own.shape
        off = np.abs(vectors - own).max(axis=1) if fits else np.full(len(vectors), np.inf)
        self._counts.wrong_vectors += int(np.count_nonzero(~(off <= TOLERANCE)))
        assert fits, f"{vectors.shape} came, {own.shape} are a device's"
        assert off.max() <= TOLERANCE

    def call(self, given: Any) -> Any:
        """Count a call whose answer has no vectors, and give that answer."""
        self._counts.calls += 1
        return given

    def refused(self, call: Callable[[], object], *, error: type[Exception], match: str) -> None:
        """Hold a call to end in this client's own error, with the server's words."""
        self._counts.calls += 1
        with pytest.raises(error, match=match):
            call()
        self._counts.refusals += 1
