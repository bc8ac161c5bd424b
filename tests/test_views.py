"""Views do what their parameters say, and the same for the same generator."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attar.errors import InvalidInput
from attar.training.views.image import distortion
from attar.training.views.text import Tokens, span_crop, token_dropout
from attar.training.views.view import View

CLS, SEP = 101, 102

# How many tokens each sequence of a batch has, [CLS] and [SEP] included.
batches = st.lists(st.integers(2, 12), min_size=1, max_size=6)


def tokens(lengths: list[int], width: int = 12) -> Tokens:
    """Sequences of [CLS] 1 2 3 ... [SEP], padded with zeros."""
    mask = torch.arange(width) < torch.tensor(lengths)[:, None]
    ids = torch.arange(width).expand(len(lengths), -1).where(mask, 0).clone()
    ids[:, 0] = CLS
    ids[torch.arange(len(lengths)), torch.tensor(lengths) - 1] = SEP
    return Tokens(ids, mask.long())


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def sequences(data: Tokens) -> list[list[int]]:
    return [ids[mask.bool()].tolist() for ids, mask in zip(*data, strict=True)]


def check_kept(before: Tokens, view: View[Tokens]) -> None:
    """What any view of tokens promises: `kept` says what stayed, in order, packed to the left."""
    kept = view.params["kept"]
    assert not kept[~before.mask.bool()].any()
    assert sequences(view.data) == [
        ids[keep].tolist() for ids, keep in zip(before.ids, kept, strict=True)
    ]
    assert view.data.mask.tolist() == view.data.mask.sort(dim=1, descending=True).values.tolist()
    assert not view.data.ids[~view.data.mask.bool()].any()
    assert view.data.ids.dtype == view.data.mask.dtype == torch.int64
    for sequence in sequences(view.data):
        assert (sequence[0], sequence[-1]) == (CLS, SEP)


@given(lengths=batches, rate=st.floats(0, 0.99), seed=st.integers(0, 100))
def test_dropout_keeps_the_ends_and_the_order(lengths: list[int], rate: float, seed: int) -> None:
    before = tokens(lengths)
    check_kept(before, token_dropout(before, rate=rate, generator=seeded(seed)))


@given(
    lengths=batches,
    shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)).map(sorted),
    seed=st.integers(0, 100),
)
def test_a_crop_is_one_span_between_the_ends(
    lengths: list[int], shares: list[float], seed: int
) -> None:
    before = tokens(lengths)
    view = span_crop(before, shares=(shares[0], shares[1]), generator=seeded(seed))
    check_kept(before, view)
    for row, sequence in enumerate(sequences(view.data)):
        start, length = int(view.params["start"][row]), int(view.params["length"][row])
        assert sequence[1:-1] == list(range(start, start + length))
        inner = lengths[row] - 2
        assert shares[0] * inner - 1e-4 <= length <= shares[1] * inner + 1
        assert length >= min(inner, 1)


def test_dropping_at_rate_zero_changes_nothing() -> None:
    before = tokens([12, 5])
    after = token_dropout(before, rate=0.0, generator=seeded(0)).data
    assert torch.equal(after.ids, before.ids)
    assert torch.equal(after.mask, before.mask)


def test_dropout_drops_at_its_rate() -> None:
    before = tokens([200] * 50, width=200)
    left = token_dropout(before, rate=0.3, generator=seeded(0)).data.mask.sum() - 100
    assert int(left) / (50 * 198) == pytest.approx(0.7, abs=0.02)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_a_rate_that_is_no_probability_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match=rf"rate must be in \[0, 1\); got {rate}"):
        token_dropout(tokens([4]), rate=rate, generator=seeded(0))


@pytest.mark.parametrize("shares", [(0.0, 0.5), (0.6, 0.5), (0.5, 1.1)])
def test_shares_that_are_none_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(InvalidInput, match="shares must be 0 < low <= high <= 1"):
        span_crop(tokens([4]), shares=shares, generator=seeded(0))


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=seeded(7))


def test_a_distortion_is_its_generators_and_leaves_the_callers_random_state_alone() -> None:
    view = distortion()
    torch.manual_seed(1)
    undisturbed = torch.rand(3)
    torch.manual_seed(1)
    first = view(images(), seeded(0))
    assert torch.equal(torch.rand(3), undisturbed)
    assert torch.equal(view(images(), seeded(0)).data, first.data)
    assert not torch.equal(view(images(), seeded(1)).data, first.data)


def test_two_views_from_one_generator_differ() -> None:
    view, generator = distortion(), seeded(0)
    first, second = view(images(), generator).data, view(images(), generator).data
    assert first.shape == second.shape == images().shape
    assert not torch.equal(first, second)


def test_each_image_gets_its_own_parameters() -> None:
    params = distortion(erase=0.5)(images(64), seeded(0)).params
    assert params["affine"].shape == (64, 3, 3)
    assert len(set(map(str, params["affine"].tolist()))) == 64
    assert 10 < params["erased"].sum() < 54


def test_erased_says_which_images_lost_a_box() -> None:
    still = distortion(degrees=0, translate=0, scale=(1, 1), shear=0, erase=0.5, noise=0)
    before = images(32) + 0.01  # no pixel is black before
    view = still(before, seeded(0))
    torch.testing.assert_close(view.params["affine"], torch.eye(3).expand(32, 3, 3))
    black = (view.data < 1e-6).flatten(1).any(dim=1)
    assert torch.equal(black, view.params["erased"])


def test_affine_says_where_the_pixels_went() -> None:
    moved = distortion(degrees=0, translate=0.2, scale=(1, 1), shear=0, erase=0, noise=0)
    dot = torch.zeros(8, 1, 15, 15)
    dot[:, 0, 7, 7] = 1.0
    view = moved(dot, seeded(0))
    weight = view.data[:, 0]
    at = torch.arange(15.0)
    centre = torch.stack([(weight.sum(1) * at).sum(1), (weight.sum(2) * at).sum(1)], dim=1)
    expected = view.params["affine"] @ torch.tensor([7.0, 7.0, 1.0])
    torch.testing.assert_close(centre, expected[:, :2], atol=1e-3, rtol=0)
