"""Models of tiny bundles, and observers that count what happens to them."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import attar
from attar.server.engine.model import Model
from attar.server.engine.models import Models
from attar.server.settings import Settings

LIMITS: Final = (
    *("max_queue_tokens", "max_item_bytes", "max_answer_bytes"),
    *("aging_s", "run_timeout_s", "warm_up_s", "heartbeat_s"),
)


class Tally:
    """An observer that counts."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.batches: list[tuple[int, int, int]] = []

    def batch(self, size: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        assert seconds >= 0
        self.batches.append((size, tokens, padded_tokens))

    def waited(self, seconds: float) -> None:
        assert seconds >= 0
        self.counts["waited"] += 1

    def rejected(self, reason: str) -> None:
        self.counts[reason] += 1

    def expired(self) -> None:
        self.counts["expired"] += 1

    def cancelled(self) -> None:
        self.counts["cancelled"] += 1

    def shared(self) -> None:
        self.counts["shared"] += 1

    def lost(self) -> None:
        self.counts["lost"] += 1


class Clumsy(Tally):
    """An observer with a bug, which is how a serve loop dies."""

    def batch(self, size: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        raise ZeroDivisionError(size, tokens, padded_tokens, seconds)


class Watch(Tally):
    """A tally that also counts the host step."""

    def tokenized(self, seconds: float, *, truncated: int) -> None:
        assert seconds >= 0
        self.counts["truncated"] += truncated
        self.counts["prepared"] += 1

    def cached(self, *, hits: int, misses: int) -> None:
        self.counts["hits"] += hits
        self.counts["misses"] += misses

    def embedded(self, embedding: NDArray[np.float32]) -> None:
        assert np.isfinite(embedding).all()
        self.counts["embedded"] += 1


def make(path: Path | Any, *, watch: Watch | None = None, items: int = 256, **more: Any) -> Model:
    """Put a bundle's encoder, or a spy, behind a batcher; what is not given is the setting's."""
    limits = {name: Settings.model_fields[name].default for name in LIMITS}
    changes = {"max_batch_tokens": 256, "max_queue_items": items, **more}
    return Model(
        attar.load(path, threads=1) if isinstance(path, Path) else path,
        observer=watch or Watch(),
        **limits | changes,
    )


@asynccontextmanager
async def started(*models: Model) -> AsyncIterator[Models]:
    """Start models, and close them at the end."""
    together = Models(models)
    await together.start()
    try:
        yield together
    finally:
        await together.close(drain=True)


async def until(true: Callable[[], bool]) -> None:
    """Wait for what is about to be true."""
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.005)
