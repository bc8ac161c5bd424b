"""What a vector store holds and gives back, and what it accepts.

An id is an unsigned 64-bit integer or a UUID. A payload is a JSON object. A filter maps keys of the
payload to a value, or to a list of which any will do; a key whose payload value is a list matches
when one of its members does. Values are strings, whole numbers and booleans, and 1 is not true.
"""

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput

PointId: TypeAlias = int | str
Payload: TypeAlias = Mapping[str, Any]
Value: TypeAlias = str | int | bool
Filter: TypeAlias = Mapping[str, Value | Sequence[Value]]


@dataclass(frozen=True, slots=True)
class Description:
    """What a collection was made for; it never changes."""

    name: str
    model: str
    fingerprint: str
    dims: int


@dataclass(frozen=True, slots=True)
class Hit:
    """A point that a search found; the score is its cosine similarity with the query."""

    id: PointId
    score: float
    payload: Payload | None


@dataclass(frozen=True, slots=True, eq=False)
class Point:
    """A stored point."""

    id: PointId
    payload: Payload
    vector: NDArray[np.float32] | None  # (dims,), of unit length


def check_ids(ids: Sequence[PointId]) -> list[PointId]:
    """Give ids in canonical form, each one once, or raise `InvalidInput` that names the bad one."""
    seen: dict[PointId, int] = {}
    for index, given in enumerate(ids):
        canonical = _canonical(given, index)
        if canonical in seen:
            raise InvalidInput(
                f"ids[{index}] is {given!r}, as is ids[{seen[canonical]}]; give each point once"
            )
        seen[canonical] = index
    return list(seen)


def _canonical(given: object, index: int) -> PointId:
    if isinstance(given, int) and not isinstance(given, bool) and 0 <= given < 2**64:
        return given
    if isinstance(given, str):
        try:
            return str(uuid.UUID(given))
        except ValueError:
            pass
    raise InvalidInput(
        f"ids[{index}] must be an integer from 0 to 2^64 - 1 or a UUID; got {given!r:.80}"
    )


def payload_json(payload: Payload, index: int) -> str:
    """Write a payload as JSON, or raise `InvalidInput`: it must be an object without NaN."""
    if not all(isinstance(key, str) for key in payload):
        raise InvalidInput(
            f"payloads[{index}] must have strings as keys; got {list(payload)!r:.80}"
        )
    try:
        text = json.dumps(dict(payload), allow_nan=False, ensure_ascii=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidInput(f"payloads[{index}] is not JSON: {error}") from None
    return text


def payload_tokens(payload: Payload) -> list[str]:
    """Give what filters can find a payload by: one token for each key and value, sorted."""
    members = (
        (key, member)
        for key, value in payload.items()
        for member in (value if isinstance(value, list | tuple) else (value,))
    )
    return sorted({_token(key, member) for key, member in members if _filterable(member)})


def filter_tokens(where: Filter) -> list[list[str]]:
    """Give, for each key, the tokens of which a matching payload has at least one."""
    wanted = []
    for key, value in where.items():
        members = value if isinstance(value, list | tuple) else (value,)
        for member in members:
            if not _filterable(member):
                raise InvalidInput(
                    f"filter[{key!r}] must be a string, a whole number, a boolean or a list of"
                    f" those; got {value!r:.80}"
                )
        wanted.append([_token(key, member) for member in members])
    return wanted


def _filterable(value: object) -> bool:
    return isinstance(value, str | int) or (isinstance(value, float) and value.is_integer())


def _token(key: str, value: object) -> str:
    # JSON tells 1 from true and from "1"; a whole float (protobuf's numbers are floats) is an int.
    return json.dumps([key, int(value) if isinstance(value, float) else value], ensure_ascii=False)
