"""Filters: what matches what, whichever engine is asked."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.server.collections import filters
from attar.server.collections.filters import Filter, comparable, matches
from attar.server.collections.store import check_ids

from ...support.filters import CASES, PAYLOADS


def test_the_reference_answers_every_filter_alike() -> None:
    compared = [comparable(payload) for payload in PAYLOADS]
    for where, expected in CASES:
        tree = filters.read(where)
        assert {i for i, one in enumerate(compared) if matches(tree, one)} == expected, where


scalars = st.booleans() | st.integers(-2, 2) | st.sampled_from(["", "1", "true", 'a","b', "é"])
keys = st.sampled_from(["a", "a.b", 'q"', ""])
simple = st.dictionaries(keys, scalars | st.lists(scalars, max_size=3), max_size=2)


@given(st.dictionaries(keys, scalars | st.lists(scalars, max_size=3), max_size=3), simple)
def test_a_filter_matches_when_every_key_has_one_of_its_values(
    payload: dict[str, Any], where: dict[str, Any]
) -> None:
    def members(value: object) -> set[tuple[type, object]]:
        return {(type(v), v) for v in (value if isinstance(value, list) else [value])}

    expected = all(key in payload and members(payload[key]) & members(where[key]) for key in where)
    assert matches(filters.read(where), comparable(payload)) == expected


@given(simple, st.lists(simple, max_size=3))
def test_combined_filters_obey_de_morgan(
    payload: dict[str, Any], parts: list[dict[str, Any]]
) -> None:
    found = comparable(payload)
    none = filters.read({"$not": {"$any": parts}})
    each_not = filters.read({"$all": [{"$not": part} for part in parts]})
    assert matches(none, found) == matches(each_not, found)


@pytest.mark.parametrize("value", [1.5, None, [1, None], [[1]], float("nan")])
def test_a_filter_value_that_cannot_match_is_refused(value: Any) -> None:
    with pytest.raises(InvalidInput, match=r"filter\['k'\] must be a string"):
        filters.read({"k": value})


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"k": {}}, r"filter\['k'\] as an object is a range"),
        ({"k": {"near": 1}}, "one or more of gt, gte, lt, lte"),
        ({"k": {"gt": "yesterday"}}, r"filter\['k'\]\['gt'\] must be a finite number"),
        ({"k": {"gt": 1, "lt": "2026-01-01"}}, "as the other bounds"),
        ({"k": {"gt": float("inf")}}, "finite"),
        ({"k": {"gt": True}}, "finite"),
        ({"$any": {"a": 1}}, r"filter\['\$any'\] takes a list of filters"),
        ({"$not": [{"a": 1}]}, r"filter\['\$not'\] takes a filter"),
        ({"$all": [{"$any": [{"k": 1.5}]}]}, r"filter\['\$all'\]\[0\]\['\$any'\]\[0\]\['k'\]"),
        ({"$any": [{"k": i} for i in range(300)]}, "300 conditions; give at most 256"),
    ],
)
def test_a_filter_that_says_nothing_clear_is_refused(where: Filter, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        filters.read(where)


def test_a_filter_cannot_be_nested_without_end() -> None:
    where: Filter = {"a": 1}
    for _ in range(50):
        where = {"$not": where}
    with pytest.raises(InvalidInput, match="nested deeper than 16"):
        filters.read(where)


@given(st.lists(st.integers(0, 2**64 - 1) | st.uuids().map(str), unique=True, max_size=20))
def test_canonical_ids_stay_as_they_are(ids: list[int | str]) -> None:
    assert check_ids(ids) == ids
