"""A text encoder gives one unit row a text, of the sizes that its shape says and no others."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch

from attar.errors import InvalidInput
from attar.training.data.text import pad
from attar.training.encoders.pooling import mean_pool
from attar.training.encoders.students import STUDENT
from attar.training.encoders.text import TextConfig, TextEncoder, parameter_count
from attar.training.encoders.transformer import TransformerConfig
from attar.training.probes.text_retrieval import embed
from benchmarks.support.encoders import ATTENTIONS, random_rows, rows_of, tiny_encoder, tiny_shape


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("dim", [None, 5])
def test_rows_are_of_length_one_even_for_texts_of_nothing(
    name: str, norm: Literal["pre", "post"], dim: int | None
) -> None:
    encoder = tiny_encoder(tiny_shape(norm=norm, dim=dim), attention=ATTENTIONS[name])
    rows = rows_of(["", "   ", "cat", "the cat sat on the mat"])
    assert [len(row) for row in rows] == [2, 2, 3, 8]
    vectors = embed(encoder, [*rows, rows[0][:1]])  # and a row of a single token
    assert vectors.shape == (5, dim or 16)
    assert encoder.dim == vectors.shape[1]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[1])


def test_the_same_words_in_another_order_are_another_text() -> None:
    one, other = embed(tiny_encoder(), rows_of(["the cat sat", "sat cat the"]))
    assert np.abs(one - other).max() > 1e-3


def test_pooling_is_the_mean_of_the_real_tokens() -> None:
    tokens = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0]])
    assert mean_pool(tokens, mask).tolist() == [[3, 4, 5], [12, 13, 14]]


@pytest.mark.parametrize("training", [False, True])
def test_the_wide_part_adds_the_mean_of_its_tokens_rows(*, training: bool) -> None:
    plain = replace(tiny_shape(dim=5), normalized=False)
    encoder = tiny_encoder(replace(plain, wide=3))
    assert encoder.wide is not None
    encoder.train(training)
    ids, mask = pad(random_rows(6))
    rows = encoder.wide.table.weight @ encoder.wide.expand.weight.T  # (vocabulary, dim)
    means = torch.stack(
        [rows[own[real.bool()]].mean(0) for own, real in zip(ids, mask, strict=True)]
    )
    deep = encoder.project(encoder.states(ids, mask))
    torch.testing.assert_close(encoder(ids, mask), deep + means)


def test_token_vectors_with_a_wide_part_still_average_to_the_embedding() -> None:
    encoder = tiny_encoder(replace(tiny_shape(dim=5), normalized=False, wide=3))
    ids, mask = pad(random_rows(6))
    vectors, tokens = encoder.with_tokens(ids, mask)
    torch.testing.assert_close(mean_pool(tokens, mask), vectors)


def transformer_parameters(shape: TransformerConfig) -> int:
    width, hidden = shape.width, shape.hidden
    attention = 4 * (width * width + width)
    feed_forward = 2 * width * hidden + hidden + width
    return shape.depth * (attention + feed_forward + 2 * 2 * width)


@pytest.mark.parametrize("rank", [None, 4])
def test_a_factorised_table_has_its_two_factors_for_parameters(rank: int | None) -> None:
    shape = tiny_shape(rank=rank)
    vocabulary, width = shape.vocabulary, 16
    table = vocabulary * rank + rank * width if rank else vocabulary * width
    rest = 16 * width + 2 * width + transformer_parameters(shape.transformer)
    assert parameter_count(TextEncoder(shape)) == table + rest


def test_the_default_student_has_the_size_it_is_said_to_have() -> None:
    assert parameter_count(TextEncoder(STUDENT)) == 6_742_784


def test_shared_parameters_count_once() -> None:
    encoder = TextEncoder(tiny_shape())
    whole = parameter_count(encoder)
    first, second = encoder.transformer.blocks
    second.expand = first.expand
    assert parameter_count(encoder) == whole - (16 * 32 + 32)


def test_tokens_start_at_like_sizes_whatever_the_rank() -> None:
    # The factorised table starts wider because its second factor narrows it again.
    ids, _ = pad(random_rows(50))
    for rank in (None, 2, 8):
        tokens = TextEncoder(tiny_shape(rank=rank)).tokens(ids)
        assert 0.9 < tokens.std() < 1.1


@pytest.mark.parametrize(
    "change",
    [
        {"width": 15},
        {"width": 0},
        {"heads": 0},
        {"depth": 0},
        {"hidden": -1},
        {"norm": "both"},
    ],
)
def test_transformers_that_cannot_be_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="width must be a multiple of heads"):
        replace(tiny_shape().transformer, **change)


@pytest.mark.parametrize("name", ["vocabulary", "max_length", "rank", "dim", "wide"])
def test_encoders_of_nothing_are_refused(name: str) -> None:
    shape: TextConfig = tiny_shape()
    change: dict[str, Any] = {name: 0}
    with pytest.raises(InvalidInput, match=f"must be at least 1; got .*{name}=0"):
        replace(shape, **change)
