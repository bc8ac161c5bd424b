"""A model: one encoder behind its batcher, ready as long as forward passes succeed."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Final, Never, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar import trial_inputs
from attar.encodings import Vectors
from attar.errors import (
    AttarError,
    BackendError,
    DeadlineExceeded,
    InputTooLong,
    InvalidInput,
    Unavailable,
)
from attar.heads import Head
from attar.inputs import (
    Items,
    Prepared,
    Priority,
    Role,
    TextPair,
    Truncation,
    identified,
    is_token_ids,
)
from attar.runtime import Encoder
from attar.token_vectors import Grid, Pooling

from .batcher import Batcher, Observer
from .cache import Cache, Key
from .small_jobs import CoalescingExecutor
from .statistics import Statistics, Tally

_LOG = logging.getLogger(__name__)

_LOOK_EVERY_S: Final = 1.0  # how soon a model that stopped answering is tried again
_RESTART_S: Final = 1.0
_AT_ONCE: Final = 64  # rows read from the cache, or stored, before others run on the loop
# Items of a call, and characters or numbers in them: one of more has a thread to itself, where it
# holds nobody up.
_SMALL_ITEMS: Final = 16
_SMALL_SIZE: Final = 2**14
_TOGETHER: Final = 64  # items; a call whose caller has left goes on with so many at most


class ModelObserver(Observer, Protocol):
    """What a model tells about its work: its batcher's, and the host step."""

    def tokenized(self, seconds: float, *, truncated: int) -> None:
        """Count one call's host step."""

    def cached(self, *, hits: int, misses: int) -> None:
        """Count one call's items that the cache had, and those that it lacked."""

    def embedded(self, embedding: NDArray[np.float32]) -> None:
        """Look at one of a call's new embeddings."""


@dataclass(frozen=True, slots=True)
class TokensOf:
    """A prepared item whose token vectors are wanted, and not its embedding."""

    prepared: Prepared
    pooling: Pooling
    grid: Grid | None

    @property
    def tokens(self) -> int:
        """What it costs a run."""
        return self.prepared.tokens

    @property
    def key(self) -> tuple[object, ...] | None:
        """Equal for those that may share a result."""
        one = self.prepared.key
        return (one, self.pooling, self.grid) if one else None


Wanted: TypeAlias = Prepared | TokensOf


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One item's embedding, or its token vectors, and the run they came from."""

    vector: NDArray[np.float32]  # (dim,); (tokens, token_dim) of TokensOf
    began: float  # perf_counter of its run, s; for a row of the cache, of its finding
    infer_s: float  # how long its whole batch ran; 0 for a row of the cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PreparedItems:
    """A call's items after the host's step, and what its thread counted of them."""

    each: list[Prepared | InvalidInput]
    good: list[Prepared]
    tokens: int  # of all, as far as they were counted
    good_tokens: int
    truncated: int


