"""Fits take turns, end with their caller, and leave so many heads of a kind."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import pytest_asyncio

from attar import Client
from attar.errors import Cancelled, InvalidInput, Overloaded, RateLimited
from attar.server.call import Call, Meter, answering
from attar.server.collections.process import StoreProcess
from attar.server.engine.models import Models
from attar.server.usecases.anomaly import Anomaly
from attar.server.usecases.fits import Fits
from attar.server.usecases.search import Collections
from attar.server.working import Working

from .bundles import tiny_bundle
from .servers import serving, settings
from .test_models import make, started


@pytest_asyncio.fixture
async def models(tmp_path: Path) -> AsyncIterator[Models]:
    async with started(make(tiny_bundle(tmp_path / "tiny.attar", dim=16))) as together:
        yield together


async def test_fits_run_one_at_a_time_in_the_order_that_they_came_in() -> None:
    fits, seen = Fits(), list[str]()

    async def fit(name: str) -> None:
        async with fits.turn():
            seen.append(f"{name} begins")
            await fits.run(lambda refuse_left: refuse_left())
            seen.append(f"{name} ends")

    first, second, third = (asyncio.create_task(fit(name)) for name in "abc")
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, third)

    assert seen == ["a begins", "a ends", "c begins", "c ends"]


async def test_a_fit_ends_when_its_caller_leaves_and_the_next_has_its_turn_then() -> None:
    fits, running, ended = Fits(), threading.Event(), list[type[BaseException]]()

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
        async with fits.turn():
            await fits.run(endless)

    left = asyncio.create_task(fit())
    await asyncio.to_thread(running.wait)
    left.cancel()
    async with fits.turn():
        assert ended == [Cancelled]

    with pytest.raises(asyncio.CancelledError):
        await left


class Quota(Meter):
    """A key that may use no more than these items."""

    def __init__(self, items: int) -> None:
        self.items = items

    def take(self, *, requests: int = 0, items: int = 0, tokens: int = 0) -> None:  # noqa: ARG002
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
    call = Call(rpc="", request_id="", meter=Quota(59), working=Working(size))
    with answering(call):
        await anomaly.fit("one", collection="weather")
        assert (call.items, call.held) == (30, size)
        with pytest.raises(RateLimited):
            await anomaly.fit("two", collection="weather")
    with (
        answering(Call(rpc="", request_id="", working=Working(size - 1))),
        pytest.raises(InvalidInput, match="more than max_working_bytes, 1919"),
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
            with pytest.raises(Overloaded, match=f"2 {kind}s are there, .* raise max_heads"):
                fit(client, "three")
        client.delete_detector("one")
        assert detect(client, "three").name == "three"
        assert client.info().limits["max_heads"] == 2
