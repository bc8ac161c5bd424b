"""Fits take turns, end with their caller, and leave so many heads of a kind."""

import asyncio
import re
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import pytest_asyncio

from attar import Client
from attar.errors import (
    Cancelled,
    InputTooLong,
    InvalidInput,
    LimitReached,
    RateLimited,
    Unavailable,
)
from attar.server.collections.edge_process import StoreProcess
from attar.server.engine.models import Models
from attar.server.limits.head_capacity import Capacity
from attar.server.limits.working_memory import WorkingMemory
from attar.server.request_context import Meter, RequestContext, answering
from attar.server.usecases.anomaly import Anomaly
from attar.server.usecases.classification import Classification, fit_bytes, fit_classifier
from attar.server.usecases.collections import Collections
from attar.server.usecases.embed import embed
from attar.server.usecases.fit_queue import FitQueue
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import serving, settings

from ...support.models import make, started


@pytest_asyncio.fixture
async def models(tmp_path: Path) -> AsyncIterator[Models]:
    async with started(make(tiny_bundle(tmp_path / "tiny.attar", dim=16))) as together:
        yield together


async def test_fits_run_one_at_a_time_in_the_order_that_they_came_in() -> None:
    fits, seen = FitQueue(), list[str]()

    async def fit(name: str) -> None:
        async with fits.slot():
            seen.append(f"{name} begins")
            await fits.run(lambda refuse_left: refuse_left())
            seen.append(f"{name} ends")

    first, second, third = (asyncio.create_task(fit(name)) for name in "abc")
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, third)

    assert seen == ["a begins", "a ends", "c begins", "c ends"]


async def test_a_fit_ends_when_its_caller_leaves_and_the_next_has_its_turn_then() -> None:
    fits, running, ended = FitQueue(), threading.Event(), list[type[BaseException]]()

    def endless(refuse_left: Callable[[], None]) -> None:
        running.set()
        try:
            while True:
                refuse_left()
                time.sleep(1e-3)
        except BaseException as error:
            ended.append(type(error))
            raise

    async def fit() -> None:
        async with fits.slot():
            await fits.run(endless)

    left = asyncio.create_task(fit())
    await asyncio.to_thread(running.wait)
    left.cancel()
    async with fits.slot():
        assert ended == [Cancelled]

    with pytest.raises(asyncio.CancelledError):
        await left


class Quota(Meter):
    """A key that may use no more than these items."""

    def __init__(self, items: int) -> None:
        self.items = items

    def take(self, *, requests: int = 0, items: int = 0, tokens: int = 0) -> None:
        if items > self.items:
            raise RateLimited("no more", retry_after_s=1)
        self.items -= items


async def test_the_points_of_a_fit_are_items_of_the_key_and_their_bytes_are_in_work(
    models: Models, tmp_path: Path
) -> None:
    collections = Collections(StoreProcess(tmp_path / "collections"), models)
    anomaly = Anomaly(tmp_path, models, collections)
    await collections.create("weather")
    await collections.upsert("weather", ids=range(30), items=["the sun", "rain", "sky"] * 10)
    size = 30 * 16 * 4
    call = RequestContext(rpc="", request_id="", meter=Quota(59), working=WorkingMemory(2 * size))
    with answering(call):
        await anomaly.fit("one", collection="weather")
        assert (call.items, call.held) == (30, 2 * size)
        call.let_go(call.held)
        with pytest.raises(RateLimited):
            await anomaly.fit("two", collection="weather")
    with (
        answering(RequestContext(rpc="", request_id="", working=WorkingMemory(2 * size - 1))),
        pytest.raises(InvalidInput, match="more than max_working_bytes, 3839"),
    ):
        await anomaly.fit("three", collection="weather")
    await collections.close()


def test_a_server_keeps_so_many_heads_of_a_kind_and_no_more(
    bundle_path: Path, tmp_path: Path
) -> None:
    items, labels = ["the cat", "the sun"], ["animal", "sky"]
    detect = partial(Client.fit_anomaly, items=[f"cat {i}" for i in range(40)])
    classify = partial(Client.fit_classifier, items=items, labels=labels)
    with (
        serving(settings(bundle_path, data_dir=tmp_path, max_heads=2)) as target,
        Client(target) as client,
    ):
        fits: dict[str, Callable[[Client, str], object]]
        fits = {"detector": detect, "classifier": classify}
        for kind, fit in fits.items():
            for name in ("one", "two"):
                fit(client, name)
            with pytest.raises(LimitReached, match=f"2 {kind}s are there, .* raise max_heads"):
                fit(client, "three")
        client.delete_detector("one")
        assert detect(client, "three").name == "three"
        assert client.info().limits["max_heads"] == 2


