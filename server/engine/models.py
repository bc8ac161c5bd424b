"""The models of one server: by name and version, loaded and swapped while it serves.

A new version, or new content at an old one's place, serves only after it has answered a forward
pass. Until then, and for good when it is bad, what served before goes on, and `index` says why.
Calls that an old version has accepted are answered by it. Each place loads in a task of its own,
which can be given up: one that never ends holds up no other.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Never

from attar.bundle import Bundle
from attar.errors import (
    AttarError,
    BundleRefused,
    InvalidInput,
    NotFound,
    NotSupported,
    Unavailable,
)
from attar.values import Indexed, ModelState

from .bundle_repository import (
    BundleLocation,
    Repository,
    bundle_paths,
    look,
    newer,
    require_folder,
    shown,
)
from .model import Model, ModelObserver, Row
from .run_thread import Lost, RunThread

__all__ = ["Model", "ModelObserver", "Models", "Row"]

_LOG = logging.getLogger(__name__)
_ABSENT_LOOKS: Final = 2  # between `rm -r` and `cp -r` a bundle is not there, and is not gone
_AT_ONCE: Final = 2  # places that load: each may take the memory of a trial
_START_S: Final = 20.0  # after which the start does not wait for the folder's bundles
_TRIES: Final = 3  # of what was no fault of the bundle, such as a process that was killed
_ENDS: Final = (KeyboardInterrupt, SystemExit, asyncio.CancelledError)


@dataclass(slots=True, eq=False)
class _Slot:
    """One bundle's place, and the model that serves from it."""

    location: BundleLocation  # as it was when it was last tried
    model: Model | None = None
    content: str = ""  # what the model was loaded from
    reason: str = ""  # why the place's content does not serve
    loading: bool = False
    absent: int = 0  # looks in a row that did not find it
    tries: int = 0  # that failed through no fault of the content
    task: asyncio.Task[AttarError | None] | None = None  # the last that loads, or has loaded, it
    held: bool = False  # by a change of the variant, which a look does not interrupt

    @property
    def busy(self) -> bool:
        """Whether something is loading there, or about to."""
        return self.task is not None and not self.task.done()

    @property
    def listed(self) -> list[Indexed]:
        """Its lines of the index."""
        lines = []
        failure = self.reason
        if (model := self.model) is not None:
            same = (self.location.name, self.location.version) == (model.name, model.version)
            why, failure = (failure, "") if same else ("", failure)
            state: ModelState = "READY"
            if not model.ready:
                state, why = "UNAVAILABLE", why or "its last forward pass gave no answer"
            lines.append(Indexed(name=model.name, version=model.version, state=state, reason=why))
        if failure or self.loading or not lines:
            state = "LOADING" if self.loading else "UNAVAILABLE"
            name, version = self.location.name, self.location.version
            lines.append(Indexed(name=name, version=version, state=state, reason=failure))
        return lines


