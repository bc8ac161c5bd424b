"""Collections: named sets of vectors in one embedding space, searched by meaning."""

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from attar.errors import (
    AlreadyExists,
    AttarError,
    InvalidInput,
    LimitReached,
    NotFound,
    Replaced,
    SpaceMismatch,
    Unavailable,
)
from attar.values import (
    DEFAULT_LIMIT,
    DEFAULT_PAGE,
    Collection,
    PointId,
    Quantization,
    SearchMode,
    Snapshot,
    TextIndex,
)

from ..collections import filters
from ..collections.filters import Filter
from ..collections.store import (
    UNLIMITED,
    Description,
    Hit,
    Payload,
    Point,
    Search,
    Size,
    Store,
    check_ids,
    refuse_large_response,
)
from ..collections.text_index import check_queries, indexed_texts, require_text_index
from ..cooperative import off_the_loop, request_bytes
from ..disk import check_name
from ..engine.models import Models
from ..request_context import current
from .embed import Item, Items, Role, Truncation, embed
from .embedding_space import SpaceMember, model_for, query_encoder_for, query_model_for
from .hybrid_search import SCORES, Fusion, fuse
from .rerank import require_texts
from .reranked_search import Reranker, reranked

R = TypeVar("R")

_SLICE_QUERIES: Final = 16  # searched for at a time, between which the store does other calls
_SLICE_HITS: Final = 1000
_SLICE_TEXTS: Final = 4  # of up to 16 KiB each
_CURSOR: Final = 40  # characters: a letter, and a UUID or twenty digits

__all__ = [
    "Collection",
    "Collections",
    "Filter",
    "Hit",
    "Payload",
    "Point",
    "PointId",
    "Quantization",
    "SearchResults",
    "Snapshot",
]