def test_heads_of_both_kinds_have_so_many_bytes_together_and_no_more(
    bundle_path: Path, tmp_path: Path
) -> None:
    def fit(client: Client) -> None:
        client.fit_anomaly("normal", items=[f"cat {i}" for i in range(40)])
        client.fit_classifier("topics", ["the cat", "the sun"], ["animal", "sky"])

    with (
        serving(settings(bundle_path, data_dir=tmp_path / "any")) as target,
        Client(target) as client,
    ):
        fit(client)
    sizes = [path.stat().st_size for path in sorted((tmp_path / "any").rglob("*.npz"))]
    both, data = sum(sizes), tmp_path / "bounded"

    at = settings(bundle_path, data_dir=data, max_heads_bytes=both)
    with serving(at) as target, Client(target) as client:
        fit(client)
        limit = f"more would have .* have {both} of max_heads_bytes, {both}; "
        with pytest.raises(LimitReached, match=f"detector {limit}"):
            client.fit_anomaly("more", items=[f"cat {i}" for i in range(40)])
        with pytest.raises(LimitReached, match=f"classifier {limit}"):
            client.fit_classifier("more", ["cat", "sun"], ["animal", "sky"])
        assert client.info().limits["max_heads_bytes"] == both

    below = settings(bundle_path, data_dir=data, max_heads_bytes=both - 1)
    with serving(below) as target, Client(target) as client:
        left_out = (
            f"topics is not served: it has {sizes[1]} bytes, .* of max_heads_bytes, {both - 1}"
        )
        assert client.score_anomaly("normal", ["cat 1"]).errors == (None,)
        with pytest.raises(Unavailable, match=left_out):
            client.classify("topics", ["the cat"], deadline_s=1)
        client.delete_detector("normal")
        client.delete_classifier("topics")
        fit_again = client.fit_classifier("topics", ["the cat", "the sun"], ["animal", "sky"])
        assert fit_again.labels == ("animal", "sky")
    assert [path.name for path in data.rglob("*.npz")] == ["topics.npz"]


async def test_a_head_without_room_is_refused_before_any_work(
    models: Models, tmp_path: Path
) -> None:
    collections = Collections(StoreProcess(tmp_path / "collections"), models)
    items = ["the sun", "rain", "sky"] * 10
    await collections.create("weather")
    await collections.upsert("weather", ids=range(30), items=items)
    size = 4 * (10 * 16 + 20)  # at 5 %, 20 of 30 calibrate
    anomaly = Anomaly(tmp_path, models, collections, capacity=Capacity(size - 1))
    classification = Classification(tmp_path, models, capacity=Capacity(4 * 3 * 17 - 1))

    call = RequestContext(rpc="", request_id="")
    with answering(call):
        with pytest.raises(LimitReached, match=f"detector one would have {size} bytes"):
            await anomaly.fit("one", items=items)
        with pytest.raises(LimitReached, match=f"detector one would have {size} bytes"):
            await anomaly.fit("one", collection="weather")
        with pytest.raises(LimitReached, match="classifier one would have 204 bytes"):
            await classification.fit("one", items=items, labels=["sun", "rain", "sky"] * 10)
    assert (call.items, call.held) == (0, 0)
    await collections.close()


async def test_a_fit_on_items_holds_what_it_makes(models: Models, tmp_path: Path) -> None:
    collections = Collections(StoreProcess(tmp_path / "collections"), models)
    items = [f"cat {i}" for i in range(30)]
    anomaly = Anomaly(tmp_path, models, collections)
    classification = Classification(tmp_path, models)

    with answering(
        RequestContext(rpc="", request_id="", working=WorkingMemory(30 * 16 * 4))
    ) as call:
        await anomaly.fit("one", items=items)
        assert call.held == 30 * 16 * 4
    with (
        answering(RequestContext(rpc="", request_id="", working=WorkingMemory(2**14))),
        pytest.raises(
            InvalidInput, match=r"bytes of memory, more than max_working_bytes, 16384; send less"
        ),
    ):
        await classification.fit("one", items=items, labels=["sun", "sky"] * 15)
    await collections.close()


@pytest.mark.parametrize(("rows", "dims", "classes"), [(600, 64, 4), (300, 32, 100)])
def test_a_classifier_takes_no_more_memory_than_is_held_for_its_fit(
    rows: int, dims: int, classes: int
) -> None:
    vectors = np.random.default_rng(0).normal(size=(rows, dims)).astype(np.float32)
    labels = [f"label {row % classes}" for row in range(rows)]
    fit = partial(fit_classifier, vectors, labels, model="m", fingerprint="f")
    fit(between=lambda: None)  # imports scikit-learn
    tracemalloc.start()
    fit(normalized=False)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak <= fit_bytes(rows, dims, classes)


async def test_tokens_of_an_item_that_is_refused_are_counted(models: Models) -> None:
    counted: list[int] = []

    class Counting(Meter):
        def take(self, *, requests: int = 0, items: int = 0, tokens: int = 0) -> None:
            counted.append(tokens)

    with answering(RequestContext(rpc="", request_id="", meter=Counting())):
        for whole in (False, True):
            with suppress(InputTooLong):
                await embed(
                    models,
                    items=["the cat", "the cat " * 300],
                    truncation="error",
                    all_or_nothing=whole,
                )
    (refused,) = (
        one.error
        for one in (await embed(models, items=["the cat " * 300], truncation="error")).items
    )
    count = int(re.findall(r"has (?:more than )?(\d+) tokens", str(refused))[0])
    assert count > 100
    assert counted == [4 + count] * 2
