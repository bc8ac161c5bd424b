"""EmbedTokens over a real channel: the device's numbers, bounded, and a bad item fails alone."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import attar
from attar import AsyncClient, Client
from attar.encodings import Encoding
from attar.errors import InputTooLong, InvalidInput, NotSupported
from benchmarks.support.bundles import tiny_bundle, tiny_tensor_bundle
from benchmarks.support.servers import serving, settings

TEXTS = ["the cat sat", "dog", "a red sun"]
IMAGES = np.random.default_rng(0).random((4, 1, 8, 8), np.float32)


@dataclass(frozen=True, slots=True)
class Served:
    target: str
    client: Client
    words: attar.Encoder
    pixels: attar.Encoder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("tokens")
    words = tiny_bundle(folder / "words.attar", name="words", tokens=True)
    pixels = tiny_tensor_bundle(folder / "pixels.attar", name="pixels", tokens=True)
    plain = tiny_bundle(folder / "plain.attar", name="plain", seed=1)
    limits = {"max_answer_bytes": 1024}  # four images of eight rows of eight pixels
    with (
        serving(settings(words, pixels, plain, data_dir=folder / "data", **limits)) as target,
        Client(target) as client,
    ):
        yield Served(target, client, attar.load(words, threads=1), attar.load(pixels, threads=1))


@pytest.mark.parametrize("encoding", ["f32", "f16", "int8", "binary"])
def test_a_text_has_the_devices_token_vectors(served: Served, encoding: Encoding) -> None:
    local = served.words.embed_tokens(TEXTS[:2], encoding=encoding)

    remote = served.client.embed_tokens(TEXTS[:2], model="words", encoding=encoding)

    np.testing.assert_allclose(remote.vectors, local.vectors, atol=1e-6)
    assert remote.vectors.dtype == local.vectors.dtype
    assert remote.lengths.tolist() == local.lengths.tolist() == [5, 3]
    assert remote.grid is None
    assert (remote.fingerprint, remote.dim) == (local.fingerprint, 16)


@pytest.mark.parametrize(
    "choice", [{}, {"pooling": "grid", "grid": (2, 1)}, {"pooling": "grid", "grid": (3, 1)}]
)
def test_an_image_has_the_devices_tokens_or_the_cells_of_a_grid(
    served: Served, choice: dict[str, Any]
) -> None:
    local = served.pixels.embed_tokens(IMAGES, **choice)

    remote = served.client.embed_tokens(IMAGES, model="pixels", **choice)

    np.testing.assert_allclose(remote.vectors, local.vectors, atol=1e-6)
    assert remote.grid == local.grid == choice.get("grid", (8, 1))
    for i in range(4):
        np.testing.assert_array_equal(remote[i], local[i])


def test_a_bad_item_fails_alone_and_has_no_vectors(served: Served) -> None:
    items = ["the cat", "cat " * 99, "sun"]

    found = served.client.embed_tokens(items, model="words", truncation="error", partial=True)

    assert [type(error) for error in found.errors] == [type(None), InputTooLong, type(None)]
    assert found.lengths.tolist() == [4, 0, 3]
    np.testing.assert_allclose(found[2], served.words.embed_tokens(["sun"])[0], atol=1e-6)


def test_a_call_whose_every_item_fails_gives_their_errors(served: Served) -> None:
    found = served.client.embed_tokens(
        ["cat " * 99], model="words", truncation="error", partial=True
    )

    assert found.vectors.shape == (0, 16)
    assert [type(error) for error in found.errors] == [InputTooLong]


def test_an_answer_at_the_limit_is_given_and_one_image_more_is_refused_before_a_run(
    served: Served,
) -> None:
    assert len(served.client.embed_tokens(IMAGES, model="pixels").vectors) == 32
    more = np.concatenate([IMAGES, IMAGES[:1]])

    for encoding in ("f32", "binary"):
        with pytest.raises(
            InvalidInput, match="40 token vectors, 1280 bytes in float32, more than max_answer_by"
        ):
            served.client.embed_tokens(more, model="pixels", encoding=encoding)
    cells = served.client.embed_tokens(more, model="pixels", pooling="grid", grid=(6, 1))
    assert len(cells.vectors) == 30


def test_embeddings_and_tokens_of_one_item_do_not_share_a_result(served: Served) -> None:
    async def both() -> None:
        async with AsyncClient(served.target) as client:
            rows, tokens, cells = await asyncio.gather(
                client.embed(IMAGES, model="pixels"),
                client.embed_tokens(IMAGES, model="pixels"),
                client.embed_tokens(IMAGES, model="pixels", pooling="grid", grid=(1, 1)),
            )
        np.testing.assert_allclose(rows.vectors, served.pixels.embed(IMAGES).vectors, atol=1e-6)
        assert len(tokens.vectors) == 32
        assert len(cells.vectors) == 4

    asyncio.run(both())


def test_a_model_without_token_vectors_is_refused_and_info_says_which_has(served: Served) -> None:
    with pytest.raises(NotSupported, match="plain has no token vectors"):
        served.client.embed_tokens(TEXTS, model="plain")

    models = {model.name: model for model in served.client.info().models}
    assert (models["plain"].token_dim, models["plain"].token_grid) == (0, None)
    assert (models["words"].token_dim, models["words"].token_grid) == (16, None)
    assert (models["pixels"].token_dim, models["pixels"].token_grid) == (8, (8, 1))


@pytest.mark.parametrize("grid", ["ab", (1,), (1, 2, 3), 4])
def test_what_is_no_grid_is_refused_before_it_is_sent(served: Served, grid: Any) -> None:
    with pytest.raises(InvalidInput, match=r"give \(rows, columns\)"):
        served.client.embed_tokens(IMAGES, model="pixels", pooling="grid", grid=grid)
