"""Filters with the payloads that they match, for every store of collections."""

from attar.server.collections.filters import Filter
from attar.server.collections.store import Payload

PAYLOADS: list[Payload] = [
    {"a": 1, "price": 5},
    {"a": True, "price": 7.5},
    {"a": "1", "price": [1, 10]},
    {"a": 1.0, "day": "2026-01-01"},
    {"a": [1, "x"], "day": "2026-06-01T12:00:00+02:00"},
    {"b.c": 1, "price": -(2**70)},
    {},
    {"a": 0, "day": "no day", "price": True},
]
CASES: list[tuple[Filter, set[int]]] = [
    ({}, set(range(8))),
    ({"a": 1}, {0, 3, 4}),
    ({"a": True}, {1}),
    ({"a": "1"}, {2}),
    ({"a": ["x", True]}, {1, 4}),
    ({"b.c": 1}, {5}),
    ({"a": []}, set()),
    ({"a": 1, "b.c": 1}, set()),
    ({"price": {"gte": 5}}, {0, 1, 2}),
    ({"price": {"gt": 5, "lt": 10}}, {1}),
    ({"price": {"lte": 5}}, {0, 2, 5}),
    ({"price": {"gt": 1, "lt": 10}}, {0, 1}),
    ({"day": {"gte": "2026-01-02"}}, {4}),
    ({"day": {"lt": "2026-06-01T10:00:00.000001Z"}}, {3, 4}),
    ({"$not": {"a": 1}}, {1, 2, 5, 6, 7}),
    ({"$not": {"price": {"gte": -(10.0**30)}}}, {3, 4, 6, 7}),
    ({"$any": [{"a": 1}, {"price": {"gt": 7}}]}, {0, 1, 2, 3, 4}),
    ({"$all": [{"a": 1}, {"price": {"gt": 1}}]}, {0}),
    ({"$any": []}, set()),
    ({"$all": []}, set(range(8))),
    ({"$not": {}}, set()),
    ({"$any": [{"a": "1"}, {"$not": {"$any": [{"a": [1, 0]}, {"a": True}]}}]}, {2, 5, 6}),
]
"""A filter, and the indices of the payloads above that it matches."""
