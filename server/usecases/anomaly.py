"""Anomaly: detectors fitted on normal items, and calibrated scores for new ones."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput
from attar.heads import KnnAnomaly, Metric, held_out
from attar.values import DEFAULT_NEIGHBOURS, DEFAULT_TARGET_FPR, Detector

from ..collections.store import UNLIMITED, Description
from ..engine.models import Model, Models
from ..limits.head_capacity import Capacity
from ..request_context import current
from .collections import Collections, member_of
from .embed import Item, Items, Truncation, embed
from .embedding_space import model_for
from .fit_queue import FitQueue
from .head_store import Heads, HeadStore

MAX_NEIGHBOURS: Final = 100
"""The neighbours of a served detector: the work of each score grows with them."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """One score, p-value and verdict for each item; nan and False where the item failed."""

    scores: NDArray[np.float32]  # (n,) mean distance to the k nearest references
    p_values: NDArray[np.float32]  # (n,) conformal, see attar.heads.KnnAnomaly
    anomalies: NDArray[np.bool_]  # (n,)
    items: tuple[Item, ...]
    fingerprint: str
    threshold: float


class Anomaly(Heads[KnnAnomaly, Detector]):
    """Every detector under <data_dir>/anomaly."""

    def __init__(
        self,
        data_dir: Path,
        models: Models,
        collections: Collections,
        *,
        fits: FitQueue | None = None,
        max_heads: int = UNLIMITED,
        capacity: Capacity | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        """Read the detectors that are there, which blocks; `fits` are those of the server."""
        self._collections = collections
        self._fits = fits or FitQueue()
        super().__init__(
            HeadStore(
                data_dir / "anomaly",
                "detector",
                KnnAnomaly.from_bytes,
                max_heads=max_heads,
                capacity=capacity,
                reserve_bytes=min_free_bytes,
            ),
            _describe,
            kind="detector",
            of=KnnAnomaly,
            models=models,
        )

    async def fit(
        self,
        name: str,
        *,
        model: str = "",
        items: Items | None = None,
        collection: str | None = None,
        target_fpr: float = DEFAULT_TARGET_FPR,
        neighbours: int = DEFAULT_NEIGHBOURS,
        metric: Metric | None = None,
        truncation: Truncation = "truncate",
        deadline: float | None = None,
    ) -> Detector:
        """Fit a detector on normal items, or on every point of a collection.

        At most `target_fpr` of normal items will be called anomalies, see `KnnAnomaly`. Without a
        `metric` it is cosine where the model's embeddings have unit length, otherwise euclidean.
        Raises the first item's error if one cannot be embedded, `AlreadyExists` if the name is
        taken, and `InvalidInput` for euclidean distances of a collection whose model gives other
        lengths than one: a collection keeps directions alone.
        """
        self._head_store.refuse_taken(name)
        if (items is None) == (collection is None):
            raise InvalidInput("give either items or a collection to fit on, and not both")
        _refuse_many(neighbours)
        if collection is not None:
            async with self._fits.slot():  # which the vectors wait for

                def check(of: Description, points: int) -> None:
                    self._model_of(of, model, metric)
                    self._refuse_large(name, points, of.dims, neighbours, target_fpr)

                of, vectors = await self._collections.all_vectors(collection, check=check)
                chosen = self._model_of(of, model, metric)
                head = await self._fitted(chosen, vectors, neighbours, target_fpr, metric)
                await self._head_store.put(name, head)
        elif items is not None:
            dims = self._models[model].encoder.dim
            self._refuse_large(name, len(items), dims, neighbours, target_fpr)
            embedded = await embed(
                self._models,
                model=model,
                items=items,
                truncation=truncation,
                deadline=deadline,
                wait=True,
                all_or_nothing=True,
            )
            async with self._fits.slot():
                current().hold(embedded.vectors.nbytes)  # which are made again
                head = await self._fitted(
                    embedded.model, embedded.vectors, neighbours, target_fpr, metric
                )
                await self._head_store.put(name, head)
        return _describe(name, head)

    def _refuse_large(
        self, name: str, items: int, dims: int, neighbours: int, target_fpr: float
    ) -> None:
        """Refuse too few items, and a detector that has no room, before any work."""
        apart = held_out(items, neighbours, target_fpr)
        self._head_store.refuse_large(name, 4 * ((items - apart) * dims + apart))

    def _model_of(self, collection: Description, model: str, metric: Metric | None) -> Model:
        """Give the model of a collection; raises InvalidInput where a fit asks for another."""
        name = collection.name
        chosen = model_for(self._models, member_of(collection))
        if model and model != chosen.name:
            raise InvalidInput(f"collection {name} is of model {chosen.name}; got model {model}")
        if metric != "cosine" and not chosen.encoder.manifest.output.normalized:
            raise InvalidInput(
                f"collection {name} keeps directions alone, and the lengths of model"
                f" {chosen.name}'s embeddings are not one; fit on items, or with metric='cosine'"
            )
        return chosen

    async def _fitted(
        self,
        model: Model,
        vectors: NDArray[np.float32],
        neighbours: int,
        target_fpr: float,
        metric: Metric | None,
    ) -> KnnAnomaly:
        usual: Metric = "cosine" if model.encoder.manifest.output.normalized else "euclidean"
        return await self._fits.run(
            lambda refuse_left: KnnAnomaly.fit(
                vectors,
                model=model.name,
                fingerprint=model.encoder.fingerprint,
                neighbours=neighbours,
                target_fpr=target_fpr,
                metric=metric or usual,
                between=refuse_left,
            )
        )

    async def score(
        self,
        name: str,
        *,
        items: Items,
        truncation: Truncation = "truncate",
        deadline: float | None = None,
    ) -> Scored:
        """Score items; one that cannot be embedded fails alone.

        `name` is that of a fit, or MODEL/HEAD for a detector of that model's bundle.
        """
        head, model = self._head_and_model(name)
        _refuse_many(head.neighbours)  # that of a bundle may have any
        embedded = await embed(
            self._models,
            model=model.name,
            version=model.version,
            items=items,
            dims=head.references.shape[1],
            truncation=truncation,
            deadline=deadline,
        )
        good = embedded.good
        scores = np.full(len(embedded.items), np.nan, np.float32)
        p_values = scores.copy()
        anomalies = np.zeros(len(scores), np.bool_)

        def score() -> None:
            fingerprint = embedded.model.encoder.fingerprint
            scores[good] = head.score(embedded.vectors[good], fingerprint=fingerprint)
            p_values[good] = head.p_values(scores[good])
            anomalies[good] = head.anomalies(scores[good])

        await asyncio.to_thread(score)
        return Scored(scores, p_values, anomalies, embedded.items, head.fingerprint, head.threshold)


def _refuse_many(neighbours: int) -> None:
    if neighbours > MAX_NEIGHBOURS:
        raise InvalidInput(
            f"neighbours is {neighbours}; a served detector takes at most {MAX_NEIGHBOURS}"
        )


def _describe(name: str, head: KnnAnomaly) -> Detector:
    return Detector(
        name,
        head.model,
        head.fingerprint,
        head.neighbours,
        len(head.references),
        len(head.calibration),
        head.target_fpr,
        head.threshold,
        head.metric,
    )
