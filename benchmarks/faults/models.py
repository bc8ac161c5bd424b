"""Models: one swapped for another, a bad one, and one that hangs, all of it under load."""

import asyncio
import itertools
import shutil
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import grpc
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException

from attar import Client

from .asking import Judged, ask, channel
from .ground import ENDLESS, Server, Truth, harmed_bundle, served, truth, unique_texts
from .seen import NotRun, Seen

_CALLERS: Final = 8
_TOGETHER: Final = 4  # texts of one request
_DEADLINE_S: Final = 20.0
_WATCH: Final = ("--watch-s", "0.2")


def swapped(folder: Path, *, swaps: int = 4) -> Seen:
    """One model's bundle is replaced by one of another space, again and again."""
    spaces = [harmed_bundle(folder / f"{seed}.attar", seed=seed) for seed in (0, 1)]
    texts = unique_texts(400)
    expected = truth(spaces[0], texts) | truth(spaces[1], texts)
    place = _repository(folder, spaces[0])
    with served(folder, "--model-repository", place.parent, *_WATCH) as server:

        def change() -> None:
            for number in range(1, swaps + 1):
                bundle = spaces[number % 2]
                _put(bundle, place)
                (fingerprint,) = truth(bundle, texts[:1])
                _wait(partial(_serves, server, fingerprint), "the new model")

        judged = asyncio.run(_meanwhile(server, texts, expected, change))
    return judged.seen(
        f"{swaps} swaps between two spaces by renaming in the watched folder, {_CALLERS} callers "
        f"of {_TOGETHER} texts; {' and '.join(map(str, judged.spaces.values()))} answers in one "
        "space and the other, none in both"
    )


def spoiled(folder: Path) -> Seen:
    """Bad bundles take a good one's place; it goes on, and the index says why they do not serve."""
    good = harmed_bundle(folder / "good.attar")
    other = harmed_bundle(folder / "other.attar", seed=1)  # what new content is made of
    texts = unique_texts(400)
    expected = truth(good, texts)
    place = _repository(folder, good)
    reasons: dict[str, str] = {}
    judged = Judged()
    with served(folder, "--model-repository", place.parent, *_WATCH) as server:

        def change() -> None:
            for fault, spoil in _SPOILS.items():
                bad = folder / f"{fault}.attar"
                shutil.copytree(other, bad)
                spoil(bad)
                _put(bad, place)
                reasons[fault] = _wait(lambda: _why(server), f"a word about {fault}")
                _put(good, place)
                _wait(lambda: not _why(server), "the good bundle's return")

        judged = asyncio.run(_meanwhile(server, texts, expected, change))
    return judged.seen(
        "the old model answered throughout; the index said: "
        + "; ".join(f"{fault}: {why[:100]}" for fault, why in reasons.items())
    )


def _cut(bundle: Path) -> None:
    graph = bundle / "variants" / "fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-100])


def _no_tokenizer(bundle: Path) -> None:
    (bundle / "tokenizer.json").unlink()


def _no_manifest(bundle: Path) -> None:
    (bundle / "manifest.json").write_bytes(b"{")


_SPOILS: Final[dict[str, Callable[[Path], None]]] = {
    "a graph cut short": _cut,
    "no tokenizer": _no_tokenizer,
    "a manifest that is no JSON": _no_manifest,
}


