"""Hard negatives are near a query and clearly less so than its positive."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from attar.errors import AttarError
from attar.training.data import similarity
from attar.training.data.hard_negatives import hard_negatives


def unit(rows: int, width: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = vectors / lengths
    return result


@given(
    st.integers(1, 12),
    st.integers(0, 12),
    st.integers(1, 6),
    st.integers(2, 14),
    st.sampled_from([0.0, 0.05, 0.5]),
)
def test_negatives_are_of_the_ranks_below_the_margin_and_all_if_few(
    count: int, more: int, wanted: int, last: int, margin: float
) -> None:
    queries, passages = unit(count, 5, 10 * more), unit(count + more, 5, last)
    result = hard_negatives(queries, passages, count=wanted, last=last, margin=margin)
    cosines = queries @ passages.T
    filtered = 0
    for i, row in enumerate(result.rows.tolist()):
        own = cosines[i, i]
        others = sorted((j for j in range(count + more) if j != i), key=lambda j: -cosines[i, j])
        near = others[: last - 1]
        right = [j for j in near if cosines[i, j] <= own - margin * abs(own)]
        filtered += len(near) - len(right)
        drawn = [j for j in row if j >= 0]
        assert len(drawn) == min(wanted, len(right))
        assert drawn == [j for j in right if j in drawn]  # nearest first, none twice
        assert row[len(drawn) :] == [-1] * (wanted - len(drawn))
    assert result.filtered == filtered
    assert result.candidates == count * min(last - 1, count + more - 1)


def test_a_draw_depends_on_the_seed_and_not_on_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, passages = unit(40, 8, 0), unit(60, 8, 1)
    first = hard_negatives(queries, passages, count=3)
    other = hard_negatives(queries, passages, count=3, seed=1)
    assert (first.rows != other.rows).any()
    monkeypatch.setattr(similarity, "BLOCK", 180)
    again = hard_negatives(queries, passages, count=3)
    assert (first.rows == again.rows).all()
    assert next(again.lines()).startswith("hard negatives: 3 a query; ")


def test_a_copy_of_the_positive_is_no_negative() -> None:
    passages = np.repeat(np.eye(2, dtype=np.float32), 2, axis=0)
    result = hard_negatives(passages, passages, count=2)
    assert result.rows.tolist() == [[2, 3], [2, 3], [0, 1], [0, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be at least 1.*; got 0, 50 and 0.05"),
        ({"count": 1, "last": 1}, "last at least 2.*; got 1, 1 and 0.05"),
        ({"count": 1, "margin": 2}, r"margin in \[0, 1\]; got 1, 50 and 2"),
    ],
    ids=["count", "last", "margin"],
)
def test_draws_that_there_cannot_be_are_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(AttarError, match=message):
        hard_negatives(unit(3, 2, 0), unit(3, 2, 1), **options)


def test_more_queries_than_passages_are_refused() -> None:
    with pytest.raises(AttarError, match=r"with 0 < m <= n; got \(3, 2\) and \(2, 2\)"):
        hard_negatives(unit(3, 2, 0), unit(2, 2, 1), count=1)