class Model:
    """One encoder and its batcher.

    It is ready after a forward pass has succeeded, and until one fails to: the run of a batch was
    given up, the batcher died, or a trial pass, made after `heartbeat_s` without
    calls, failed. Then it is tried every second, and the next success makes it ready again.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_batch_tokens: int,
        max_queue_items: int,
        max_queue_tokens: int,  # what bounds the wait
        max_item_bytes: int,
        max_answer_bytes: int,  # of a call; who makes it holds to it
        aging_s: float,
        run_timeout_s: float,
        warm_up_s: float,
        heartbeat_s: float,
        cache: Cache | None = None,
        observer: ModelObserver,
        heads: Mapping[str, Head] | None = None,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        """Put a batcher before `encoder`; `start` makes it work.

        `heads` are those of its bundle, read already: no call waits for the disk. `closed` is
        called when it has closed.
        """
        self.name = encoder.manifest.name
        self.version = encoder.manifest.version
        self.encoder = encoder
        self.heads = {
            name: head if head.model == self.name else replace(head, model=self.name)
            for name, head in (heads or {}).items()
        }
        self._closed = closed
        self.max_answer_bytes = max_answer_bytes
        self._max_item_bytes = max_item_bytes
        self._observer = observer
        self._warm_up_s = warm_up_s
        self._heartbeat_s = heartbeat_s
        self._cache = cache
        self._batcher: Batcher[Wanted, Row] = Batcher(
            self._run,
            lambda wanted: wanted.tokens,
            key=lambda wanted: wanted.key or None,
            renew=self._renew,
            max_batch_tokens=max_batch_tokens,
            max_queue_items=max_queue_items,
            max_queue_tokens=max_queue_tokens,
            aging_s=aging_s,
            run_timeout_s=run_timeout_s,
            observer=observer,
        )
        self._tasks: list[asyncio.Task[None]] = []
        self._executor = CoalescingExecutor(
            f"the host's step of {self.name}", timeout_s=run_timeout_s
        )
        self._tally = Tally()
        self._healthy = False  # the last thing that is known of its forward passes
        self._last_success = 0.0  # loop time of the last that succeeded, s
        self._trial: Prepared  # the item it is tried with, once it has started
        self._held = 0
        self._released = asyncio.Event()
        self._released.set()

    @property
    def ready(self) -> bool:
        """Whether the last that is known of it is an answer, and it takes calls."""
        return self._healthy and self._batcher.serving

    @property
    def waiting(self) -> tuple[int, int]:
        """Items that wait for a run and their tokens; may be read from any thread."""
        return self._batcher.waiting

    @property
    def statistics(self) -> Statistics:
        """What it has done so far; may be read from any thread."""
        return self._tally.read()

    @contextmanager
    def held(self) -> Iterator[Tally]:
        """Keep it open for one call; gives where the call's times are counted.

        A call that leaves by an error is counted as failed here.
        """
        self._held += 1
        self._released.clear()
        start = time.perf_counter()
        try:
            yield self._tally
        except BaseException:
            self._tally.failed(time.perf_counter() - start)
            raise
        finally:
            self._held -= 1
            if not self._held:
                self._released.set()

    async def start(self) -> None:
        """Begin to serve and warm up with the least and the largest item, each in `warm_up_s`.

        Raises what the forward pass raises, or Unavailable when it takes too long; then the model
        is closed again.
        """
        if self._tasks:
            return
        start = time.perf_counter()
        self._tasks.append(asyncio.create_task(self._serve(), name=f"serve {self.name}"))
        try:
            self._trial = await self._least()
            if (most := trial_inputs.largest(self.encoder)) is not None:
                await self._forward(most, self._warm_up_s)
        except DeadlineExceeded:
            await self.close(drain=False)
            raise Unavailable(
                f"model {self.name} gave no answer within {self._warm_up_s:g} s of warm-up; give"
                " it longer, or another variant"
            ) from None
        except BaseException:
            await self.close(drain=False)
            raise
        self._tasks.append(asyncio.create_task(self._watch(), name=f"watch {self.name}"))
        _LOG.info(
            "model %s version %s is ready: variant %s answered after %.3f s",
            *(self.name, self.version, self.encoder.variant.name, time.perf_counter() - start),
        )

    async def close(self, *, drain: bool) -> None:
        """Answer accepted calls (with `Unavailable` unless `drain`), refuse new ones, and end.

        With `drain` it stays open for the calls that hold it.
        """
        if drain:
            await self._released.wait()
        await self._batcher.close(drain=drain)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._executor.close()
        self._closed()

    def refuse_if_full(self) -> None:
        """Raise `Overloaded` where the queue is full, before any work.

        With a cache a call may need no room, which is known only once its items are prepared.
        """
        if self._cache is None:
            self._batcher.refuse_if_full()

    def require_kind(self, items: Items) -> None:
        """Raise `InvalidInput` for text where it takes tensors, or tensors where it takes text.

        Raises `NotSupported` for items to embed where it scores pairs of texts.
        """
        if self.encoder.manifest.scores_pairs:
            if not all(isinstance(item, TextPair) for item in items[:1]):
                self.encoder.manifest.require_encoder("this call")
            return
        kind = "token ids" if is_token_ids(items) else "texts"
        kind = "tensors" if isinstance(items, np.ndarray) else kind
        taken = "texts" if self.encoder.modality == "text" else "tensors"
        if (kind == "tensors") != (taken == "tensors"):
            raise InvalidInput(f"model {self.name} takes {taken}; got {kind}")

    async def prepare(self, items: Items, *, role: Role, truncation: Truncation) -> PreparedItems:
        """Take the host's step off the loop; a bad item's error stands in its place.

        Raises `InvalidInput` where the call is at fault and not an item: text for a tensor model or
        tensors for a text one, a wrong role or truncation; `Unavailable` where it does not end.
        """
        self.require_kind(items)
        start = time.perf_counter()
        left = threading.Event()
        job = partial(
            _prepare,
            self.encoder,
            items,
            role=role,
            truncation=truncation,
            max_bytes=self._max_item_bytes,
            left=left,
        )
        try:
            prepared = await (
                self._executor(job) if _is_small(items) else self._executor.alone(job)
            )
        finally:
            left.set()
        self._observer.tokenized(time.perf_counter() - start, truncated=prepared.truncated)
        return prepared

    async def rows(
        self,
        prepared: Sequence[Prepared],
        *,
        deadline: float | None = None,
        wait: bool = False,
        priority: Priority = "interactive",
    ) -> list[Row | AttarError]:
        """Embed prepared items, those that the cache lacks; see `Batcher.submit_all`."""
        if self._cache is None:
            return await self._computed(prepared, deadline=deadline, wait=wait, priority=priority)
        cached = await self._remembered(self._cache, prepared)
        missing = [one for one, row in zip(prepared, cached, strict=True) if row is None]
        self._observer.cached(hits=len(prepared) - len(missing), misses=len(missing))
        if not missing:
            return [row for row in cached if row is not None]
        computed = await self._computed(missing, deadline=deadline, wait=wait, priority=priority)
        await self._remember(self._cache, missing, computed)
        rest = iter(computed)
        return [next(rest) if row is None else row for row in cached]

    async def tokens(
        self,
        prepared: Sequence[Prepared],
        *,
        pooling: Pooling,
        grid: Grid | None,
        deadline: float | None,
        priority: Priority,
    ) -> list[Row | AttarError]:
        """Give the token vectors of prepared items, which no cache keeps."""
        wanted = [TokensOf(one, pooling, grid) for one in prepared]
        return await self._submitted(wanted, deadline=deadline, wait=False, priority=priority)

    async def _computed(
        self,
        prepared: Sequence[Prepared],
        *,
        deadline: float | None,
        wait: bool,
        priority: Priority,
    ) -> list[Row | AttarError]:
        computed = await self._submitted(prepared, deadline=deadline, wait=wait, priority=priority)
        first = computed[0] if computed else None
        if isinstance(first, Row) and np.isfinite(first.vector).all():
            self._observer.embedded(first.vector)
        return computed

    async def _submitted(
        self,
        wanted: Sequence[Wanted],
        *,
        deadline: float | None,
        wait: bool,
        priority: Priority,
    ) -> list[Row | AttarError]:
        computed = await self._batcher.submit_all(
            wanted, deadline=deadline, wait=wait, priority=priority
        )
        if any(isinstance(outcome, Row) for outcome in computed):
            self._note(healthy=True)
        return computed

    async def _remembered(self, cache: Cache, prepared: Sequence[Prepared]) -> list[Row | None]:
        """Give the rows that the cache has, letting others run on the loop now and then."""
        cached: list[Row | None] = []
        for i, one in enumerate(prepared, 1):
            vector = cache.get(self._key(one))
            cached.append(None if vector is None else Row(vector, time.perf_counter(), 0.0))
            if i % _AT_ONCE == 0:
                await asyncio.sleep(0)
        return cached

    async def _remember(
        self, cache: Cache, prepared: Sequence[Prepared], outcomes: Sequence[Row | AttarError]
    ) -> None:
        """Cache rows, and let others run meanwhile."""
        for i, (one, outcome) in enumerate(zip(prepared, outcomes, strict=True), 1):
            if isinstance(outcome, Row) and one.key and np.isfinite(outcome.vector).all():
                cache.put(self._key(one), outcome.vector)
            if i % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _key(self, one: Prepared) -> Key:
        return Key(self.encoder.fingerprint, self.encoder.variant.name, one.key)

    def _run(self, batch: list[Wanted]) -> list[Row]:
        began = time.perf_counter()
        vectors = self._inferred(batch)
        infer_s = time.perf_counter() - began
        self._tally.ran(len(batch), infer_s)
        return [Row(vector, began, infer_s) for vector in vectors]

    def _inferred(self, batch: Sequence[Wanted]) -> Sequence[Vectors]:
        """Run a batch, those of which the same is wanted together."""
        embedded = [one for one in batch if isinstance(one, Prepared)]
        if len(embedded) == len(batch):
            return [*self.encoder.infer(embedded)]
        found: dict[int, Vectors] = {}
        groups: dict[tuple[Pooling, Grid | None] | None, list[int]] = {}
        for i, one in enumerate(batch):
            kind = (one.pooling, one.grid) if isinstance(one, TokensOf) else None
            groups.setdefault(kind, []).append(i)
        rows = [one.prepared if isinstance(one, TokensOf) else one for one in batch]
        for kind, members in groups.items():
            some = [rows[i] for i in members]
            vectors = (
                self.encoder.infer(some)
                if kind is None
                else self.encoder.infer_tokens(some, pooling=kind[0], grid=kind[1])
            )
            found.update(zip(members, vectors, strict=True))
        return [found[i] for i in range(len(batch))]

    def _renew(self) -> None:
        """Take a new session: whatever hung or died may still hold the old one."""
        self._healthy = False
        self.encoder = self.encoder.reopened()

    def _note(self, *, healthy: bool) -> None:
        self._healthy = healthy
        if healthy:
            self._last_success = asyncio.get_running_loop().time()

    async def _least(self) -> Prepared:
        """Embed the least item and give it; where the manifest limits none, the least that runs."""
        refused = ""
        for item in trial_inputs.smallest(self.encoder):
            try:
                await self._forward(item, self._warm_up_s)
            except BackendError as error:
                refused = str(error)
            else:
                return item
        raise trial_inputs.none_runs(self.encoder, refused)

    async def _forward(self, item: Prepared, timeout_s: float) -> None:
        """Embed one trial item; raises why there was no answer."""
        await self._batcher(item, deadline=asyncio.get_running_loop().time() + timeout_s)
        self._note(healthy=True)

    async def _serve(self) -> Never:
        """Serve; a bug that ends it fails all waiting calls, is logged, and it starts again."""
        while True:
            try:
                await self._batcher.serve()
            except Exception:
                self._note(healthy=False)
                _LOG.critical("model %s is not ready: its batcher died", self.name, exc_info=True)
            await asyncio.sleep(_RESTART_S)

    async def _watch(self) -> Never:
        """Try a forward pass whenever none has succeeded for a while, or the last one failed."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_LOOK_EVERY_S, self._heartbeat_s))
            if self._healthy and loop.time() < self._last_success + self._heartbeat_s:
                continue
            try:
                await self._forward(self._trial, self._heartbeat_s)
            except AttarError as error:
                if self._healthy:
                    _LOG.error("model %s is not ready: %s", self.name, error)
                self._note(healthy=False)


