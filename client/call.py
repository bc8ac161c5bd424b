"""A call: one RPC as a value, made from plain arguments and decoded to a plain result."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Generic, Protocol, TypeVar, cast

import numpy as np
from google.protobuf.descriptor_pb2 import MethodOptions
from google.protobuf.message import Message
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from numpy.typing import NDArray

from attar import wire
from attar.errors import (
    AlreadyExists,
    AttarError,
    BackendError,
    BundleRefused,
    Cancelled,
    DeadlineExceeded,
    DiskFull,
    InputTooLong,
    InvalidInput,
    LimitReached,
    NotFound,
    NotSupported,
    Overloaded,
    PermissionDenied,
    RateLimited,
    Refusal,
    Replaced,
    ShapeError,
    SpaceMismatch,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from attar.inputs import as_text, listed
from attar.v1 import item_pb2

Items = Iterable[str] | NDArray[Any]


class SpaceVectors(Protocol):
    """Vectors that state their embedding space, as results of an encoder and of calls do."""

    @property
    def fingerprint(self) -> str:
        """The space."""

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        """The vectors: (n, dims)."""


Vectors = NDArray[Any] | SpaceVectors

TokenIds = Sequence[Sequence[int]]

Payload = Mapping[str, Any]

Filter = Mapping[str, Any]

R_co = TypeVar("R_co", covariant=True)

DEADLINE_S: Final = 30.0

MAX_WAIT_S: Final = 1e9  # 31 years; gRPC takes much more for nothing left

LONG_S: Final = 600.0
"""What works on a whole collection may take minutes."""

REASONS: Final[Mapping[str, type[AttarError]]] = MappingProxyType(
    {
        kind.reason: kind
        for kind in (
            *(InvalidInput, InputTooLong, ShapeError, NotFound, AlreadyExists, SpaceMismatch),
            *(NotSupported, Overloaded, Unavailable, DeadlineExceeded, Cancelled, BackendError),
            *(Unauthenticated, PermissionDenied, RateLimited, Unimplemented, DiskFull, Replaced),
            LimitReached,
        )
    }
)

MATRIX_AXES: Final = 2  # axes

# How BundleRefused shows itself.
_REFUSED: Final = re.compile(r"(?P<message>.*) \[refused: (?P<code>[a-z-]+)\]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Call(Generic[R_co]):
    """One RPC: what is sent, what comes back, and whether sending it twice does no harm."""

    rpc: str
    request: Message
    response: type[Message]
    decode: Callable[[Any], R_co]
    repeatable: bool
    deadline_s: float
    hint: str = ""  # what else helps where the deadline comes first


@contextmanager
def among(first: int, size: int) -> Iterator[None]:
    """Note in an error which points its call has: its indices count from the first of them."""
    try:
        yield
    except AttarError as error:
        error.add_note(f"in the call of points {first} to {first + size - 1}, counted from there")
        raise


def stack(arrays: Sequence[Any]) -> NDArray[Any]:
    """Arrays of one shape as one, first axis the items."""
    for index, array in enumerate(arrays):
        if not isinstance(array, np.ndarray) or array.shape != arrays[0].shape:
            shape = getattr(array, "shape", type(array).__name__)
            raise ShapeError(
                f"item {index} of a call is {shape} and item 0 {arrays[0].shape}; give arrays of "
                "one shape"
            )
    return np.stack(arrays)


def error_from(status: Status) -> AttarError:
    """The exception that the server met, by the reason in the status's details."""
    info = ErrorInfo()
    reasons = [info.reason for any_ in status.details if any_.Unpack(info)]
    refused = _REFUSED.fullmatch(status.message)
    if BundleRefused.reason in reasons and refused is not None:
        return BundleRefused(cast("Refusal", refused["code"]), refused["message"])
    return REASONS.get((reasons or [""])[0], AttarError)(status.message)


def retry_after(status: Status) -> float | None:
    """Seconds after which the server asks to be called again; None when it does not ask."""
    retry = RetryInfo()
    delays = [retry.retry_delay.ToMilliseconds() / 1000 for d in status.details if d.Unpack(retry)]
    return delays[0] if delays else None


def make_call(
    rpc: str,
    request: Message,
    response: type[Message],
    decode: Callable[[Any], R_co],
    deadline_s: float,
    *,
    hint: str = "",
) -> Call[R_co]:
    """Make a call of the method `rpc`, such as `Collections/Get`.

    It is repeatable where its .proto file sets an `idempotency_level`.
    """
    service, _, method = rpc.partition("/")
    options = request.DESCRIPTOR.file.services_by_name[service].methods_by_name[method].GetOptions()
    repeatable = options.idempotency_level != MethodOptions.IDEMPOTENCY_UNKNOWN
    deadline_s = seconds("deadline_s", deadline_s)
    return Call(f"/attar.v1.{rpc}", request, response, decode, repeatable, deadline_s, hint)


def row_of(name: str, values: object) -> Iterable[Any]:
    """Any iterable that has an order; InvalidInput for others."""
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(
        values, Iterable
    ):
        raise InvalidInput(f"{name} is {values!r:.80}, a {type(values).__name__}; give a list")
    return values


def seconds(name: str, value: object) -> float:
    """A time to wait; InvalidInput where it is none."""
    number = wire.number(value)
    if not 0 < number <= MAX_WAIT_S:
        raise InvalidInput(
            f"{name} is {value!r:.80}; give seconds, above 0 and up to {MAX_WAIT_S:.0f}"
        )
    return number


def items_fields(items: object) -> dict[str, Any]:
    """Give a request's field for items: texts, token ids, or one tensor; raises InvalidInput."""
    if hasattr(items, "fingerprint"):
        raise InvalidInput(f"items is an {type(items).__name__}; give it as vectors")
    given = listed(items)
    if isinstance(given, list) and given and all(isinstance(item, np.ndarray) for item in given):
        given = stack(given)
    if isinstance(given, np.ndarray):
        return {"tensor": wire.to_tensor(given)}
    return {"texts": item_pb2.Texts(values=[as_text(item, i) for i, item in enumerate(given)])}


def enum_number(field: str, name: object, numbers: Mapping[Any, Any]) -> Any:
    """Give the number of a word on the wire; raises InvalidInput that lists the words."""
    if not isinstance(name, str) or name not in numbers:
        raise InvalidInput(f"{field} is {name!r:.80}; expected one of {', '.join(numbers)}")
    return numbers[name]


def item_errors(
    items: Sequence[item_pb2.ItemStatus], *, partial: bool
) -> tuple[AttarError | None, ...]:
    """Give each item's error; without `partial`, raise the first."""
    errors = tuple(error_from(item.error) if item.HasField("error") else None for item in items)
    if not partial and (first := next(filter(None, errors), None)) is not None:
        raise first
    return errors


def truncated_flags(items: Sequence[item_pb2.ItemStatus]) -> NDArray[np.bool_]:
    """Say of each item, (n,), whether it was truncated."""
    return np.array([item.truncated for item in items], np.bool_)


def decode_nothing(_response: Message) -> None:
    """Give None for an empty answer."""
    return
