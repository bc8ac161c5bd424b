"""A claim holds by the lower ends of intervals over seeds."""

import pytest
from scipy import stats

from attar.training.claim import Claim, Effect, difference


def claim(*effects: Effect) -> Claim[None]:
    return Claim("a sentence", lambda: None, lambda _, seed: {"a": 1.0 + seed, "b": 0.0}, effects)


def test_an_effect_has_students_interval_of_its_paired_differences() -> None:
    figures = {"after": (0.9, 0.7, 0.8), "before": (0.5, 0.4, 0.2)}
    over = difference("after", "before").over(figures)
    apart = [0.4, 0.3, 0.6]
    expected = stats.t.interval(0.95, 2, loc=sum(apart) / 3, scale=stats.sem(apart))
    assert (over.low, over.high) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("second", "above", "holds"),
    [
        ((0.5, 0.4, 0.3), 0.0, True),  # 0.3 at each seed
        ((0.5, 0.4, 0.3), 0.3, False),
        ((0.2, 0.6, 0.5), 0.0, False),  # on average above, and not by the interval
    ],
)
def test_a_mean_above_is_not_enough(second: tuple[float, ...], above: float, holds: bool) -> None:
    figures = {"first": (0.8, 0.7, 0.65), "second": second}
    assert difference("first", "second", above=above).holds(figures) is holds


def test_a_claim_needs_each_of_its_effects() -> None:
    shown, hidden = difference("a", "b"), difference("b", "a")
    assert claim(shown).check((0, 1, 2)).holds is False  # 1, 2 and 3: the interval has zero in it
    assert claim(shown).check(range(10)).holds
    assert not claim(shown, hidden).check(range(10)).holds


def test_of_one_seed_the_number_itself_is_judged() -> None:
    assert claim(Effect("a", lambda seed: seed["a"], above=0.5)).check((0,)).holds