def _is_small(items: Items) -> bool:
    if isinstance(items, np.ndarray):
        return items.size <= _SMALL_SIZE
    each: Sequence[object] = items  # what a caller of Python gave may be anything
    sizes = (len(item) for item in each if isinstance(item, Sized))
    return len(items) <= _SMALL_ITEMS and sum(sizes) <= _SMALL_SIZE


def _prepare(
    encoder: Encoder,
    items: Items,
    *,
    role: Role,
    truncation: Truncation,
    max_bytes: int,
    left: threading.Event,
) -> PreparedItems:
    """Prepare some items at a time, until all are or their caller has left.

    Together they are fast; one by one only where one of them is bad.
    """
    encoder.prepare(items[:0], role=role, truncation=truncation)  # the call's own faults
    prepared: list[Prepared | InvalidInput] = []
    for start in range(0, len(items), _TOGETHER):
        if left.is_set():
            break
        some = range(start, min(start + _TOGETHER, len(items)))
        part = items[some.start : some.stop]
        try:
            if any(_least_bytes(item) > max_bytes for item in part):
                raise InvalidInput("one is too large")  # which one, and the others, see below
            rows = encoder.prepare(part, role=role, truncation=truncation)
            prepared += map(identified, rows)
        except InvalidInput:
            prepared += [
                _prepare_one(
                    encoder,
                    items[i : i + 1],
                    i,
                    role=role,
                    truncation=truncation,
                    max_bytes=max_bytes,
                )
                for i in some
            ]
    good = [one for one in prepared if isinstance(one, Prepared)]
    return PreparedItems(
        each=prepared,
        good=good,
        tokens=sum(one.tokens for one in prepared),
        good_tokens=sum(one.tokens for one in good),
        truncated=sum(one.truncated for one in good),
    )


def _least_bytes(item: object) -> int:
    """Tell how many bytes a text or an array has; token ids are held to the model's max_length."""
    if isinstance(item, TextPair):
        return _least_bytes(item.query) + _least_bytes(item.document)
    if isinstance(item, str):
        # As UTF-8 a character has one byte at least, and is looked at only where that may do.
        return len(item) if item.isascii() else len(item.encode("utf-8", "surrogatepass"))
    return item.nbytes if isinstance(item, np.ndarray) and item.ndim != 1 else 0


def _prepare_one(
    encoder: Encoder,
    item: Items,
    index: int,
    *,
    role: Role,
    truncation: Truncation,
    max_bytes: int,
) -> Prepared | InvalidInput:
    if (size := _least_bytes(item[0])) > max_bytes:
        return InputTooLong(
            f"item {index} has {size} bytes and is larger than max_item_bytes, {max_bytes}; send "
            "less of it"
        )
    try:
        (prepared,) = encoder.prepare(item, role=role, truncation=truncation)
    except InvalidInput as error:
        # Alone, every item is item 0; the caller knows it by its own index.
        refused = type(error)(f"item {index} " + str(error).removeprefix("item 0 "))
        refused.tokens = error.tokens
        return refused
    return identified(prepared)
