"""A made pair stays where its passage is retrieved by its query and not by copied words alone."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from attar.errors import AttarError
from attar.training.data import similarity
from attar.training.data.consistency import consistent, copied_shares
from attar.training.data.pairs import Pair


def unit(rows: int, width: int, seed: int) -> NDArray[np.float32]:
    vectors = np.random.default_rng(seed).normal(size=(rows, width)).astype(np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    result: NDArray[np.float32] = vectors / lengths
    return result


def pairs(count: int) -> list[Pair]:
    return [Pair(str(i), "", f"query {i}", f"some passage of number {i}") for i in range(count)]


@given(st.integers(1, 40), st.integers(1, 8), st.integers(0, 99))
def test_what_is_retrieved_is_among_the_first_of_all_passages(
    count: int, first: int, seed: int
) -> None:
    queries, passages = unit(count, 4, seed), unit(count, 4, seed + 1)
    result = consistent(pairs(count), queries, passages, first=first, copied=2)
    ranks = [
        sum(float(q @ p) >= float(q @ passages[i]) for p in passages)
        for i, q in enumerate(queries.astype(np.float64))
    ]
    assert result.rows.tolist() == [i for i, rank in enumerate(ranks) if rank <= first]
    assert [pair.name for pair in result.pairs] == [str(row) for row in result.rows]
    assert len(result.pairs) + result.not_retrieved == count


def test_the_size_of_blocks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, passages = unit(50, 8, 0), unit(50, 8, 1)
    whole = consistent(pairs(50), queries, passages, first=5, copied=2)
    monkeypatch.setattr(similarity, "BLOCK", 150)
    assert consistent(pairs(50), queries, passages, first=5, copied=2).rows.tolist() == (
        whole.rows.tolist()
    )


def test_a_copy_is_left_out_and_counted() -> None:
    made = [
        Pair("copy", "", "Boiling water", "boiling WATER is hot"),
        Pair("half", "", "boiling point", "boiling water is hot at last"),
        Pair("none", "", "physics lesson", "water that is hot gives off steam"),
    ]
    vectors = np.eye(3, dtype=np.float32)
    result = consistent(made, vectors, vectors, first=1)
    assert [pair.name for pair in result.pairs] == ["half", "none"]
    assert (result.not_retrieved, result.copied) == (0, 1)
    assert list(result.lines()) == [
        "consistency: 2 of 3 pairs stay; 0 are not retrieved, 1 are copies"
    ]
    kept = consistent(made, vectors, vectors, first=1, copied=1.1)
    assert len(kept.pairs) == 3


def test_the_share_that_is_copied_is_weighted_by_how_rare_words_are() -> None:
    made = [
        Pair("a", "", "the kernel", "the sun and the moon"),
        Pair("b", "", "kernel, the sun", "the kernel of a matrix"),
        Pair("c", "", "...", "the end"),
    ]
    the, rare = math.log1p(3 / 3), math.log1p(3 / 1)
    assert copied_shares(made) == pytest.approx(
        [the / (the + rare), (rare + the) / (2 * rare + the), 1.0]
    )


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=30)), max_size=8))
def test_shares_are_from_zero_to_one(texts: list[tuple[str, str]]) -> None:
    shares = copied_shares([Pair("", "", *both) for both in texts])
    assert ((shares >= 0) & (shares <= 1)).all()
    own = copied_shares([Pair("", "", body, body) for _, body in texts])
    assert own == pytest.approx(np.ones(len(texts)))


def test_a_collapsed_encoder_confirms_nothing() -> None:
    same = np.ones((20, 1), np.float32)
    assert consistent(pairs(20), same, same, first=10).not_retrieved == 20


@pytest.mark.parametrize(
    ("count", "queries", "options", "message"),
    [
        (2, np.ones((3, 1)), {}, "each of 2 pairs has a query and a passage; got 3 and 2 vectors"),
        (2, np.ones((2, 3)), {}, r"must be of one width.*\(2, 3\) and \(2, 1\)"),
        (2, np.full((2, 1), np.nan), {}, "queries must be finite; row 0 is not"),
        (2, np.ones((2, 1)), {"first": 0}, "first must be at least 1 .*; got 0 and 1.0"),
        (2, np.ones((2, 1)), {"copied": 0}, "copied above 0; got 10 and 0"),
    ],
    ids=["three queries", "a width", "nan", "first", "copied"],
)
def test_what_cannot_be_judged_is_refused(
    count: int, queries: NDArray[np.float64], options: dict[str, int], message: str
) -> None:
    with pytest.raises(AttarError, match=message):
        consistent(pairs(count), queries.astype(np.float32), np.ones((2, 1), np.float32), **options)
