"""Filters: conditions on a payload, read from their plain form into a tree that engines translate.

A filter maps keys of the payload to a value, or to a list of which any will do; a key whose payload
value is a list matches when one of its members does. Values are strings, whole numbers and
booleans, and 1 is not true. An object of bounds is a range:

    {"about": ["cats", "dogs"], "price": {"gte": 5, "lt": 10}, "day": {"gte": "2026-01-01"}}

Bounds are numbers, compared as doubles, or dates and times of ISO 8601, UTC unless they say
otherwise, compared to the microsecond. All of a filter's keys must match; three keys combine
filters instead: `$all` and `$any` of a list of filters, `$not` of one.

    {"$any": [{"about": "cats"}, {"$not": {"price": {"gt": 5}}}]}

So that every engine agrees, an engine is given what it compares next to the payload itself: a token
for each key and value, and each number and time under its key's hexadecimal name.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from attar.errors import InvalidInput

Filter: TypeAlias = Mapping[str, Any]

MAX_CONDITIONS: Final = 256
MAX_DEPTH: Final = 16
TOKENS: Final = "tokens"
_BOUNDS: Final = ("gt", "gte", "lt", "lte")
_TAKES: Final = {"$not": "a filter", "$all": "a list of filters", "$any": "a list of filters"}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Has:
    """The payload has one of these tokens."""

    tokens: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Between:
    """A number or time of the payload, at this path, lies within every bound that is given."""

    path: str
    gt: float | None = None
    gte: float | None = None
    lt: float | None = None
    lte: float | None = None


@dataclass(frozen=True, slots=True)
class Every:
    """All of these hold; without any, everything matches."""

    of: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Some:
    """One of these holds; without any, nothing matches."""

    of: tuple["Condition", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """This does not hold."""

    of: "Condition"


Condition: TypeAlias = Has | Between | Every | Some | Not
EVERYTHING: Final = Every(())


def read(conditions: Filter | None) -> Condition:
    """Give a filter's tree; raises `InvalidInput` that names the key that is wrong."""
    tree = _every(conditions or {}, "filter", 1)
    if (size := sum(1 for _ in _leaves(tree))) > MAX_CONDITIONS:
        raise InvalidInput(
            f"filter has {size} conditions; give at most {MAX_CONDITIONS}, or a list of values"
        )
    return tree


def paths(tree: Condition) -> set[str]:
    """Give the paths of a tree's ranges, which an engine may want to index."""
    return {leaf.path for leaf in _leaves(tree) if isinstance(leaf, Between)}


def comparable(payload: Mapping[str, Any]) -> dict[str, Any]:
    """Give what conditions compare of a payload: its tokens, its numbers and its times."""
    tokens: set[str] = set()
    numbers: dict[str, list[float]] = {}
    times: dict[str, list[float]] = {}
    for key, value in payload.items():
        for member in value if isinstance(value, list | tuple) else (value,):
            if _has_token(member):
                tokens.add(_token(key, member))
            if (number := _number(member)) is not None:
                numbers.setdefault(_name(key), []).append(number)
            if isinstance(member, str) and (time := _time(member)) is not None:
                times.setdefault(_name(key), []).append(time)
    return {TOKENS: sorted(tokens), "numbers": numbers, "times": times}


def matches(tree: Condition, payload_values: Mapping[str, Any]) -> bool:
    """Whether what `comparable` gave of a payload meets a tree: what every engine must say."""
    match tree:
        case Has():
            return not set(tree.tokens).isdisjoint(payload_values[TOKENS])
        case Between():
            kind, name = tree.path.split(".")
            return any(_within(value, tree) for value in payload_values[kind].get(name, ()))
        case Every():
            return all(matches(each, payload_values) for each in tree.of)
        case Some():
            return any(matches(each, payload_values) for each in tree.of)
        case Not():
            return not matches(tree.of, payload_values)


