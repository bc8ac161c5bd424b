"""Models: real encoders behind batchers, whose bad items fail alone and whose state is honest."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attar
from attar.encodings import Encoding, Vectors
from attar.errors import (
    DeadlineExceeded,
    InputTooLong,
    InvalidInput,
    NotFound,
    Overloaded,
    ShapeError,
    Unavailable,
)
from attar.inputs import Items, Prepared, Role, Truncation
from attar.server.engine.cache import Cache, Key
from attar.server.engine.model import Model, Row
from attar.server.engine.models import Models
from attar.server.usecases.embed import embed as usecase
from benchmarks.support.bundles import WORDS, tiny_bundle, tiny_tensor_bundle

from ...support.models import Clumsy, Watch, make, started, until


class Broken(Clumsy, Watch):
    """An observer with a bug that shows in the second run; the first is the warm-up."""

    def batch(self, size: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        Watch.batch(self, size, tokens, padded_tokens, seconds)
        if len(self.batches) == 2:
            super().batch(size, tokens, padded_tokens, seconds)


class Spy:
    """An encoder, with a note of the threads that it worked in, and of its runs."""

    def __init__(self, encoder: attar.Encoder, *, hangs: set[int] | None = None) -> None:
        self.encoder = encoder
        self.threads: set[threading.Thread] = set()
        self.batches: list[int] = []
        self.finished: list[tuple[int, threading.Thread]] = []  # rows, thread
        self.hangs = hangs or set()  # the runs that wait for `let_go`, by number
        self.let_go = threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def prepare(
        self, items: Items, *, role: Role = "passage", truncation: Truncation = "truncate"
    ) -> list[Prepared]:
        self.threads.add(threading.current_thread())
        return self.encoder.prepare(items, role=role, truncation=truncation)

    def infer(self, rows: list[Prepared]) -> Vectors:
        self.threads.add(threading.current_thread())
        self.batches.append(len(rows))
        if len(self.batches) - 1 in self.hangs:
            self.let_go.wait(10)
        return self.encoder.infer(rows)

    def finish(
        self, vectors: Vectors, *, dims: int | None = None, encoding: Encoding = "f32"
    ) -> NDArray[Any]:
        if len(vectors):  # else it only checks the options
            self.finished.append((len(vectors), threading.current_thread()))
        return self.encoder.finish(vectors, dims=dims, encoding=encoding)

    def reopened(self) -> "Spy":
        self.encoder = self.encoder.reopened()
        return self


async def embed(model: Model, items: Items) -> NDArray[np.float32]:
    """Embed texts none of which is bad."""
    rows = await model.rows(await prepare(model, items))
    return np.array([row.vector for row in rows if isinstance(row, Row)])


async def prepare(model: Model, items: Items) -> list[Prepared]:
    """Prepare items none of which is bad."""
    return (await model.prepare(items, role="passage", truncation="truncate")).good


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny.attar")


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_tensor_bundle(tmp_path_factory.mktemp("bundles") / "image.attar")


async def test_a_model_is_ready_after_a_forward_pass_and_until_it_closes(text: Path) -> None:
    watch = Watch()
    model = make(text, watch=watch)
    states = [model.ready]
    async with started(model) as models:
        states += [model.ready, models.ready]
        assert [size for size, _, _ in watch.batches] == [1]  # the warm-up
    assert [*states, model.ready] == [False, True, True, False]
    with pytest.raises(Unavailable):
        await embed(model, ["the cat"])


async def test_the_server_gives_the_numbers_of_the_device(text: Path, image: Path) -> None:
    words = ["the cat sat", "", "a dog ran on the mat in the rain", "sun"] * 20
    images = np.random.default_rng(0).normal(size=(30, 1, 8, 8)).astype(np.float32)
    async with started(make(text), make(image)) as models:
        calls = [embed(models["tiny"], words[i : i + 7]) for i in range(0, len(words), 7)]
        vectors = np.concatenate(await asyncio.gather(*calls))
        np.testing.assert_allclose(vectors, models["tiny"].encoder.embed(words), atol=1e-6)
        model = models["tiny-image"]
        vectors = await embed(model, images)
        np.testing.assert_allclose(vectors, model.encoder.embed(images), atol=1e-6)


async def test_a_bad_item_fails_alone_and_is_named_by_its_own_index(text: Path) -> None:
    watch = Watch()
    async with started(make(text, watch=watch)) as models:
        items: Any = ["the cat", "a" * 100, "sun", "\ud800", 7]
        prepared = await models[""].prepare(items, role="query", truncation="error")
        kinds = [Prepared, InputTooLong, Prepared, InvalidInput, InvalidInput]
        assert [type(one) for one in prepared.each] == kinds
        assert [str(prepared.each[i]).split(" has ")[0] for i in (1, 3)] == ["item 1", "item 3"]
        assert str(prepared.each[4]).startswith("item 4 must be a string")
        await models[""].prepare(["a" * 100, "sun"], role="query", truncation="truncate")
        assert watch.counts["truncated"] == 1


async def test_a_fault_of_the_call_is_no_item_s_fault(text: Path, image: Path) -> None:
    async with started(make(text), make(image)) as models:
        role: Any = "reader"
        with pytest.raises(InvalidInput, match="role must be one of"):
            await models["tiny"].prepare(["a"], role=role, truncation="error")
        with pytest.raises(InvalidInput, match="model tiny takes texts; got tensors"):
            await models["tiny"].prepare(np.zeros((1, 2)), role="query", truncation="error")
        with pytest.raises(InvalidInput, match="model tiny-image takes tensors; got texts"):
            await models["tiny-image"].prepare(["a"], role="query", truncation="error")
        wrong = await models["tiny-image"].prepare(
            np.zeros((2, 3), np.float32), role="query", truncation="error"
        )
        assert [type(one) for one in wrong.each] == [ShapeError, ShapeError]


async def test_names_find_models_and_a_wrong_one_lists_them(text: Path, tmp_path: Path) -> None:
    first, second = make(text), make(tiny_bundle(tmp_path / "b.attar", name="other", seed=1))
    assert Models([first])[""] is first
    both = Models([first, second])
    assert both["other"] is second
    assert list(both) == [first, second]
    with pytest.raises(NotFound, match="no model 'tinny'; this server has tiny, other"):
        both["tinny"]
    with pytest.raises(NotFound, match="names no model, and there are several"):
        both[""]
    with pytest.raises(InvalidInput, match="two bundles are named 'tiny'"):
        Models([first, first])


async def test_a_full_queue_refuses_calls_and_lets_streams_wait(text: Path) -> None:
    model = make(text, items=4)
    async with started(model):
        sets = [await prepare(model, [f"{i} {word}" for word in WORDS[:4]]) for i in range(6)]
        late = asyncio.get_running_loop().time() - 1
        with pytest.raises(DeadlineExceeded):
            await model.rows(sets[0], deadline=late)
        calls = [asyncio.create_task(model.rows(one, wait=False)) for one in sets[:3]]
        streams = [asyncio.create_task(model.rows(one, wait=True)) for one in sets[3:]]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(answer, Overloaded) for answer in answers)
        assert [len(rows) for rows in await asyncio.gather(*streams)] == [4, 4, 4]


async def test_a_batcher_that_dies_says_so_and_begins_again(
    text: Path, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(make(text, watch=Broken(), heartbeat_s=0.05), make(image)) as models:
        with pytest.raises(Unavailable, match="has died"):
            await embed(models["tiny"], ["sun"])
        await asyncio.sleep(0)  # who waits for the dead task runs a turn later
        assert not models["tiny"].ready
        assert not models.ready
        assert models["tiny-image"].ready
        assert "model tiny is not ready: its batcher died" in caplog.text
        await until(lambda: models.ready)
        assert len(await embed(models["tiny"], ["sun"])) == 1


async def test_a_run_that_hangs_is_replaced_and_the_model_is_ready_when_it_answers_again(
    text: Path,
) -> None:
    spy = Spy(attar.load(text), hangs={1})
    model = make(spy, run_timeout_s=1.0, heartbeat_s=60.0)  # tried after the failure alone
    async with started(model):
        before = spy.encoder
        with pytest.raises(Unavailable, match="given up"):
            await embed(model, ["sun"])
        assert not model.ready
        await until(lambda: model.ready)
        assert spy.encoder is not before  # a session of its own
        np.testing.assert_allclose(
            await embed(model, ["sun"]), before.embed(["sun"]).vectors, atol=1e-6
        )
        spy.let_go.set()


async def test_an_idle_model_is_tried_now_and_then_and_says_when_it_gives_no_answer(
    text: Path,
) -> None:
    spy = Spy(attar.load(text), hangs={3})
    model = make(spy, heartbeat_s=0.1)
    async with started(model):
        assert model.ready
        # The fourth run, with the warm-up, is a heartbeat, and hangs.
        await until(lambda: len(spy.batches) == 4 and not model.ready)
        spy.let_go.set()
        await until(lambda: model.ready)


async def test_a_warm_up_that_takes_too_long_is_reported_and_ends_the_model(text: Path) -> None:
    spy = Spy(attar.load(text), hangs={0})
    model = make(spy, warm_up_s=0.05, run_timeout_s=0.2)
    with pytest.raises(Unavailable, match=r"model tiny gave no answer within 0\.05 s of warm-up"):
        await model.start()
    assert not model.ready
    spy.let_go.set()


async def test_neither_host_step_nor_forward_pass_runs_on_the_loop(text: Path) -> None:
    spy = Spy(attar.load(text))
    model = make(spy)
    async with started(model):
        spy.threads.clear()
        await embed(model, ["sun"])
        assert len(spy.threads) == 2
        assert threading.current_thread() not in spy.threads


async def test_an_answer_that_is_large_is_encoded_off_the_loop(text: Path) -> None:
    spy = Spy(attar.load(text))
    async with started(make(spy, items=4096)) as models:
        for count in (1, 4000):
            found = await usecase(models, items=["sun"] * count, encoding="int8")
            assert len(found.good) == count
    assert [count for count, _ in spy.finished] == [1, 4000]
    here = threading.current_thread()
    assert [thread == here for _, thread in spy.finished] == [True, False]


@pytest.mark.parametrize("large", [["a " * 20_000], ["sun"] * 17])
async def test_a_large_call_holds_up_the_host_step_of_nobody(text: Path, large: list[str]) -> None:
    spy = Spy(attar.load(text))
    prepare_one, let_go = spy.prepare, threading.Event()

    def slow(items: Any, **options: Any) -> list[Prepared]:
        if list(items) == large:
            let_go.wait(10)
        return prepare_one(items, **options)

    model = make(spy)
    async with started(model):
        spy.prepare = slow  # type: ignore[method-assign]
        first = asyncio.create_task(prepare(model, large))
        await asyncio.sleep(0.01)
        assert len(await prepare(model, ["sun"])) == 1
        assert not first.done()
        let_go.set()
        assert len(await first) == len(large)


async def test_items_are_prepared_while_a_batch_runs(text: Path) -> None:
    spy = Spy(attar.load(text), hangs={1})
    model = make(spy)
    async with started(model):
        running = asyncio.create_task(embed(model, ["sun"]))
        await until(lambda: len(spy.batches) == 2)
        prepared = [await prepare(model, [word, "the cat"]) for word in ("a", "dog", "ran")]
        calls = [asyncio.create_task(model.rows(one)) for one in prepared]
        assert len(spy.batches) == 2  # all of that happened during one run
        spy.let_go.set()
        await asyncio.gather(running, *calls)
        assert spy.batches[2:] == [4]  # "the cat" once


async def test_a_full_queue_refuses_a_call_before_its_items_are_prepared(text: Path) -> None:
    spy = Spy(attar.load(text), hangs={1})
    watch = Watch()
    model = make(spy, watch=watch, items=1)
    async with started(model) as models:
        first = asyncio.create_task(usecase(models, items=["sun"]))
        await until(lambda: len(spy.batches) == 2)
        second = asyncio.create_task(usecase(models, items=["rain"]))
        await until(lambda: model.waiting[0] == 1)
        prepared = watch.counts["prepared"]
        with pytest.raises(Overloaded, match="1 items of 3 tokens are waiting"):
            await usecase(models, items=["cat"])
        assert watch.counts["prepared"] == prepared
        spy.let_go.set()
        await asyncio.gather(first, second)


async def test_equal_items_in_flight_share_a_run_and_the_cache_answers_later_ones(
    text: Path,
) -> None:
    watch, cache = Watch(), Cache(max_items=2, max_bytes=10**6)
    spy = Spy(attar.load(text))
    model = make(spy, watch=watch, cache=cache)
    async with started(model):
        vectors = await embed(model, ["sun", "rain", "sun"])
        assert spy.batches == [1, 2]
        assert (vectors[0] == vectors[2]).all()
        assert watch.counts["shared"] == 1
        again = await embed(model, ["rain", "sun"])
        assert spy.batches == [1, 2]
        assert (again == vectors[[1, 0]]).all()
        await embed(model, ["cat", "sun"])  # "rain", used longest ago, makes room
        await embed(model, ["sun", "rain"])
        assert spy.batches == [1, 2, 1, 1]
        assert (watch.counts["hits"], watch.counts["misses"]) == (4, 5)


async def test_a_cache_keeps_within_its_bytes_and_apart_what_differs() -> None:
    cache = Cache(max_items=100, max_bytes=3000)
    row = np.ones((2, 128), np.float32)[0]
    for i in range(50):
        cache.put(Key("space", "fp32", bytes([i])), row)
        assert cache.bytes <= 3000
    assert len(cache) == 3000 // (512 + 400)
    kept = cache.get(Key("space", "fp32", bytes([49])))
    assert kept is not None
    assert kept.base is None  # no view, which would keep a whole batch in memory
    for other in (Key("space", "int8", b"1"), Key("other", "fp32", b"1")):
        assert cache.get(other) is None


async def test_statistics_count_calls_items_and_runs(text: Path) -> None:
    async with started(make(text)) as models:
        await usecase(models, items=["sun", "rain"])
        await usecase(models, items=["sun", "\ud800"])
        with pytest.raises(InvalidInput):
            await usecase(models, items=["sun"], dims=5)
        found = models["tiny"].statistics
    assert (found.success.count, found.fail.count) == (2, 1)
    assert (found.inference_count, found.execution_count) == (4, 3)  # with the warm-up
    assert {size: total.count for size, total in found.batches.items()} == {1: 2, 2: 1}
    assert min(found.success.ns, found.queue.ns, found.tokenize.ns, found.infer.ns) > 0
    assert found.last_inference_ms > 1_600_000_000_000


async def test_a_model_stays_open_for_the_calls_that_hold_it(text: Path) -> None:
    model = make(text)
    async with started(model):
        with model.held():
            closing = asyncio.create_task(model.close(drain=True))
            await asyncio.sleep(0.01)
            assert len(await embed(model, ["sun"])) == 1
            assert not closing.done()
        await closing
        with pytest.raises(Unavailable):
            await embed(model, ["sun"])
