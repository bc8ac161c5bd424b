"""The laws of fusion: two rankings become one, by ranks or by scores."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.server.collections.store import Hit
from attar.server.usecases.hybrid_search import Fusion, fuse

IDS = st.integers(0, 30) | st.uuids().map(str)
RANKS = Fusion()


@st.composite
def rankings(draw: st.DrawFn) -> list[Hit]:
    ids = draw(st.lists(IDS, unique=True, max_size=12))
    scores = draw(
        st.lists(st.floats(-1, 50, width=32), min_size=len(ids), max_size=len(ids)).map(
            lambda values: sorted(values, reverse=True)
        )
    )
    return [Hit(point, score, None) for point, score in zip(ids, scores, strict=True)]


def scores(hits: list[Hit]) -> dict[int | str, float]:
    return {hit.id: hit.score for hit in hits}


@given(rankings(), rankings(), st.none() | st.floats(0, 1))
def test_every_hit_of_either_ranking_is_there_once_best_first(
    dense: list[Hit], keyword: list[Hit], alpha: float | None
) -> None:
    fused = fuse(dense, keyword, Fusion(alpha=alpha))
    assert len({hit.id for hit in fused}) == len(fused)
    assert {hit.id for hit in fused} == {hit.id for hit in [*dense, *keyword]}
    assert [hit.score for hit in fused] == sorted((hit.score for hit in fused), reverse=True)
    assert all(0 <= hit.score <= 1 + 1e-9 for hit in fused)


@given(rankings(), rankings())
def test_reciprocal_ranks_are_symmetric_and_see_no_scores(
    dense: list[Hit], keyword: list[Hit]
) -> None:
    fused = fuse(dense, keyword, RANKS)
    swapped = fuse(keyword, dense, RANKS)
    assert [hit.id for hit in fused] == [hit.id for hit in swapped]
    assert scores(fused) == pytest.approx(scores(swapped))
    squared = [replace(hit, score=2 * hit.score + 7) for hit in keyword]
    assert scores(fuse(dense, squared, RANKS)) == scores(fused)


@given(rankings(), rankings(), st.data())
def test_a_hit_that_rises_in_a_ranking_never_scores_less(
    dense: list[Hit], keyword: list[Hit], data: st.DataObject
) -> None:
    if len(keyword) < 2:
        return
    at = data.draw(st.integers(1, len(keyword) - 1))
    to = data.draw(st.integers(0, at - 1))
    ids = [hit.id for hit in keyword]
    ids.insert(to, ids.pop(at))
    risen = [replace(hit, id=point) for hit, point in zip(keyword, ids, strict=True)]
    for fusion in (RANKS, Fusion(alpha=0.3)):
        before, after = scores(fuse(dense, keyword, fusion)), scores(fuse(dense, risen, fusion))
        assert after[ids[to]] >= before[ids[to]] - 1e-12


@given(rankings(), rankings())
def test_what_leads_both_rankings_leads_the_fusion(dense: list[Hit], keyword: list[Hit]) -> None:
    first = Hit("00000000-0000-0000-0000-000000000000", 100.0, None)
    for fusion in (RANKS, Fusion(alpha=0.5)):
        assert fuse([first, *dense], [first, *keyword], fusion)[0].id == first.id


@given(rankings())
def test_a_ranking_fused_with_nothing_keeps_its_order(ranking: list[Hit]) -> None:
    assert [hit.id for hit in fuse(ranking, [], RANKS)] == [hit.id for hit in ranking]
    assert [hit.id for hit in fuse([], ranking, RANKS)] == [hit.id for hit in ranking]


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_alpha_that_is_no_weight_is_refused(alpha: float) -> None:
    with pytest.raises(InvalidInput, match=r"alpha is .*; give a weight from 0 to 1"):
        Fusion(alpha=alpha)
