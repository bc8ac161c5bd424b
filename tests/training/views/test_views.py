"""Views do what their parameters say, and the same for the same generator."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from attar.errors import InvalidInput
from attar.training.views.image import distortion
from attar.training.views.text import (
    Tokens,
    insert_tokens,
    mask_tokens,
    span_crop,
    swap_tokens,
    token_dropout,
)
from attar.training.views.view import View

CLS, SEP, BLANK = 101, 102, 103

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


def check_unmasked(before: Tokens, view: View[Tokens]) -> None:
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
    check_unmasked(before, token_dropout(before, rate=rate, generator=seeded(seed)))


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
    check_unmasked(before, view)
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


@given(
    lengths=batches,
    rate=st.floats(0.01, 1),
    fates=st.tuples(st.floats(0, 0.5), st.floats(0, 0.5)),
    seed=st.integers(0, 100),
)
def test_masking_hides_its_share_between_the_ends_and_says_what_was_there(
    lengths: list[int], rate: float, fates: tuple[float, float], seed: int
) -> None:
    before = tokens(lengths)
    view = mask_tokens(
        before,
        seeded(seed),
        blank=BLANK,
        vocabulary=50,
        rate=rate,
        replaced=fates[0],
        unchanged=fates[1],
    )
    hidden, labels = view.params["hidden"], view.params["labels"]
    assert torch.equal(view.data.mask, before.mask)
    assert torch.equal(view.data.ids[~hidden], before.ids[~hidden])
    assert torch.equal(labels[hidden], before.ids[hidden])
    assert (labels[~hidden] == -100).all()
    shown = view.data.ids[hidden]
    assert ((shown == BLANK) | ((shown >= 0) & (shown < 50))).all()
    for length, row in zip(lengths, hidden, strict=True):
        inner = length - 2
        assert not row[0]
        assert not row[length - 1 :].any()
        assert int(row.sum()) >= min(inner, 1)
        assert abs(int(row.sum()) - max(rate * inner, min(inner, 1))) <= 0.5 + 1e-4


def test_hidden_tokens_are_masked_replaced_or_left_at_the_set_rates() -> None:
    before = tokens([200] * 500, width=200)
    view = mask_tokens(before, seeded(0), blank=BLANK, vocabulary=10**6)
    hidden = view.params["hidden"]
    shown, was = view.data.ids[hidden], before.ids[hidden]
    assert len(shown) == 500 * 30
    assert float((shown == BLANK).float().mean()) == pytest.approx(0.8, abs=0.015)
    assert float((shown == was).float().mean()) == pytest.approx(0.1, abs=0.012)
    assert hidden[:, 1:-1].sum(0).min() > 30  # 75 on average, 5 deviations


def test_masking_can_be_pure() -> None:
    view = mask_tokens(
        tokens([12] * 50), seeded(0), blank=BLANK, vocabulary=9, replaced=0, unchanged=0
    )
    assert (view.data.ids[view.params["hidden"]] == BLANK).all()


@pytest.mark.parametrize(
    ("rate", "replaced", "unmasked"), [(0, 0, 0), (0.1, 0.6, 0.6), (0.1, -1, 0)]
)
def test_masking_that_makes_no_sense_is_refused(
    rate: float, replaced: float, unmasked: float
) -> None:
    with pytest.raises(InvalidInput, match=f"got {rate}, {replaced} and {unmasked}"):
        mask_tokens(
            tokens([4]),
            seeded(0),
            blank=9,
            vocabulary=9,
            rate=rate,
            replaced=replaced,
            unchanged=unmasked,
        )


@given(lengths=batches, rate=st.floats(0.01, 1), seed=st.integers(0, 100))
def test_swapping_moves_its_share_between_the_ends_and_loses_no_token(
    lengths: list[int], rate: float, seed: int
) -> None:
    before = tokens(lengths)
    view = swap_tokens(before, seeded(seed), rate=rate)
    moved = view.params["moved"]
    assert torch.equal(view.data.mask, before.mask)
    assert torch.equal(moved, view.data.ids != before.ids)
    assert torch.equal(view.data.ids.sort(1).values, before.ids.sort(1).values)
    for length, row in zip(lengths, moved, strict=True):
        inner = length - 2
        assert not row[0]
        assert not row[length - 1 :].any()
        count = min(max(rate * inner, 2), inner) if inner > 1 else 0
        assert abs(int(row.sum()) - count) <= 0.5 + 1e-4


def test_tokens_that_meet_their_equals_have_not_moved() -> None:
    equal = Tokens(torch.full((3, 8), 7), torch.ones(3, 8, dtype=torch.int64))
    view = swap_tokens(equal, seeded(0), rate=1)
    assert torch.equal(view.data.ids, equal.ids)
    assert not view.params["moved"].any()


@given(
    lengths=batches,
    rate=st.floats(0.01, 1),
    longest=st.integers(3, 60),
    seed=st.integers(0, 100),
)
def test_inserting_adds_its_share_between_the_ends_and_keeps_the_order(
    lengths: list[int], rate: float, longest: int, seed: int
) -> None:
    before = tokens(lengths)
    whole = insert_tokens(before, seeded(seed), blank=BLANK, longest=10**6, rate=rate)
    added = whole.params["added"]
    assert (whole.data.ids[added] == BLANK).all()
    for row, length in enumerate(lengths):
        inner, real = length - 2, whole.data.mask[row].bool()
        count = int(added[row].sum())
        assert count >= min(inner, 1)
        assert abs(count - max(rate * inner, min(inner, 1))) <= 0.5 + 1e-4
        assert int(real.sum()) == length + count
        assert real[: length + count].all()
        assert not added[row, 0]
        assert not added[row, length + count - 1 :].any()
        own = whole.data.ids[row][real & ~added[row]]
        assert torch.equal(own, before.ids[row, :length])
    cut = insert_tokens(before, seeded(seed), blank=BLANK, longest=longest, rate=rate)
    assert torch.equal(cut.data.ids, whole.data.ids[:, :longest])
    assert torch.equal(cut.params["added"], added[:, :longest])


@pytest.mark.parametrize("rate", [0, -0.1, 1.1])
def test_a_share_of_changes_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(InvalidInput, match=r"rate must be in \(0, 1\]; got"):
        swap_tokens(tokens([4]), seeded(0), rate=rate)
    with pytest.raises(InvalidInput, match=r"rate must be in \(0, 1\]; got"):
        insert_tokens(tokens([4]), seeded(0), blank=BLANK, longest=9, rate=rate)


def images(n: int = 6) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=seeded(7))


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
