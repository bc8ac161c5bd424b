"""What is kept on disk: collections, detectors and classifiers, opened together."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Self

from ..collections.factory import open_store
from ..engine.models import Models
from ..limits.head_capacity import Capacity
from ..settings import Settings
from .anomaly import Anomaly
from .classification import Classification
from .collections import Collections
from .embedding_space import Orphans
from .fit_queue import FitQueue


@dataclass(frozen=True, slots=True)
class Stored:
    """The use cases that read and write the data folder, and what no model serves any more."""

    collections: Collections
    anomaly: Anomaly
    classification: Classification
    orphans: Orphans

    @classmethod
    async def open(
        cls, settings: Settings, models: Models, stack: AsyncExitStack, *, capacity: Capacity
    ) -> Self:
        """Open all that the data folder has; `stack` closes it. Raises as `open_store` does.

        `capacity` counts the heads.
        """
        collections = Collections(
            await open_store(settings),
            models,
            max_collections=settings.max_collections,
            max_search_hits=settings.max_search_hits,
            max_answer_bytes=settings.max_answer_bytes,
            max_fit_bytes=settings.max_fit_bytes,
        )
        stack.push_async_callback(collections.close)
        fits = FitQueue()
        anomaly = await asyncio.to_thread(
            Anomaly,
            settings.data_dir,
            models,
            collections,
            fits=fits,
            max_heads=settings.max_heads,
            capacity=capacity,
            min_free_bytes=settings.min_free_bytes,
        )
        classification = await asyncio.to_thread(
            Classification,
            settings.data_dir,
            models,
            fits=fits,
            max_heads=settings.max_heads,
            capacity=capacity,
            min_free_bytes=settings.min_free_bytes,
        )
        orphans = Orphans(
            models, collections=collections, anomaly=anomaly, classification=classification
        )
        stack.callback(asyncio.create_task(orphans.keep(), name="look for orphans").cancel)
        return cls(collections, anomaly, classification, orphans)