def hung(folder: Path) -> Seen:
    """A run never ends: it is given up with its thread, and the model answers again."""
    bundle = harmed_bundle(folder / "tiny.attar")
    texts = unique_texts(200)
    expected = truth(bundle, texts)
    with served(folder, bundle, "--run-timeout-s", "1") as server:
        judged = Judged()
        states: list[int] = []

        async def run() -> float:
            async with channel(server) as to:
                watching = asyncio.create_task(_watch_health(to, states))
                await ask(to, texts[:1], expected, judged)
                hanging = asyncio.create_task(
                    ask(to, [f"cat {ENDLESS}"], expected, judged, allowed=("UNAVAILABLE",))
                )
                await asyncio.sleep(0.3)  # it runs, and these wait behind it
                start = time.perf_counter()
                await asyncio.gather(
                    *(ask(to, [text], expected, judged, allowed=("UNAVAILABLE",)) for text in texts)
                )
                await hanging
                took = time.perf_counter() - start
                while not states or states[-1] != health_pb2.HealthCheckResponse.SERVING:
                    await asyncio.sleep(0.1)
                    if time.perf_counter() > start + _DEADLINE_S:
                        judged.wrong.append("the model is not ready again")
                        break
                refused = judged.refused.copy()
                await asyncio.gather(*(ask(to, [text], expected, judged) for text in texts))
                watching.cancel()
                if refused["UNAVAILABLE"] < 1:
                    judged.wrong.append("the run that hung was answered")
                return took

        took = asyncio.run(run())
        replaced = sum(value for name, value in server.metrics().items() if "_lost_total" in name)
    return judged.seen(
        f"a run of seconds where 1 s is allowed: {judged.refused['UNAVAILABLE']} callers got "
        f"UNAVAILABLE, those behind it had their answers within {took:.1f} s; "
        f"{replaced:.0f} worker replaced; health changed {len(states)} times"
    )


async def _watch_health(to: grpc.aio.Channel, states: list[int]) -> None:
    stub: Any = health_pb2_grpc.HealthStub(to)
    request = health_pb2.HealthCheckRequest(service="tiny")
    async for answer in stub.Watch(request):
        states += [answer.status]


async def _meanwhile(
    server: Server, texts: list[str], expected: Truth, change: Callable[[], None]
) -> Judged:
    """Ask without a pause while `change` runs in a thread, and a little longer."""
    judged = Judged()
    changed = asyncio.Event()
    coming = itertools.cycle(range(0, len(texts), _TOGETHER))

    async def caller(to: grpc.aio.Channel) -> None:
        while not changed.is_set():
            first = next(coming)
            await ask(to, texts[first : first + _TOGETHER], expected, judged)

    async with channel(server) as to, asyncio.TaskGroup() as tasks:
        for _ in range(_CALLERS):
            tasks.create_task(caller(to))
        try:
            await asyncio.to_thread(change)
            await asyncio.sleep(0.3)
        except TimeoutError as error:
            judged.wrong.append(str(error))
        finally:
            changed.set()
    return judged


def _repository(folder: Path, bundle: Path) -> Path:
    """Make a repository of one bundle, and give its place."""
    place = folder / "models" / "tiny.attar"
    place.parent.mkdir()
    shutil.copytree(bundle, place)
    return place


def _put(bundle: Path, path: Path) -> None:
    """Put a bundle in the place of another, as the repository's words say: copy, then rename."""
    incoming, old = path.with_name(".incoming"), path.with_name(".old")
    shutil.copytree(bundle, incoming)
    path.rename(old)
    incoming.rename(path)
    shutil.rmtree(old)


def _serves(server: Server, fingerprint: str) -> bool:
    with Client(server.target) as client:
        (model,) = client.info().models
        return model.fingerprint == fingerprint


def _why(server: Server) -> str:
    """Give what the index says is wrong; empty when nothing is."""
    with triton.InferenceServerClient(server.target) as client:
        try:
            lines = client.get_model_repository_index().models
        except InferenceServerException as error:
            raise NotRun(f"no index: {error}") from error
    if not any(line.state == "READY" for line in lines):
        raise TimeoutError(f"no model is READY: {lines}")
    return next((line.reason for line in lines if line.reason), "")


def _wait(look: Callable[[], Any], what: str) -> Any:
    """Look until there is something to see, and give it; TimeoutError names what never came."""
    ends = time.monotonic() + _DEADLINE_S
    while not (found := look()):
        if time.monotonic() > ends:
            raise TimeoutError(f"{what} did not come in {_DEADLINE_S:g} s")
        time.sleep(0.1)
    return found
