"""Models: real encoders behind batchers, whose bad items fail alone and whose state is honest."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attar
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
from attar.server.engine.models import Model, Models, Row

from .bundles import tiny_bundle, tiny_tensor_bundle
from .test_batcher import Clumsy, Tally


class Watch(Tally):
    """A tally that also counts the host step."""

    def tokenized(self, seconds: float, *, truncated: int) -> None:
        assert seconds >= 0
        self.counts["truncated"] += truncated


class Broken(Clumsy, Watch):
    """An observer with a bug that shows after the first run, which is the warm-up."""

    def batch(self, size: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        if self.batches:
            super().batch(size, tokens, padded_tokens, seconds)
        Watch.batch(self, size, tokens, padded_tokens, seconds)


def make(path: Path, *, watch: Watch | None = None, items: int = 256) -> Model:
    """Put a bundle's encoder behind a batcher."""
    return Model(
        attar.load(path, threads=1),
        max_batch_tokens=256,
        max_queue_items=items,
        observer=watch or Watch(),
    )


@asynccontextmanager
async def started(*models: Model) -> AsyncIterator[Models]:
    """Start models, and close them at the end."""
    together = Models(models)
    await together.start()
    try:
        yield together
    finally:
        await together.close(drain=True)


async def embed(model: Model, items: Items) -> NDArray[np.float32]:
    """Embed texts none of which is bad."""
    rows = await model.rows(await prepare(model, items))
    return np.array([row.vector for row in rows if isinstance(row, Row)])


async def prepare(model: Model, items: Items) -> list[Prepared]:
    """Prepare items none of which is bad."""
    prepared = await model.prepare(items, role="passage", truncation="truncate")
    return [one for one in prepared if isinstance(one, Prepared)]


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
        assert [type(one) for one in prepared] == kinds
        assert [str(prepared[i]).split(" has ")[0] for i in (1, 3)] == ["item 1", "item 3"]
        assert str(prepared[4]).startswith("item 4 must be a string")
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
        assert [type(one) for one in wrong] == [ShapeError, ShapeError]


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
        prepared = await prepare(model, ["sun"] * 4)
        late = asyncio.get_running_loop().time() - 1
        with pytest.raises(DeadlineExceeded):
            await model.rows(prepared, deadline=late)
        calls = [asyncio.create_task(model.rows(prepared, wait=False)) for _ in range(3)]
        streams = [asyncio.create_task(model.rows(prepared, wait=True)) for _ in range(3)]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert any(isinstance(answer, Overloaded) for answer in answers)
        assert [len(rows) for rows in await asyncio.gather(*streams)] == [4, 4, 4]


async def test_a_model_whose_loop_dies_says_so_and_leaves_the_others_alone(
    text: Path, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with started(make(text, watch=Broken()), make(image)) as models:
        with pytest.raises(Unavailable, match="has died"):
            await embed(models["tiny"], ["sun"])
        assert not models["tiny"].ready
        assert not models.ready
        assert models["tiny-image"].ready
        await asyncio.sleep(0)  # the callback of a task that ends runs a turn later
        assert "model tiny is not ready: its batcher died" in caplog.text


async def test_neither_host_step_nor_forward_pass_runs_on_the_loop(text: Path) -> None:
    class Spy:
        """The encoder, with a note of the threads that it worked in."""

        def __init__(self, encoder: attar.Encoder) -> None:
            self.threads: set[int] = set()
            self.encoder = encoder

        def __getattr__(self, name: str) -> object:
            return getattr(self.encoder, name)

        def prepare(
            self, items: Items, *, role: Role = "passage", truncation: Truncation = "truncate"
        ) -> object:
            self.threads.add(threading.get_ident())
            return self.encoder.prepare(items, role=role, truncation=truncation)

        def infer(self, rows: list[Prepared]) -> object:
            self.threads.add(threading.get_ident())
            return self.encoder.infer(rows)

    spy: Any = Spy(attar.load(text))
    model = Model(spy, max_batch_tokens=64, max_queue_items=4, observer=Watch())
    async with started(model):
        spy.threads.clear()
        await embed(model, ["sun"])
        assert len(spy.threads) == 2
        assert threading.get_ident() not in spy.threads
