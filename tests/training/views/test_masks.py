"""Masks hide as much as they promise, where they promise."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attar.errors import InvalidInput, ShapeError
from attar.training.views.masks import (
    block_mask,
    corrupt,
    feature_masks,
    random_mask,
    span_mask,
)

counts = st.integers(1, 6)
lengths = st.integers(1, 40)
shares = st.floats(0, 1)
seeds = st.integers(0, 999)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 6, side: int = 24) -> Tensor:
    return torch.rand(n, 3, side, side, generator=seeded(7))


@given(n=counts, length=lengths, rate=shares, seed=seeds)
def test_a_random_mask_hides_its_share_of_every_row(
    n: int, length: int, rate: float, seed: int
) -> None:
    mask = random_mask(n, length, seeded(seed), rate=rate)
    assert mask.shape == (n, length)
    assert mask.dtype == torch.bool
    assert mask.sum(1).tolist() == [round(rate * length)] * n


def test_a_random_mask_hides_every_cell_as_often() -> None:
    mask = random_mask(4000, 10, seeded(0), rate=0.3)
    assert 1050 < mask.sum(0).min() <= mask.sum(0).max() < 1350  # 5 deviations from 1200


def runs(row: Tensor) -> list[int]:
    """Give the lengths of a row's runs of hidden cells."""
    edges = torch.cat([torch.zeros(1), row.float(), torch.zeros(1)]).diff().nonzero()[:, 0].tolist()
    return [end - start for start, end in zip(edges[::2], edges[1::2], strict=True)]


