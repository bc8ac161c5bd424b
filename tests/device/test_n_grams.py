"""Surprise: what was counted is expected, what was not is surprising, and chances add up to one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from attar.errors import InvalidInput, ShapeError
from attar.n_grams import n_grams


def test_one_code_alone_is_as_surprising_as_it_was_rare() -> None:
    model = n_grams([[0, 0, 0, 1]], 3, order=1, strength=3.0)
    # Three and one of four sightings, and three more spread evenly.
    expected = -np.log([(3 + 1) / 7, (1 + 1) / 7, (0 + 1) / 7])
    np.testing.assert_allclose(model.surprise([[0, 1, 2]])[0], expected)


def test_a_context_is_heard_as_far_as_it_was_seen() -> None:
    model = n_grams([[0, 1, 0, 1, 0]], 2, order=2, strength=1.0)
    single = np.array([(3 + 0.5) / 6, (2 + 0.5) / 6])
    after_0 = np.array([(0 + single[0]) / 3, (2 + single[1]) / 3])
    surprise = model.surprise([[0, 0], [0, 1]])
    np.testing.assert_allclose(surprise[:, 0], -np.log(single[0]))
    np.testing.assert_allclose(surprise[:, 1], -np.log(after_0))


def test_a_run_in_a_wrong_order_is_more_surprising_than_in_the_right_one() -> None:
    normal = np.tile(np.arange(5), (20, 4))
    model = n_grams(normal, 5, order=2)
    right = model.surprise([[0, 1, 2, 3, 4]]).mean()
    assert model.surprise([[4, 3, 2, 1, 0]]).mean() > right + 1


sequences = hnp.arrays(
    np.int64, st.tuples(st.integers(1, 4), st.integers(3, 8)), elements=st.integers(0, 3)
)


@given(sequences, st.integers(1, 3), st.floats(0.1, 20))
def test_chances_of_all_codes_after_a_context_add_up_to_one(
    normal: np.ndarray, order: int, strength: float
) -> None:
    model = n_grams(normal, 4, order=order, strength=strength)
    asked = np.array([[*normal[0, :2], code] for code in range(4)])
    assert np.exp(-model.surprise(asked)[:, 2]).sum() == pytest.approx(1)


def test_codes_that_are_none_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"codes must be in \[0, size = 3\); got 0 to 3"):
        n_grams([[0, 3]], 3)
    with pytest.raises(ShapeError, match=r"whole numbers \(n, length\).*float64 \(1, 2\)"):
        n_grams([[0.5, 1.0]], 3)
    with pytest.raises(InvalidInput, match=r"order must be in \[1, length = 2\]"):
        n_grams([[0, 1]], 3, order=3)
