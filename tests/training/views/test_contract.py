"""What every view promises, over a table of all of them."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from attar.training.views.fields import random_fields
from attar.training.views.fourier import batch_style
from attar.training.views.image import distortion, natural
from attar.training.views.masks import corrupt
from attar.training.views.puzzle import colour_orders, quarter_turns
from attar.training.views.spectrogram import alter
from attar.training.views.text import (
    Tokens,
    insert_tokens,
    mask_tokens,
    span_crop,
    swap_tokens,
    token_dropout,
)
from attar.training.views.view import View

N = 6


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images() -> Tensor:
    return torch.rand(N, 3, 24, 24, generator=seeded(7))


def greys() -> Tensor:
    return torch.rand(N, 1, 8, 8, generator=seeded(7))


def series() -> Tensor:
    return torch.randn(N, 2, 40, generator=seeded(7))


def tokens() -> Tokens:
    return Tokens(torch.arange(N * 12).view(N, 12), torch.ones(N, 12, dtype=torch.int64))


Seen = Callable[[Any, torch.Generator], View[Any]]
VIEWS: dict[str, tuple[Seen, Callable[[], Any]]] = {
    "distortion": (distortion(), greys),
    "natural": (natural(16, solarise=0.2), images),
    "quarter_turns": (quarter_turns, images),
    "colour_orders": (colour_orders, images),
    "random_fields": (partial(random_fields, hue=0.1, saturation=0.1, brightness=0.1), images),
    "batch_style": (batch_style, images),
    "corrupt": (partial(corrupt, cell=4), images),
    "alter": (partial(alter, span=3), series),
    "token_dropout": (partial(token_dropout, rate=0.5), tokens),
    "span_crop": (partial(span_crop, shares=(0.2, 0.9)), tokens),
    "mask_tokens": (partial(mask_tokens, blank=999, vocabulary=500, rate=0.4), tokens),
    "swap_tokens": (partial(swap_tokens, rate=0.4), tokens),
    "insert_tokens": (partial(insert_tokens, blank=999, longest=14, rate=0.4), tokens),
}
each = pytest.mark.parametrize("name", VIEWS)


def parts(data: Any) -> tuple[Tensor, ...]:
    return tuple(data) if isinstance(data, tuple) else (data,)


def same(one: View[Any], other: View[Any]) -> bool:
    pairs = zip(parts(one.data), parts(other.data), strict=True)
    return all(torch.equal(a, b) for a, b in pairs) and all(
        torch.equal(one.params[name], other.params[name]) for name in one.params
    )


@each
def test_a_view_is_its_generators(name: str) -> None:
    view, data = VIEWS[name]
    assert same(view(data(), seeded(0)), view(data(), seeded(0)))
    others = [view(data(), seeded(seed)) for seed in range(1, 4)]
    assert not all(same(view(data(), seeded(0)), other) for other in others)


@each
def test_views_from_one_generator_differ(name: str) -> None:
    (view, data), generator = VIEWS[name], seeded(0)
    views = [view(data(), generator) for _ in range(4)]
    assert not all(same(views[0], other) for other in views[1:])


@each
def test_a_view_leaves_the_callers_random_state_alone(name: str) -> None:
    view, data = VIEWS[name]
    before = torch.random.get_rng_state()
    view(data(), seeded(0))
    assert torch.equal(torch.random.get_rng_state(), before)


@each
def test_a_view_leaves_what_it_was_given_alone(name: str) -> None:
    view, data = VIEWS[name]
    given = data()
    view(given, seeded(0))
    assert all(torch.equal(a, b) for a, b in zip(parts(given), parts(data()), strict=True))


@each
def test_parameters_are_one_row_an_item_and_types_are_kept(name: str) -> None:
    view, data = VIEWS[name]
    seen = view(data(), seeded(0))
    assert {len(rows) for rows in (*parts(seen.data), *seen.params.values())} == {N}
    for after, before in zip(parts(seen.data), parts(data()), strict=True):
        assert after.dtype == before.dtype
        assert after.isfinite().all()