def _within(value: float, bounds: Between) -> bool:
    return (
        (bounds.gt is None or value > bounds.gt)
        and (bounds.gte is None or value >= bounds.gte)
        and (bounds.lt is None or value < bounds.lt)
        and (bounds.lte is None or value <= bounds.lte)
    )


def _leaves(tree: Condition) -> Iterator[Condition]:
    match tree:
        case Every() | Some():
            for each in tree.of:
                yield from _leaves(each)
        case Not():
            yield from _leaves(tree.of)
        case _:
            yield tree


def _every(conditions: object, where: str, depth: int) -> Condition:
    if not isinstance(conditions, Mapping):
        raise InvalidInput(f"{where} must be an object of keys and values; got {conditions!r:.80}")
    if depth > MAX_DEPTH:
        raise InvalidInput(f"filter is nested deeper than {MAX_DEPTH}; give a flatter one")
    return Every(tuple(_condition(key, value, where, depth) for key, value in conditions.items()))


def _condition(key: str, value: object, where: str, depth: int) -> Condition:
    here = f"{where}[{key!r}]"
    match key, value:
        case "$not", Mapping():
            return Not(_every(value, here, depth + 1))
        case "$all" | "$any", list() | tuple() if all(isinstance(part, Mapping) for part in value):
            parts = tuple(_every(part, f"{here}[{i}]", depth + 1) for i, part in enumerate(value))
            return Every(parts) if key == "$all" else Some(parts)
        case "$not" | "$all" | "$any", _:
            raise InvalidInput(f"{here} takes {_TAKES[key]}; got {value!r:.80}")
        case _, _ if key.startswith("$"):
            raise InvalidInput(f"{here} is no operator; a filter has {', '.join(_TAKES)}")
        case _, Mapping():
            return _range(key, value, here)
        case _:
            members = value if isinstance(value, list | tuple) else (value,)
            if not all(map(_has_token, members)):
                raise InvalidInput(
                    f"{here} must be a string, a whole number, a boolean, a list of those or an"
                    f" object of {', '.join(_BOUNDS)}; got {value!r:.80}"
                )
            return Has(tuple(_token(key, member) for member in members))


def _range(key: str, bounds: Mapping[str, object], here: str) -> Condition:
    if not bounds or not bounds.keys() <= set(_BOUNDS):
        raise InvalidInput(
            f"{here} as an object is a range and has one or more of {', '.join(_BOUNDS)}; got"
            f" {dict(bounds)!r:.80}"
        )
    of_times = all(isinstance(bound, str) for bound in bounds.values())
    payload_values: dict[str, float] = {}
    for name, bound in bounds.items():
        value = _time(bound) if of_times and isinstance(bound, str) else _number(bound)
        if value is None:
            raise InvalidInput(
                f"{here}[{name!r}] must be a finite number, or a date or time of ISO 8601 as the"
                f" other bounds are; got {bound!r:.80}"
            )
        payload_values[name] = value
    return Between(path=f"{'times' if of_times else 'numbers'}.{_name(key)}", **payload_values)


def _has_token(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())


def _token(key: str, value: object) -> str:
    # JSON distinguishes 1, true and "1"; a whole float (protobuf's numbers are floats) is an int.
    return json.dumps([key, int(value) if isinstance(value, float) else value], ensure_ascii=False)


def _name(key: str) -> str:
    # Without dots, quotes and brackets: paths have a syntax of their own.
    return f"k{key.encode(errors='surrogatepass').hex()}"


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _time(text: str) -> float | None:
    """Microseconds since 1970 of a date or a time such as 2026-11-23T04:50:00Z; None for others."""
    if not 10 <= len(text) <= 35 or text[4] != "-" or text[7] != "-":
        return None
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        return None
    since = (time if time.tzinfo else time.replace(tzinfo=UTC)) - _EPOCH
    return float(since // timedelta(microseconds=1))
