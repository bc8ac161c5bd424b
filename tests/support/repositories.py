"""A repository of bundles, served without a network."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attar
from attar.bundle import Bundle
from attar.server.engine.bundle_repository import Repository
from attar.server.engine.model import Model
from attar.server.engine.models import Models
from attar.server.usecases.embed import embed

from .models import Watch, make


@asynccontextmanager
async def served(
    folder: Path | None = None,
    *bundles: Path,
    watch_s: float = 0.0,
    opened: Callable[[Model], Model] = lambda model: model,
    **variants: str,
) -> AsyncIterator[Models]:
    """Serve a repository; `opened` may change what is opened from it."""

    def open_(path: Path, variant: str | None, /, *, content: str | None) -> Model:
        bundle = Bundle.open(path, content=content)
        return opened(make(attar.load(bundle, variant=variant, threads=1), watch=Watch()))

    models = Models(
        repository=Repository(
            open=open_, bundles=bundles, folder=folder, watch_s=watch_s, variants=variants
        )
    )
    await models.start()
    try:
        yield models
    finally:
        await models.close(drain=True)


def lines(models: Models) -> list[tuple[str, str, str]]:
    """Give the name, version and state of each model."""
    return [(entry.name, entry.version, entry.state) for entry in models.index()]


async def vector(models: Models, *, version: str = "") -> Any:
    """Give the embedding of one text."""
    return (await embed(models, items=["the cat"], version=version)).vectors[0]
