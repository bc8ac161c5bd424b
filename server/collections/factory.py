"""The factory of stores: which engine keeps the collections, by the settings."""

import asyncio

from attar.errors import InvalidInput

from ..settings import Settings
from .edge_process import StoreProcess
from .store import Store


async def open_store(settings: Settings) -> Store:
    """Open Qdrant Edge under the data folder, or reach the cluster that `qdrant_url` names."""
    if settings.qdrant_url is None:
        return await asyncio.to_thread(
            StoreProcess,
            settings.data_dir / "collections",
            index_after=settings.index_after,
            reserve_bytes=settings.min_free_bytes,
            durability=settings.durability,
        )
    from .qdrant import QdrantStore

    return await QdrantStore.connect(
        settings.qdrant_url, grpc_port=settings.qdrant_grpc_port, api_key=_api_key(settings)
    )


def _api_key(settings: Settings) -> str:
    if settings.qdrant_api_key is not None:
        return settings.qdrant_api_key.get_secret_value()
    if settings.qdrant_api_key_file is None:
        return ""
    try:
        return settings.qdrant_api_key_file.read_text("utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"qdrant_api_key_file {settings.qdrant_api_key_file} cannot be read: {error}"
        ) from error