class Models:
    """The models of one server; a name alone is its newest version, by `newer`."""

    def __init__(
        self, models: Iterable[Model] = (), *, repository: Repository | None = None
    ) -> None:
        """Index them; two of one name and version are refused. `start` loads the repository's."""
        self._repository = repository
        self._variants = dict(repository.variants) if repository else {}
        self._models: dict[str, dict[str, Model]] = {}
        self._slots: dict[Path, _Slot] = {}
        self._unloaded: set[str] = set()  # what an operator unloaded stays so until it is loaded
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._choosing: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._retiring: set[asyncio.Task[None]] = set()
        self._watching: asyncio.Task[Never] | None = None
        self._started = False  # changes are logged from then on
        self._lost = False  # the folder, when it was last looked at
        for model in models:
            location = look(model.encoder.bundle.path)
            self._refuse_taken(model)
            self._slots[location.path] = _Slot(location, model, location.content)
            self._put(model)

    def __getitem__(self, name: str) -> Model:
        """Give the newest version of that name; the empty name is the only model."""
        return self.get(name)

    def get(self, name: str, version: str = "") -> Model:
        """Give a version of a model, the newest where none is named; NotFound lists what is."""
        if not name and len(self._models) == 1:
            (name,) = self._models
        if name not in self._models:
            known = ", ".join(dict.fromkeys(model.name for model in self)) or "none"
            several = "the request names no model, and there are several"
            what = several if self._models and not name else f"no model {name!r}"
            raise NotFound(f"{what}; this server has {known}")
        versions = self._models[name]
        if version and version not in versions:
            raise NotFound(
                f"model {name} has no version {version!r}; this server has {', '.join(versions)}"
            )
        return versions[version or next(reversed(versions))]

    def __iter__(self) -> Iterator[Model]:
        """Give every version of every model, as they were given or lie; a name's newest last."""
        models = [slot.model for slot in list(self._slots.values()) if slot.model is not None]
        for name in dict.fromkeys(model.name for model in models):
            yield from list(self._models.get(name, {}).values())

    @property
    def ready(self) -> bool:
        """Whether there is a model, and every one is ready."""
        return bool(self._models) and all(model.ready for model in self)

    @property
    def why_not_ready(self) -> str:
        """Say which models are not ready; empty where all are. Any thread may ask."""
        late = [model.name for model in self if not model.ready]
        if late or not self._models:
            return f"not ready: {', '.join(late) or 'no model is'}; retry later"
        return ""

    def index(self) -> list[Indexed]:
        """List every version that is known, served or not."""
        return [line for slot in self._slots.values() for line in slot.listed]

    async def start(self) -> None:
        """Load what must be served, then what the folder has, and begin to watch that.

        Raises what is wrong with a bundle that must be served, or the first error of a warm-up,
        InvalidInput for a folder that is none. What is wrong with one of the folder's stands in
        `index`; one that takes very long is not waited for.
        """
        folder = self._repository.folder if self._repository else None
        if folder is not None:
            await asyncio.to_thread(require_folder, folder)
        for model in self:
            await model.start()
        if self._repository is None:
            return
        try:
            must = []
            for path in self._repository.bundles:
                location = await asyncio.to_thread(look, path)
                self._slots[path] = slot = _Slot(location)
                must.append(self._begin(slot, location))
            for task in must:
                await _ended(task)
            if folder is not None and (begun := await self._noticed(folder)):
                await asyncio.wait(begun, timeout=_START_S)
        except BaseException:
            await self.close(drain=False)
            raise
        if folder is not None:
            self._tell_of_nothing(folder, self._repository.watch_s)
            if self._repository.watch_s:
                self._watching = asyncio.create_task(self._watch(), name="watch the repository")
        self._started = True

    async def close(self, *, drain: bool) -> None:
        """Close every model at once, give up what loads, and wait for what was being retired."""
        ending = [slot.task for slot in self._slots.values() if slot.task is not None]
        if self._watching is not None:
            ending.append(self._watching)
        for task in ending:
            task.cancel()
        if ending:
            await asyncio.wait(ending)
        await asyncio.gather(*(model.close(drain=drain) for model in self), *self._retiring)

    async def refresh(self) -> None:
        """Look at the folder once: load what is new or changed, retire what is gone.

        A bundle that cannot be loaded is tried again when one of its files changes.
        """
        folder = self._repository.folder if self._repository else None
        if folder is not None and (begun := await self._noticed(folder)):
            await asyncio.wait(begun)

    async def _noticed(self, folder: Path) -> list[asyncio.Task[AttarError | None]]:
        """Look at the folder once, and give the tasks that load what is new or changed."""
        locations = await self._look(folder)
        if locations is None:
            return []
        begun = []
        for location in locations:
            slot = self._slots.setdefault(location.path, _Slot(replace(location, stamp="")))
            slot.absent = 0
            if slot.location.stamp == location.stamp or slot.held:
                continue
            if location.name in self._unloaded:
                slot.location = location
            else:
                slot.tries = 0 if slot.location.stamp else slot.tries
                begun.append(self._begin(slot, location))
        self._retire_absent(folder, {location.path for location in locations})
        return begun

    async def _look(self, folder: Path) -> list[BundleLocation] | None:
        """Look at every bundle in the folder; None where it cannot be read."""
        try:
            seen = await asyncio.to_thread(lambda: [look(path) for path in bundle_paths(folder)])
        except OSError as error:  # not mounted, perhaps: no reason to retire what it held
            if not self._lost:
                why = error.strerror
                _LOG.error("model_repository %s: %s; what serves goes on", folder, why)
            self._lost = True
            return None
        self._lost = False
        return seen

    def _retire_absent(self, folder: Path, there: set[Path]) -> None:
        for path, slot in list(self._slots.items()):
            if folder in path.parents and path not in there:
                slot.absent += 1
                if slot.absent >= _ABSENT_LOOKS:
                    del self._slots[path]
                    _give_up(slot)
                    if slot.model is not None:
                        _LOG.warning("retired: %s: %s is gone", _called(slot.model), path)
                    self._retire(slot)

    async def load(self, name: str) -> None:
        """Load a model from where it lies: what is new, changed, unloaded or failed before.

        Raises NotFound where nothing of that name lies, or what is wrong with it; what served
        before then goes on.
        """
        repository = self._changeable()
        paths = dict.fromkeys(self._slots)
        if (folder := repository.folder) is not None:
            try:
                paths |= dict.fromkeys(await asyncio.to_thread(bundle_paths, folder))
            except OSError as error:
                raise Unavailable(
                    f"the model repository cannot be read: {error.strerror}"
                ) from error
        looked = await asyncio.to_thread(lambda: [look(path) for path in paths])
        mine = [location for location in looked if location.name == name]
        if not mine:
            known = ", ".join(sorted({location.name for location in looked})) or "none"
            raise NotFound(f"no model {name!r} in the repository; it has {known}")
        self._unloaded.discard(name)
        begun = [
            self._begin(self._slots.setdefault(location.path, _Slot(location)), location)
            for location in mine
        ]
        await asyncio.wait(begun)
        for task, location in zip(begun, mine, strict=True):
            await _ended(task, hidden=location.path)

    async def unload(self, name: str) -> None:
        """Stop serving a model, every version of it, when its accepted calls are answered.

        It stays unloaded, whatever happens to its bundles, until `load` is called for it. What
        loads under that name is given up.
        """
        self._changeable()
        if not any(slot.busy and slot.location.name == name for slot in self._slots.values()):
            name = self.get(name).name
        self._unloaded.add(name)
        for slot in self._slots.values():
            if slot.location.name == name and _give_up(slot):
                slot.reason = "unloaded"
            if slot.model is not None and slot.model.name == name:
                slot.reason = "unloaded"
                _LOG.info("unloaded: %s", _called(slot.model))
                self._retire(slot)
        await asyncio.gather(*self._retiring)

    async def set_variant(self, name: str, variant: str, *, version: str = "") -> None:
        """Run another variant of a model, of every version unless one is named; "" is the default.

        The old one serves until the new one has answered, and goes on where the new one is bad:
        then this raises NotFound (no such variant), NotSupported or what else is wrong.
        """
        self._changeable()
        name = self.get(name, version).name
        async with self._choosing[name]:
            before = self._variants.get(name)
            self._variants[name] = variant
            for slot in list(self._slots.values()):
                model = slot.model
                if model is None or model.name != name or version not in ("", model.version):
                    continue
                reason = slot.reason
                try:
                    await self._reload(slot)
                except BaseException:
                    slot.reason = reason
                    self._variants.pop(name)
                    if before is not None:
                        self._variants[name] = before
                    raise

    async def _reload(self, slot: _Slot) -> None:
        """Load a slot's bundle, even where it serves; given up when its caller leaves."""
        slot.held = True
        try:
            location = await asyncio.to_thread(look, slot.location.path)
            await _ended(self._begin(slot, location, again=True), hidden=location.path)
        except asyncio.CancelledError:
            _give_up(slot)
            raise
        finally:
            slot.held = False

    def _begin(
        self, slot: _Slot, location: BundleLocation, *, again: bool = False
    ) -> asyncio.Task[AttarError | None]:
        """Load a place in a task, in the stead of what loads there of other content.

        The task gives why the content does not serve, None where it does.
        """
        before = slot.task if slot.busy else None
        if before is not None:
            if slot.location.stamp == location.stamp and not again:
                return before
            before.cancel()
        slot.location, slot.loading = location, True
        slot.task = asyncio.create_task(
            self._loaded(slot, location, before=before, again=again), name=f"load {location.name}"
        )
        return slot.task

    async def _loaded(
        self,
        slot: _Slot,
        location: BundleLocation,
        *,
        before: "asyncio.Task[AttarError | None] | None",
        again: bool,
    ) -> AttarError | None:
        """Load a place when its turn has come, and tell how that went; give why it does not serve.

        What a bundle raises may be no Exception: a panic of a tokenizer is none.
        """
        repository = self._require_repository()
        if before is not None:
            await asyncio.wait([before])
        slot.loading, slot.reason = True, ""
        try:
            async with self._turns:
                await self._load(slot, location, again=again)
        except _ENDS:
            raise
        except BaseException as error:
            failure = error if isinstance(error, AttarError) else _refused(location, error)
            # A caller who may read the index need not know this machine's folders.
            slot.reason = shown(str(failure).replace(str(location.path), location.path.name))
            repository.loaded(location.name, good=False)
            slot.tries += 1
            if isinstance(failure, Unavailable) and slot.tries < _TRIES:
                slot.location = replace(location, stamp="")  # the next look tries it again
            if self._started or location.path not in repository.bundles:
                serves = "; what served before goes on" if slot.model else ""
                _LOG.error("not served: %s: %s%s", shown(location.path), shown(failure), serves)
            return failure
        finally:
            slot.loading = False
        slot.tries = 0
        repository.loaded(location.name, good=True)
        return None

    async def _load(self, slot: _Slot, location: BundleLocation, *, again: bool) -> None:
        """Serve what lies at a place, unless it serves already; the old model goes on till then."""
        repository, old = self._require_repository(), slot.model
        variant: str | None = self._variants.get(location.name) or self._variants.get("") or None
        content = None
        if repository.prove is not None:
            proven = await repository.prove(location, variant)
            content, variant = proven.content, proven.variant
        if old is not None and location.content == slot.content and not again:
            # Touched, or put back; or cut, which its manifest does not tell.
            if content is None:
                await asyncio.to_thread(Bundle.open, location.path)
            return
        model = await self._opened(location, variant, content)
        try:
            self._refuse_taken(model, besides=old)
            await model.start()
            self._refuse_taken(model, besides=old)  # while it started, another may have
        except BaseException:
            await model.close(drain=False)
            raise
        self._retire(slot)
        slot.model, slot.content = model, location.content
        self._put(model)
        if self._started:
            instead = f", in the place of {_called(old)}" if old else ""
            _LOG.info("serving %s, from %s%s", _called(model), shown(location.path), instead)

    async def _opened(
        self, location: BundleLocation, variant: str | None, content: str | None
    ) -> Model:
        """Open a bundle in a thread that nobody waits for where it never ends."""
        repository = self._require_repository()

        def opened() -> Model | BaseException:
            try:
                return repository.open(location.path, variant, content=content)
            except BaseException as error:
                return error

        worker, timeout_s = RunThread(f"open {location.name}"), repository.open_timeout_s
        try:
            outcome = await worker.run(opened, timeout_s=timeout_s)
        except Lost as lost:
            raise BundleRefused(
                "unloadable", f"{location.path} could not be opened: {lost}; export it again"
            ) from None
        finally:
            worker.close()
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    def _tell_of_nothing(self, folder: Path, watch_s: float) -> None:
        """Say that a folder holds no bundle: a mistyped one would be a server of nothing."""
        if any(folder in path.parents for path in self._slots):
            return
        when = f"it is looked at every {watch_s:g} s" if watch_s else "it is looked at on Load"
        _LOG.warning(
            "model_repository %s holds no bundle; NAME.attar, NAME.zip and NAME/VERSION are; %s",
            *(folder, when),
        )

    def _retire(self, slot: _Slot) -> None:
        """Take a slot's model out of the table; it ends when those who hold it have left."""
        model, slot.model, slot.content = slot.model, None, ""
        if model is None:
            return
        versions = self._models[model.name]
        if versions.get(model.version) is model:
            del versions[model.version]
        if not versions:
            del self._models[model.name]
        task = asyncio.create_task(model.close(drain=True), name=f"retire {model.name}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    def _put(self, model: Model) -> None:
        versions = {**self._models.get(model.name, {}), model.version: model}
        self._models[model.name] = {
            version: versions[version] for version in sorted(versions, key=newer)
        }

    def _refuse_taken(self, model: Model, *, besides: Model | None = None) -> None:
        other = self._models.get(model.name, {}).get(model.version)
        if other is not None and other is not besides:
            raise InvalidInput(
                f"two bundles are named {model.name!r}, version {model.version}; "
                "rename one and export again"
            )

    def _require_repository(self) -> Repository:
        if self._repository is None:
            raise NotSupported(
                "this server has its models from no repository; start it with --model-repository, "
                "or restart it to change them"
            )
        return self._repository

    def _changeable(self) -> Repository:
        repository = self._require_repository()
        if repository.shared:
            raise NotSupported(
                "several workers serve these models, and a call reaches one of them; change the "
                "model_repository folder, which each of them watches, or serve with workers = 1"
            )
        return repository

    async def _watch(self) -> Never:
        """Look at the folder again and again, whatever a look meets."""
        repository = self._require_repository()
        while True:
            await asyncio.sleep(repository.watch_s)
            try:
                if repository.folder is not None:
                    await self._noticed(repository.folder)
            except _ENDS:
                raise
            except BaseException:
                repository.failed()
                _LOG.exception("the model repository cannot be looked at; it is tried again")


async def _ended(task: "asyncio.Task[AttarError | None]", *, hidden: Path | None = None) -> None:
    """Wait until a task has loaded its place; raises why that does not serve.

    A caller who waits may leave: the task goes on. Errors do not show the path `hidden`.
    """
    await asyncio.wait([task])
    if task.cancelled():
        raise Unavailable(
            "the model was changed again, or unloaded, while it was loaded; Models/Index has its "
            "state"
        )
    if (error := task.result()) is None:
        return
    if hidden is not None:
        texts = (shown(one).replace(str(hidden), hidden.name) for one in error.args)
        raise type(error)(*texts) from None
    raise error


def _give_up(slot: _Slot) -> bool:
    """Give up what loads at a slot's place; tells whether anything did."""
    if slot.task is None or slot.task.done():
        return False
    slot.task.cancel()
    return True


def _refused(location: BundleLocation, error: BaseException) -> AttarError:
    """Tell what is no error of attar's as one."""
    return BundleRefused(
        "unloadable", f"{location.path} cannot be opened: {type(error).__name__}: {error}"
    )


def _called(model: Model) -> str:
    return f"{model.name}, version {model.version}, variant {model.encoder.variant.name}"