@given(n=counts, length=lengths, rate=shares, seed=seeds, data=st.data())
def test_a_span_mask_hides_whole_spans(
    n: int, length: int, rate: float, seed: int, data: st.DataObject
) -> None:
    span = data.draw(st.integers(1, length))
    mask = span_mask(n, length, seeded(seed), rate=rate, span=span)
    spans = min(round(rate * length / span), length // span)
    assert mask.shape == (n, length)
    assert mask.sum(1).tolist() == [spans * span] * n
    assert all(run % span == 0 for row in mask for run in runs(row))


def test_any_placement_of_spans_is_as_likely() -> None:
    mask = span_mask(6000, 6, seeded(0), rate=2 / 3, span=2)  # six: two spans, two cells between
    placements = {tuple(row) for row in mask.tolist()}
    often = [int((mask == torch.tensor(placement)).all(1).sum()) for placement in placements]
    assert len(placements) == 6
    assert 850 < min(often) <= max(often) < 1150  # 5 deviations from 1000


@given(n=counts, sides=st.tuples(lengths, lengths), rate=shares, longest=shares, seed=seeds)
def test_a_block_mask_hides_at_least_its_share_and_less_than_a_block_more(
    n: int, sides: tuple[int, int], rate: float, longest: float, seed: int
) -> None:
    mask = block_mask(n, sides, seeded(seed), rate=rate, longest=longest)
    hidden = mask.sum((1, 2))
    block = math.prod(max(1, int(longest * side)) for side in sides)
    assert mask.shape == (n, *sides)
    assert (hidden >= rate * mask[0].numel() - 1e-3).all()
    assert (hidden < rate * mask[0].numel() + block).all()


def test_each_row_may_have_its_own_share_of_blocks() -> None:
    mask = block_mask(3, (10, 10), seeded(0), rate=torch.tensor([0.0, 0.2, 0.9]), longest=0.1)
    assert mask.sum((1, 2)).tolist() == [0, 20, 90]  # blocks of one cell


def test_a_block_is_a_rectangle_of_any_side_and_place() -> None:
    first = block_mask(3000, (10, 20), seeded(0), rate=0.001, longest=0.3)  # one block is enough
    down, across = first.any(2), first.any(1)
    assert torch.equal(first, down[:, :, None] & across[:, None, :])
    assert {tuple(runs(row)) for row in down} == {(1,), (2,), (3,)}
    assert {tuple(runs(row)) for row in across} == {(side,) for side in range(1, 7)}
    assert down.any(0).all()
    assert across.any(0).all()


@given(n=counts, features=st.integers(2, 40), sets=st.integers(1, 5), seed=seeds)
def test_targets_share_no_feature_with_their_context(
    n: int, features: int, sets: int, seed: int
) -> None:
    context, targets = feature_masks(n, features, seeded(seed), sets=sets)
    assert context.shape == (n, features)
    assert targets.shape == (n, sets, features)
    assert not (context[:, None] & targets).any()
    for size in (set(context.sum(1).tolist()), set(targets.sum(2).flatten().tolist())):
        assert len(size) == 1
        # Some numbers of features, such as 4, have no whole number between a fifth and two.
        assert max(1, 0.2 * features - 1) <= next(iter(size)) <= max(1, 0.4 * features)


@given(
    features=st.integers(2, 30),
    ends=st.tuples(shares, shares, shares, shares),
    seed=seeds,
)
def test_contexts_and_targets_of_any_shares_fit(
    features: int, ends: tuple[float, ...], seed: int
) -> None:
    (low, high), (first, last) = sorted(ends[:2]), sorted(ends[2:])
    context, targets = feature_masks(
        2, features, seeded(seed), context=(low, high), target=(first, last), sets=2
    )
    seen, wanted = int(context[0].sum()), int(targets[0, 0].sum())
    assert not (context[:, None] & targets).any()
    assert 1 <= seen <= features - 1
    assert 1 <= wanted <= features - seen


def test_context_sizes_are_all_those_between_their_ends() -> None:
    sizes = {int(feature_masks(1, 20, seeded(seed)).context.sum()) for seed in range(60)}
    assert sizes == {4, 5, 6, 7, 8}


def test_a_corrupted_image_is_its_own_but_where_it_says() -> None:
    view = corrupt(images(), seeded(0), cell=4)
    hidden, foreign, other = (view.params[name] for name in ("hidden", "foreign", "other"))
    everywhere = [mask[:, None].expand_as(images()) for mask in (hidden, foreign)]
    assert torch.equal(view.data[~everywhere[0]], images()[~everywhere[0]])
    assert torch.equal(view.data[everywhere[1]], images()[other][everywhere[1]])
    assert not (foreign & ~hidden).any()
    assert (view.data != images())[everywhere[0]].all()
    assert (other != torch.arange(6)).all()
    for mask in (hidden, foreign):
        cells = mask.view(6, 6, 4, 6, 4).float()
        assert torch.equal(cells.amax((2, 4)), cells.amin((2, 4)))


def test_the_requested_share_is_corrupted() -> None:
    params = corrupt(images(400, 16), seeded(0), cell=2, longest=0.25).params
    foreign, hidden = (params[name].float().mean((1, 2)) for name in ("foreign", "hidden"))
    assert foreign.max() < 0.3 + 4 / 64
    assert foreign.min() >= 0.3 - 1e-3
    assert (hidden >= 0.5).all()
    assert (hidden < 0.5 + 0.3 + 8 / 64).all()


def test_noise_in_an_image_has_its_mean_and_deviation() -> None:
    before = 0.3 + 0.1 * torch.randn(2, 1, 128, 128, generator=seeded(1))
    view = corrupt(before, seeded(0), cell=2, drop=1.0, replace=0.0)
    assert view.params["hidden"].all()
    assert view.data.mean((1, 2, 3)).tolist() == pytest.approx([0.3] * 2, abs=0.005)
    assert view.data.std((1, 2, 3)).tolist() == pytest.approx([0.1] * 2, abs=0.005)


def test_a_share_of_zero_corrupts_nothing() -> None:
    assert torch.equal(corrupt(images(), seeded(0), cell=4, drop=0, replace=0).data, images())


def test_a_single_image_has_no_other() -> None:
    assert corrupt(images(1), seeded(0), cell=4).params["other"].tolist() == [0]


@pytest.mark.parametrize("rate", [-0.1, 1.1])
def test_a_share_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match=rf"rate must be in \[0, 1\]; got {rate}"):
        random_mask(2, 4, seeded(0), rate=rate)
    with pytest.raises(InvalidInput, match=rf"rate must be in \[0, 1\]; got {rate}"):
        span_mask(2, 4, seeded(0), rate=rate, span=2)
    with pytest.raises(InvalidInput, match=r"rate must be in \[0, 1\]; got"):
        block_mask(2, (4, 4), seeded(0), rate=rate)
    with pytest.raises(InvalidInput, match=rf"replace must be in \[0, 1\]; got {rate}"):
        corrupt(images(), seeded(0), cell=4, replace=rate)
    with pytest.raises(InvalidInput, match="context must be 0 <= low <= high <= 1"):
        feature_masks(2, 4, seeded(0), context=(0.2, rate) if rate < 0 else (rate, 0.2))


def test_masks_refuse_what_they_cannot_do() -> None:
    with pytest.raises(InvalidInput, match=r"span must be in \[1, length = 4\]; got 5"):
        span_mask(2, 4, seeded(0), rate=0.5, span=5)
    with pytest.raises(InvalidInput, match="at least 2 features and 1 target set; got 1 and 4"):
        feature_masks(2, 1, seeded(0))
    with pytest.raises(ShapeError, match="multiples of cell = 5; got"):
        corrupt(images(), seeded(0), cell=5)