@dataclass(frozen=True, slots=True)
class Upserted:
    """One status for each id: where there is no error, the point is durable."""

    items: tuple[Item, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class SearchResults:
    """One tuple of hits for each query, best first; empty where the query failed."""

    hits: tuple[tuple[Hit, ...], ...]
    items: tuple[Item, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Retrieved:
    """Points in the order of the request."""

    points: tuple[Point, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Scrolled:
    """A page of points in the order of ids; `cursor` is empty where it is the last."""

    points: tuple[Point, ...]
    cursor: str
    fingerprint: str


class Budget:
    """What one call's searches may still ask for and answer with, together."""

    def __init__(self, *, max_hits: int, max_bytes: int) -> None:
        """Begin with all of it."""
        self._max_hits = self._hits = max_hits
        self._max_bytes = self._bytes = max_bytes

    def ask(self, queries: int, search: Search) -> None:
        """Count the requested hits, before any work; raises `InvalidInput`."""
        self._hits -= queries * (search.limit + search.offset)
        if self._hits < 0:
            raise InvalidInput(
                f"limit and offset, times {queries} queries, are more hits than one call may ask"
                f" for (max_search_hits, {self._max_hits}); send fewer queries or a lower limit"
            )

    def count_hits(self, hits: Sequence[Hit]) -> None:
        """Count hits that were read; raises `InvalidInput` where the answer would be too large."""
        self._bytes -= sum(hit.response_bytes for hit in hits)
        refuse_large_response(self._max_bytes - self._bytes, self._max_bytes)


class Collections:
    """Every collection of a store, each bound to the space it was made for."""

    def __init__(
        self,
        store: Store,
        models: Models,
        *,
        max_collections: int = UNLIMITED,
        max_search_hits: int = UNLIMITED,
        max_answer_bytes: int = UNLIMITED,
        max_fit_bytes: int = UNLIMITED,
    ) -> None:
        """Use a store that is open; `damaged` says what in it could not be opened and why."""
        self._max_search_hits = max_search_hits
        self._max_answer_bytes = max_answer_bytes
        self._max_fit_bytes = max_fit_bytes
        self._models = models
        self._store = store
        self._max_collections = max_collections
        self._creating = asyncio.Lock()

    @property
    def damaged(self) -> dict[str, str]:
        """Which collections cannot be used, and why."""
        return {**self._store.damaged}

    def budget(self) -> Budget:
        """Give what one call's searches may ask for and answer with."""
        return Budget(max_hits=self._max_search_hits, max_bytes=self._max_answer_bytes)

    async def create(
        self,
        name: str,
        *,
        model: str = "",
        dims: int | None = None,
        quantization: Quantization = "none",
        text_index: TextIndex | None = None,
    ) -> Collection:
        """Make an empty collection for a model's embeddings, of one of the dims it declares.

        Quantised vectors choose the candidates of a search in an index; whole ones score them. With
        a `text_index` its points can be searched by keywords too.
        """
        check_name("collection", name)
        if (reason := self._store.damaged.get(name)) is not None:
            raise AlreadyExists(f"{reason}. Or choose another name")
        encoder = self._models[model].encoder
        encoder.manifest.require_encoder("a collection")
        width = encoder.dim if dims is None else dims
        if width not in encoder.dims:
            raise InvalidInput(
                f"dims must be one that {encoder.manifest.name} was trained for,"
                f" {list(encoder.dims)}; got {dims}"
            )
        description = Description(
            name,
            encoder.manifest.name,
            encoder.fingerprint,
            width,
            quantization,
            text_index=text_index,
        )
        async with self._creating:
            await self._refuse_more(name)
            await self._store.create(description)
        return _info(description, Size(0, 0))  # another caller may have deleted it by now

    async def delete(self, name: str) -> None:
        """Remove a collection and its files; this is also the way to be rid of a damaged one."""
        await self._store.delete(name)

    async def list(self) -> tuple[Collection, ...]:
        """Describe every collection that can be used, by name."""
        return await self._of_usable(self.get)

    async def descriptions(self) -> tuple[Description, ...]:
        """Give what every collection that can be used was made for."""
        return await self._of_usable(self._store.describe)

    async def get(self, name: str) -> Collection:
        """Describe a collection."""
        description = await self._store.describe(name)
        return _info(description, await self._store.size(description))

    async def upsert(
        self,
        name: str,
        *,
        ids: Sequence[PointId],
        payloads: Sequence[Payload] | None = None,
        items: Items | None = None,
        vectors: NDArray[np.float32] | None = None,
        fingerprint: str = "",
        truncation: Truncation = "truncate",
        all_or_nothing: bool = False,
        deadline: float | None = None,
        wait: bool = False,
    ) -> Upserted:
        """Add points, or replace those of the same id: items to embed, or vectors of a known space.

        The points are embedded first and then written as one, vectors and payloads together: they
        are all there and durable when this returns, and none is if the write fails. An item that
        cannot be embedded fails alone and is not written, or with `all_or_nothing` fails the call,
        before anything is written. `fingerprint` says in which space `vectors` are: there it must
        be given.
        """
        description = await self._store.describe(name)
        payloads = [{}] * len(ids) if payloads is None else payloads
        given = _one_input(items, vectors)
        if not len(ids) == len(given) == len(payloads):
            raise InvalidInput(
                f"ids and payloads and items or vectors must be as many; got {len(ids)},"
                f" {len(payloads)} and {len(given)}"
            )
        await _apart(lambda: (check_ids(ids), indexed_texts(description, payloads)))
        rows, statuses = await self._vectors(
            description,
            items,
            vectors,
            fingerprint=fingerprint,
            role="passage",
            truncation=truncation,
            deadline=deadline,
            wait=wait,
            all_or_nothing=all_or_nothing,
        )
        good = [i for i, item in enumerate(statuses) if item.error is None]
        if good:
            await self._store.upsert(
                description, [ids[i] for i in good], rows[good], [payloads[i] for i in good]
            )
        return Upserted(statuses, description.fingerprint)

    async def search(
        self,
        name: str,
        *,
        items: Items | None = None,
        vectors: NDArray[np.float32] | None = None,
        ids: Sequence[PointId] | None = None,
        fingerprint: str = "",
        model: str = "",
        limit: int = DEFAULT_LIMIT,
        offset: int = 0,
        filter: Filter | None = None,
        score_threshold: float | None = None,
        with_payload: bool = True,
        exact: bool = False,
        role: Role = "query",
        truncation: Truncation = "truncate",
        deadline: float | None = None,
        budget: Budget | None = None,
        mode: SearchMode = "dense",
        fusion: Fusion = Fusion(),  # noqa: B008 (it is frozen)
        reranker: Reranker | None = None,
    ) -> SearchResults:
        """Give each query's `limit` most similar points after the `offset` most similar.

        Queries are items to embed, vectors, or the ids of points, which do not find themselves.
        `model` embeds the items, by default the collection's own. Another model, or vectors of
        another space, are taken where a served bundle of that space declares the collection's in
        `compatible_with`; SpaceMismatch otherwise.

        With `mode` "keyword" the points are ranked by BM25 of the words of the items, which are
        texts and are not embedded; with "hybrid" by both, through `fusion`. Both need a collection
        with a text index.

        Scores are cosine similarities, or what `mode` says; `score_threshold` is the lowest that
        counts. Without `exact` an index, once there is one, may miss a few of the best. A query
        that cannot be embedded, or whose point is not there, fails alone. Searches of one call
        share a `budget`; `InvalidInput` where it does not suffice.

        A `reranker` ranks its candidates of each text anew; the page is of those.
        """
        _check_model(model, items, mode)
        queries = [] if reranker is None and mode == "dense" else _texts(items, mode)
        description = await self._store.describe(name)
        budget = budget or self.budget()
        search = Search(
            limit=limit if reranker is None else reranker.candidates,
            offset=offset if reranker is None else 0,
            where=await _apart(lambda: filters.read(filter)),
            score_threshold=score_threshold,
            with_payload=with_payload or reranker is not None,
            exact=exact,
        )
        if reranker is not None:
            chosen = self._models.get(reranker.model, reranker.version)
            require_texts(chosen.encoder.manifest)  # before any work
        if ids is not None:
            if items is not None or vectors is not None:
                raise InvalidInput("give one of items, vectors and ids")
            return await self._similar(description, ids, search, budget)
        if mode != "dense":
            require_text_index(description)
            check_queries(queries)
        if mode == "keyword":
            budget.ask(len(queries), search)
            current().begin(len(queries))
            statuses = (Item(None, 0, truncated=False),) * len(queries)
            hits = await self._by_keyword(description, queries, search, budget)
        else:
            wide = search if mode == "dense" else _candidates(search, fusion)
            rankings = 1 if mode == "dense" else 2
            budget.ask(rankings * len(_one_input(items, vectors)), wide)
            rows, statuses = await self._vectors(
                description,
                items,
                vectors,
                fingerprint=fingerprint,
                role=role,
                truncation=truncation,
                deadline=deadline,
                wait=False,
                queries=True,
                model=model,
            )
            good = [i for i, item in enumerate(statuses) if item.error is None]
            found = await self._in_slices(description, rows[good], wide, budget)
            if mode == "hybrid":
                keyword = await self._by_keyword(
                    description, [queries[i] for i in good], wide, budget
                )
                found = [
                    await self._page(description, fuse(*both, fusion), search, budget)
                    for both in zip(found, keyword, strict=True)
                ]
            by_query = dict(zip(good, found, strict=True))
            hits = [by_query.get(i, []) for i in range(len(statuses))]
        if reranker is not None:
            pages, statuses = await reranked(
                self._models,
                reranker,
                queries,
                hits,
                statuses,
                page=slice(offset, offset + limit),
                score=SCORES[mode],
                with_payload=with_payload,
                truncation=truncation,
                deadline=deadline,
            )
            return SearchResults(tuple(pages), statuses, description.fingerprint)
        return SearchResults(tuple(map(tuple, hits)), statuses, description.fingerprint)

    async def retrieve(
        self, name: str, ids: Sequence[PointId], *, with_vectors: bool = False
    ) -> Retrieved:
        """Give those of the points that exist, in the order of `ids`."""
        description = await self._store.describe(name)
        points = await self._store.retrieve(
            description, ids, with_vectors=with_vectors, max_bytes=self._max_answer_bytes
        )
        return Retrieved(tuple(points), description.fingerprint)

    async def scroll(
        self,
        name: str,
        *,
        filter: Filter | None = None,
        limit: int = DEFAULT_PAGE,
        cursor: str = "",
        with_vectors: bool = False,
    ) -> Scrolled:
        """Give a page of the points that match, by id; the next begins at the answer's `cursor`.

        A point that is there from the first page to the last is on exactly one of them. A page has
        fewer than `limit` points where more would make too large an answer.
        """
        description = await self._store.describe(name)
        page = await self._store.scroll(
            description,
            where=await _apart(lambda: filters.read(filter)),
            limit=limit,
            start=_from_cursor(cursor),
            with_vectors=with_vectors,
            max_bytes=self._max_answer_bytes,
        )
        following = "" if page.following is None else _to_cursor(page.following)
        return Scrolled(page.points, following, description.fingerprint)

    async def delete_points(self, name: str, ids: Sequence[PointId]) -> None:
        """Remove those of the points that exist; durable when this returns."""
        await self._store.delete_points(await self._store.describe(name), ids)

    async def delete_matching(self, name: str, filter: Filter) -> None:
        """Remove the points that match a filter, which must say something."""
        if not filter:
            raise InvalidInput("filter is empty; to remove every point delete the collection")
        where = await _apart(lambda: filters.read(filter))
        await self._store.delete_matching(await self._store.describe(name), where)

    async def count(self, name: str, *, filter: Filter | None = None) -> int:
        """Count the points that match."""
        where = await _apart(lambda: filters.read(filter))
        return await self._store.count(await self._store.describe(name), where)

    async def optimize(self, name: str) -> Collection:
        """Build a collection's index and describe it once it is in use.

        Reads and writes go on. So does the build when the caller leaves; a second call joins it.
        """
        await self._store.optimize(await self._store.describe(name))
        return await self.get(name)

    async def snapshot(self, name: str) -> Snapshot:
        """Keep a collection as it is now; durable when this returns."""
        return await self._store.snapshot(await self._store.describe(name))

    async def snapshots(self, name: str) -> tuple[Snapshot, ...]:
        """List a collection's snapshots, oldest first, also when it was deleted since."""
        return tuple(await self._store.snapshots(name))

    async def restore(
        self, name: str, snapshot: str, *, to: str = "", replace: bool = False
    ) -> Collection:
        """Make the collection `to`, by default `name`, what `name` was when the snapshot was made.

        It is there as it was before, or as the snapshot has it, whatever happens meanwhile.
        """
        target = to or name
        if snapshot not in [known.id for known in await self._store.snapshots(name)]:
            raise NotFound(
                f"snapshot {snapshot[:80]!r} of collection {name} is not there; list them"
            )
        async with self._creating:
            await self._refuse_more(target)
            restored = await self._store.restore(name, snapshot, to=target, replace=replace)
        return _info(*restored)  # another caller may have deleted it by now

    async def delete_snapshot(self, name: str, snapshot: str) -> None:
        """Remove a snapshot."""
        await self._store.delete_snapshot(name, snapshot)

    async def all_vectors(
        self, name: str, *, check: Callable[[Description, int], object]
    ) -> tuple[Description, NDArray[np.float32]]:
        """Give what a collection was made for and every vector in it: (points, dims), unit rows.

        `check` is called before, with the number of points, and may refuse them.

        The points count as items of the key, and twice their bytes as those of what is in work:
        once here and once on their way here, or in what is then fitted. Raises `InvalidInput` where
        they take more memory than a fit may.
        """
        description = await self._store.describe(name)
        points = (await self._store.size(description)).points
        check(description, points)
        if (size := 4 * points * description.dims) > self._max_fit_bytes:
            raise InvalidInput(
                f"collection {name} has {points} points, whose vectors take {size} bytes, more than"
                f" max_fit_bytes, {self._max_fit_bytes}; fit on a collection of some of them"
            )
        current().begin(points)
        current().hold(2 * size)
        # Those that come from now on are not held.
        return description, await self._store.vectors(description, limit=points)

    async def close(self) -> None:
        """Flush and close every collection."""
        await self._store.close()

    async def _of_usable(self, give: Callable[[str], Awaitable[R]]) -> tuple[R, ...]:
        """Give that of every collection that can be used, but for those that go meanwhile."""
        result = []
        for name in await self._store.names():
            if name in self._store.damaged:
                continue
            try:
                result.append(await give(name))
            except (NotFound, Replaced):
                continue
            except Unavailable:
                if name not in self._store.damaged:
                    raise
        return tuple(result)

    async def _refuse_more(self, name: str) -> None:
        names = await self._store.names()
        if name not in names and len(names) >= self._max_collections:
            raise LimitReached(
                f"{len(names)} collections are there, the limit; delete one, or raise"
                " max_collections"
            )

    async def _in_slices(
        self, description: Description, rows: NDArray[np.float32], search: Search, budget: Budget
    ) -> builtins.list[builtins.list[Hit]]:
        """Search for a few queries at a time: other calls go between, and hits are counted."""
        size = max(1, min(_SLICE_QUERIES, _SLICE_HITS // (search.limit + search.offset)))
        results = list[builtins.list[Hit]]()
        for first in range(0, len(rows), size):
            part = await self._store.search(description, rows[first : first + size], search)
            for hits in part:
                budget.count_hits(hits)
            results += part
        return results

    async def _by_keyword(
        self, description: Description, texts: Sequence[str], search: Search, budget: Budget
    ) -> builtins.list[builtins.list[Hit]]:
        """Search by the words of a few queries at a time, as `_in_slices` does by vectors."""
        results = list[builtins.list[Hit]]()
        for first in range(0, len(texts), _SLICE_TEXTS):
            some = texts[first : first + _SLICE_TEXTS]
            part = await self._store.keyword_search(description, some, search)
            for hits in part:
                budget.count_hits(hits)
            results += part
        return results

    async def _page(
        self, description: Description, fused: Sequence[Hit], search: Search, budget: Budget
    ) -> builtins.list[Hit]:
        """Give the page of a fused ranking that a search asks for, with payloads where it does.

        A point that was deleted since it was ranked is left out.
        """
        lowest = -np.inf if search.score_threshold is None else search.score_threshold
        good = [hit for hit in fused if hit.score >= lowest]
        page = good[search.offset : search.offset + search.limit]
        if not search.with_payload or not page:
            return page
        points = {
            point.id: point
            for point in await self._store.retrieve(
                description,
                [hit.id for hit in page],
                with_vectors=False,
                max_bytes=self._max_answer_bytes,
            )
        }
        whole = [
            replace(hit, payload=point.payload, payload_bytes=point.payload_bytes)
            for hit in page
            if (point := points.get(hit.id)) is not None
        ]
        budget.count_hits(whole)
        return whole

    async def _similar(
        self, description: Description, ids: Sequence[PointId], search: Search, budget: Budget
    ) -> SearchResults:
        """Search by the vectors of points; each is left out of its own hits."""
        wanted = await _apart(lambda: check_ids(ids))
        budget.ask(len(wanted), search)
        current().begin(len(wanted))
        points = await self._store.retrieve(
            description, wanted, with_vectors=True, with_payload=False
        )
        rows = {point.id: point.vector for point in points if point.vector is not None}
        # One more from the first on: a point is among its own hits, if it passes the filter.
        wider = Search(
            limit=search.limit + search.offset + 1,
            where=search.where,
            score_threshold=search.score_threshold,
            with_payload=search.with_payload,
            exact=search.exact,
        )
        hits: dict[PointId, tuple[Hit, ...]] = {}
        if rows:
            neighbours = await self._in_slices(
                description, np.stack([*rows.values()]), wider, budget
            )
            for point_id, best in zip(rows, neighbours, strict=True):
                others = [hit for hit in best if hit.id != point_id]
                hits[point_id] = tuple(others[search.offset : search.offset + search.limit])
        statuses = tuple(
            Item(None if point_id in rows else _no_point(point_id, description), 0, truncated=False)
            for point_id in wanted
        )
        everyone = tuple(hits.get(point_id, ()) for point_id in wanted)
        return SearchResults(everyone, statuses, description.fingerprint)

    async def _vectors(
        self,
        description: Description,
        items: Items | None,
        vectors: NDArray[np.float32] | None,
        *,
        fingerprint: str,
        role: Role,
        truncation: Truncation,
        deadline: float | None,
        wait: bool,
        all_or_nothing: bool = False,
        queries: bool = False,
        model: str = "",
    ) -> tuple[NDArray[np.float32], tuple[Item, ...]]:
        """Give a row for each item or vector, all of the collection's space, or refuse.

        Only `queries` may be of another space, one whose bundle declares the collection's.
        """
        if vectors is not None:
            if not fingerprint:
                raise InvalidInput(
                    "vectors come with the fingerprint of their space, which every answer that"
                    " carries embeddings has; got none"
                )
            rows = self._rows(description, vectors, fingerprint, queries=queries)
            current().begin(len(rows))
            return rows, (Item(None, 0, truncated=False),) * len(vectors)
        member = member_of(description)
        chosen = (
            query_model_for(self._models, member, model)
            if model
            else model_for(self._models, member)
        )
        embedded = await embed(
            self._models,
            items=items if items is not None else [],
            model=chosen.name,
            version=chosen.version,
            role=role,
            dims=description.dims,
            truncation=truncation,
            deadline=deadline,
            wait=wait,
            all_or_nothing=all_or_nothing,
        )
        return embedded.vectors, embedded.items

    def _rows(
        self,
        description: Description,
        vectors: NDArray[np.float32],
        fingerprint: str,
        *,
        queries: bool,
    ) -> NDArray[np.float32]:
        """Cut vectors to the collection's dims; raises SpaceMismatch where they are not to meet."""
        if fingerprint == description.fingerprint:
            return self._cut(description, vectors)
        if not queries:
            raise SpaceMismatch(
                f"collection {description.name} is in the space {description.fingerprint}, and the "
                f"vectors are of {fingerprint}; make a new collection and embed again"
            )
        encoder = query_encoder_for(self._models, member_of(description), fingerprint)
        if description.dims not in encoder.dims:
            raise InvalidInput(
                f"vectors of {encoder.manifest.name} may have the widths {list(encoder.dims)}, and "
                f"collection {description.name} has {description.dims}; search one of those widths"
            )
        return vectors[:, : description.dims] if vectors.shape[1] == encoder.dim else vectors

    def _cut(self, description: Description, vectors: NDArray[np.float32]) -> NDArray[np.float32]:
        """Cut wider vectors to the collection's dims, where their model was trained for that."""
        width = vectors.shape[1]
        if width <= description.dims:
            return vectors
        try:
            encoder = model_for(self._models, member_of(description)).encoder
        except AttarError:
            return vectors  # the store refuses another width
        return vectors[:, : description.dims] if width == encoder.dim else vectors


def _candidates(search: Search, fusion: Fusion) -> Search:
    """Give the search for the best of one ranking, of which a fusion keeps a page."""
    return replace(
        search,
        limit=max(fusion.candidates, search.limit + search.offset),
        offset=0,
        score_threshold=None,
        with_payload=False,
    )


def _info(description: Description, size: Size) -> Collection:
    return Collection(
        name=description.name,
        model=description.model,
        fingerprint=description.fingerprint,
        dims=description.dims,
        points=size.points,
        quantization=description.quantization,
        indexed=size.indexed,
        text_index=description.text_index,
    )


def member_of(description: Description) -> SpaceMember:
    """Give a collection as a member of its embedding space."""
    return SpaceMember("collection", description.name, description.model, description.fingerprint)


def _one_input(items: Items | None, vectors: NDArray[np.float32] | None) -> Items:
    if (items is None) == (vectors is None):
        raise InvalidInput("give either items to embed or vectors, and not both")
    return vectors if items is None and vectors is not None else items if items is not None else []


def _check_model(model: str, items: Items | None, mode: SearchMode) -> None:
    """Refuse a model for queries that nothing embeds."""
    if model and mode == "keyword":
        raise InvalidInput(
            f"model is {model!r:.80}, and a keyword search embeds nothing; leave it out"
        )
    if model and items is None:
        raise InvalidInput(
            f"model is {model!r:.80}, which embeds items, and the queries are embedded already;"
            " leave it out"
        )


def _texts(items: Items | None, mode: SearchMode) -> Sequence[str]:
    """Give queries that are texts, which alone can be ranked by; InvalidInput for others."""
    texts = [item for item in (() if items is None else items) if isinstance(item, str)]
    if items is None or len(texts) < len(items):
        if mode != "dense":
            raise InvalidInput(
                f"a {mode} search ranks points by the words of the queries; give texts, or search"
                " with mode dense"
            )
        raise InvalidInput(
            "rerank ranks points by the texts of the queries; give texts, or leave rerank out"
        )
    return texts


def _no_point(point: PointId, description: Description) -> AttarError:
    return NotFound(f"no point {point} in collection {description.name}; upsert it first")


async def _apart(job: Callable[[], R]) -> R:
    """Do what grows with the request in a thread, where it is a long one."""
    return await off_the_loop(request_bytes(), job)


def _to_cursor(point: PointId) -> str:
    return f"{'n' if isinstance(point, int) else 'u'}{point}"


def _from_cursor(cursor: str) -> PointId | None:
    if not cursor:
        return None
    if len(cursor) > _CURSOR:
        raise InvalidInput(
            f"cursor has {len(cursor)} characters; it must be the one of the page before"
        )
    kind, rest = cursor[0], cursor[1:]
    try:
        (point,) = check_ids([int(rest) if kind == "n" else rest])
    except ValueError:  # InvalidInput is one
        point = None
    if point is None or kind not in "nu":
        raise InvalidInput(f"cursor must be the one of the page before; got {cursor!r:.80}")
    return point
