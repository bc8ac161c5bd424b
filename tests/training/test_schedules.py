"""Schedules: their ends are where they say, and nothing in between strays."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.training.schedules import constant, cosine_ramp, infinite, linear_ramp, warmup_cosine

values = st.floats(-10, 10)
counts = st.integers(1, 1000)


def test_a_constant_is_one() -> None:
    assert {constant(0.3)(step) for step in (0, 1, 10**9)} == {0.3}


@given(start=values, end=values, steps=counts, step=st.integers(0, 2000))
def test_a_ramp_stays_between_its_ends(start: float, end: float, steps: int, step: int) -> None:
    at = cosine_ramp(start, end, steps)
    assert math.isclose(at(0), start, abs_tol=1e-12)
    assert at(steps) == at(steps + step) == end
    assert min(start, end) - 1e-9 <= at(step) <= max(start, end) + 1e-9


def test_a_ramp_is_half_way_at_half_time() -> None:
    assert cosine_ramp(1.0, 0.0, 10)(5) == pytest.approx(0.5)


@given(data=st.data(), peak=st.floats(1e-6, 10), steps=counts)
def test_a_warmed_cosine_rises_to_its_peak_then_falls_to_its_floor(
    data: st.DataObject, peak: float, steps: int
) -> None:
    warmup = data.draw(st.integers(0, steps - 1))
    floor = data.draw(st.floats(0, peak))
    at = warmup_cosine(peak, warmup, steps, floor=floor)
    curve = [at(step) for step in range(steps + 2)]
    assert curve[warmup] == pytest.approx(peak)
    assert curve[: warmup + 1] == sorted(curve[: warmup + 1])
    assert all(a >= b - 1e-12 for a, b in zip(curve[warmup:], curve[warmup + 1 :], strict=False))
    assert curve[0] > 0
    assert curve[-1] == curve[-2] == floor


def test_warming_up_is_linear() -> None:
    at = warmup_cosine(4.0, 3, 10)
    assert [at(step) for step in range(4)] == [1.0, 2.0, 3.0, 4.0]


@pytest.mark.parametrize("warmup", [-1, 10, 11])
def test_a_warmup_that_leaves_no_steps_is_refused(warmup: int) -> None:
    with pytest.raises(InvalidInput, match=f"got {warmup} of 10 steps"):
        warmup_cosine(1.0, warmup, 10)


def test_a_ramp_over_no_steps_is_refused() -> None:
    with pytest.raises(InvalidInput, match="steps must be at least 1; got 0"):
        cosine_ramp(0.0, 1.0, 0)


def test_a_linear_ramp_goes_straight_and_stays() -> None:
    ramp = linear_ramp(0.2, 0.8, 3)
    assert [ramp(step) for step in range(6)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 0.8, 0.8])


def test_an_infinite_rate_climbs_cools_and_stays_for_ever() -> None:
    rate = infinite(1.0, 0.25, warmup=4, cooldown=10)
    assert [rate(step) for step in range(5)] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rate(9) == pytest.approx((1.0 + 0.25) / 2)
    assert {rate(step) for step in (14, 15, 1_000_000)} == {0.25}


def test_a_released_rate_falls_exponentially_to_its_floor_in_the_anneal() -> None:
    rate = infinite(1.0, 0.25, warmup=4, cooldown=10, release=20, anneal=8, floor=0.01)
    assert rate(19) == rate(20) == 0.25
    ratios = [rate(step + 1) / rate(step) for step in range(20, 28)]
    assert ratios == pytest.approx([(0.01 / 0.25) ** (1 / 8)] * 8)
    assert rate(28) == rate(1000) == pytest.approx(0.01)


@pytest.mark.parametrize(("release", "floor"), [(13, 0.1), (20, 0.0), (20, 0.3)])
def test_a_release_too_early_or_to_no_floor_is_refused(release: int, floor: float) -> None:
    with pytest.raises(InvalidInput, match=r"release must not be before .* = 14, and floor in"):
        infinite(1.0, 0.25, warmup=4, cooldown=10, release=release, floor=floor)
