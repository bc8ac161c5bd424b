"""Models: encoders behind batchers, by name; ready means that a forward pass has succeeded."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.encodings import Vectors
from attar.errors import AttarError, InvalidInput, NotFound, NotSupported
from attar.inputs import Items, Prepared, Role, Truncation
from attar.runtime import Encoder

from .batcher import Batcher, Observer, Priority
from .statistics import Statistics, Tally

State: TypeAlias = Literal["READY", "LOADING", "UNAVAILABLE"]

_LOG = logging.getLogger(__name__)


class ModelObserver(Observer, Protocol):
    """What a model tells about its work: its batcher's, and the host step."""

    def tokenized(self, seconds: float, *, truncated: int) -> None:
        """Count one call's host step."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """One item's embedding and the run it came from."""

    vector: NDArray[np.float32]  # (dim,)
    began: float  # perf_counter of its run, s
    infer_s: float  # how long its whole batch ran


class Model:
    """One encoder and its batcher."""

    def __init__(
        self,
        encoder: Encoder,
        *,
        max_batch_tokens: int,
        max_queue_items: int,
        max_queue_tokens: int = 2**20,  # what bounds the wait
        observer: ModelObserver,
    ) -> None:
        """Put a batcher before `encoder`; `start` makes it work."""
        self.name = encoder.manifest.name
        self.version = encoder.manifest.version
        self.encoder = encoder
        self._observer = observer
        self._batcher: Batcher[Prepared, Row] = Batcher(
            self._run,
            lambda prepared: prepared.tokens,
            max_batch_tokens=max_batch_tokens,
            max_queue_items=max_queue_items,
            max_queue_tokens=max_queue_tokens,
            observer=observer,
        )
        self._serving: asyncio.Task[None] | None = None
        self._warm = False
        self._tally = Tally()
        self._held = 0
        self._released = asyncio.Event()
        self._released.set()

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

    @property
    def ready(self) -> bool:
        """Whether a forward pass has succeeded and the batcher lives and is open."""
        return self._warm and self._batcher.serving

    async def start(self) -> None:
        """Begin to serve and warm up with one item; raises what the forward pass raises."""
        if self._serving is None:
            self._serving = asyncio.create_task(self._batcher.serve(), name=f"serve {self.name}")
            self._serving.add_done_callback(self._ended)
        (item,) = self.encoder.prepare(_warm_up_items(self.encoder))
        await self._batcher(item)
        self._warm = True

    async def close(self, *, drain: bool) -> None:
        """Refuse new calls, answer accepted ones (with `Unavailable` unless `drain`), and end."""
        if drain:
            await self._released.wait()
        await self._batcher.close(drain=drain)
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.wait([self._serving])

    async def prepare(
        self, items: Items, *, role: Role, truncation: Truncation
    ) -> list[Prepared | InvalidInput]:
        """Take the host's step off the loop; a bad item's error stands in its place.

        Raises `InvalidInput` where the call is at fault and not an item: text for a tensor model or
        tensors for a text one, a wrong role or truncation.
        """
        given = "tensors" if isinstance(items, np.ndarray) else "texts"
        taken = "texts" if self.encoder.modality == "text" else "tensors"
        if given != taken:
            raise InvalidInput(f"model {self.name} takes {taken}; got {given}")
        start = time.perf_counter()
        prepared = await asyncio.to_thread(_prepare, self.encoder, items, role, truncation)
        truncated = sum(isinstance(one, Prepared) and one.truncated for one in prepared)
        self._observer.tokenized(time.perf_counter() - start, truncated=truncated)
        return prepared

    async def rows(
        self,
        prepared: Sequence[Prepared],
        *,
        deadline: float | None = None,
        wait: bool = False,
        priority: Priority = "interactive",
    ) -> list[Row | AttarError]:
        """Embed prepared items; see `Batcher.many`."""
        return await self._batcher.many(prepared, deadline=deadline, wait=wait, priority=priority)

    def _run(self, batch: list[Prepared]) -> list[Row]:
        began = time.perf_counter()
        vectors: Vectors = self.encoder.infer(batch)
        infer_s = time.perf_counter() - began
        self._tally.ran(len(batch), infer_s)
        return [Row(vector, began, infer_s) for vector in vectors]

    def _ended(self, serving: "asyncio.Task[None]") -> None:
        if not serving.cancelled() and (error := serving.exception()) is not None:
            _LOG.critical("model %s is not ready: its batcher died", self.name, exc_info=error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One line of the index: a version of a model, and why it is not ready where it is not."""

    name: str
    version: str
    state: State
    reason: str = ""


class Models:
    """The models of one server, by name and version; a name alone is its newest version."""

    def __init__(
        self, models: Iterable[Model], *, reopen: Callable[[Path], Model] | None = None
    ) -> None:
        """Index them; two of one name and version are refused. `reopen` loads a bundle again."""
        self._models: dict[str, dict[str, Model]] = {}
        self._reopen = reopen
        self._unloaded: dict[str, list[Listed]] = {}
        self._paths: dict[str, list[Path]] = {}
        for model in models:
            self._add(model)

    def __getitem__(self, name: str) -> Model:
        """Give the newest version of that name; the empty name is the only model."""
        return self.get(name)

    def get(self, name: str, version: str = "") -> Model:
        """Give a version of a model, the newest where none is named; NotFound lists what is."""
        if not name and len(self._models) == 1:
            (name,) = self._models
        if name not in self._models:
            known = ", ".join(self._models) or "none"
            what = (
                f"no model {name!r}"
                if name
                else "the request names no model, and there are several"
            )
            raise NotFound(f"{what}; this server has {known}")
        versions = self._models[name]
        if version and version not in versions:
            raise NotFound(
                f"model {name} has no version {version!r}; this server has {', '.join(versions)}"
            )
        return versions[version or next(reversed(versions))]

    def __iter__(self) -> Iterator[Model]:
        """Give every version of every model, in the order they came."""
        for versions in self._models.values():
            yield from versions.values()

    @property
    def ready(self) -> bool:
        """Whether every model is."""
        return all(model.ready for model in self)

    def index(self) -> list[Listed]:
        """List every version that is known, served or not."""
        served = [
            Listed(
                name=model.name, version=model.version, state="READY" if model.ready else "LOADING"
            )
            for model in self
        ]
        return [*served, *(listed for lost in self._unloaded.values() for listed in lost)]

    async def load(self, name: str) -> None:
        """Load a model that was unloaded, every version of it; NotFound where there is none."""
        if self._reopen is None:
            raise NotSupported("this server loads its models once, when it starts")
        if name not in self._unloaded:
            self.get(name)  # it is there already, or unknown
            return
        for path in self._paths[name]:
            model = await asyncio.to_thread(self._reopen, path)
            await model.start()
            self._add(model)
        del self._unloaded[name]

    async def unload(self, name: str) -> None:
        """Stop serving a model, every version of it, when its accepted calls are answered."""
        self.get(name)
        versions = self._models.pop(name).values()
        self._paths[name] = [model.encoder.bundle.path for model in versions]
        self._unloaded[name] = [
            Listed(name=name, version=model.version, state="UNAVAILABLE", reason="unloaded")
            for model in versions
        ]
        await asyncio.gather(*(model.close(drain=True) for model in versions))

    async def start(self) -> None:
        """Start every model; raises the first error of a warm-up."""
        for model in self:
            await model.start()

    async def close(self, *, drain: bool) -> None:
        """Close every model at once."""
        await asyncio.gather(*(model.close(drain=drain) for model in self))

    def _add(self, model: Model) -> None:
        versions = self._models.setdefault(model.name, {})
        if model.version in versions:
            raise InvalidInput(
                f"two bundles are named {model.name!r}, version {model.version}; "
                "rename one and export again"
            )
        versions[model.version] = model


def _warm_up_items(encoder: Encoder) -> Items:
    if encoder.modality == "text":
        return ["warm up"]
    spec = encoder.manifest.inputs[0]
    shape = [axis if isinstance(axis, int) else 1 for axis in spec.shape[1:]]
    return np.zeros((1, *shape), spec.dtype)


def _prepare(
    encoder: Encoder, items: Items, role: Role, truncation: Truncation
) -> list[Prepared | InvalidInput]:
    """Prepare all at once, which is fast; one by one only when one of them is bad."""
    encoder.prepare(items[:0], role=role, truncation=truncation)  # the call's own faults
    try:
        return list(encoder.prepare(items, role=role, truncation=truncation))
    except InvalidInput:
        return [
            _prepare_one(encoder, items[i : i + 1], i, role, truncation) for i in range(len(items))
        ]


def _prepare_one(
    encoder: Encoder, item: Items, index: int, role: Role, truncation: Truncation
) -> Prepared | InvalidInput:
    try:
        (prepared,) = encoder.prepare(item, role=role, truncation=truncation)
    except InvalidInput as error:
        # Alone, every item is item 0; the caller knows it by its own index.
        return type(error)(f"item {index} " + str(error).removeprefix("item 0 "))
    return prepared
