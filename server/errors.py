"""Errors: the only place where an exception of attar becomes a gRPC status or an HTTP code."""

import logging
import re
import traceback
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from types import MappingProxyType
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import StatusCode

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
    MissingExtra,
    NotFound,
    NotSupported,
    Overloaded,
    PermissionDenied,
    RateLimited,
    Replaced,
    ShapeError,
    SpaceMismatch,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)

from .observability.logs import lineage, plain
from .request_context import current

log = logging.getLogger("attar.server")

DOMAIN: Final = "attar"
STATUS: Final[Mapping[type[AttarError], StatusCode]] = MappingProxyType(
    {
        InvalidInput: StatusCode.INVALID_ARGUMENT,
        InputTooLong: StatusCode.INVALID_ARGUMENT,
        ShapeError: StatusCode.INVALID_ARGUMENT,
        NotFound: StatusCode.NOT_FOUND,
        AlreadyExists: StatusCode.ALREADY_EXISTS,
        SpaceMismatch: StatusCode.FAILED_PRECONDITION,
        Replaced: StatusCode.ABORTED,
        NotSupported: StatusCode.FAILED_PRECONDITION,
        BundleRefused: StatusCode.FAILED_PRECONDITION,
        Unimplemented: StatusCode.UNIMPLEMENTED,
        Unauthenticated: StatusCode.UNAUTHENTICATED,
        PermissionDenied: StatusCode.PERMISSION_DENIED,
        Overloaded: StatusCode.RESOURCE_EXHAUSTED,
        RateLimited: StatusCode.RESOURCE_EXHAUSTED,
        LimitReached: StatusCode.RESOURCE_EXHAUSTED,
        DiskFull: StatusCode.RESOURCE_EXHAUSTED,
        Unavailable: StatusCode.UNAVAILABLE,
        DeadlineExceeded: StatusCode.DEADLINE_EXCEEDED,
        Cancelled: StatusCode.CANCELLED,
        MissingExtra: StatusCode.UNIMPLEMENTED,
        BackendError: StatusCode.INTERNAL,
        AttarError: StatusCode.INTERNAL,
    }
)
HTTP: Final[Mapping[StatusCode, int]] = MappingProxyType(
    {
        StatusCode.INVALID_ARGUMENT: 400,
        StatusCode.NOT_FOUND: 404,
        StatusCode.ALREADY_EXISTS: 409,
        StatusCode.FAILED_PRECONDITION: 409,
        StatusCode.ABORTED: 409,
        StatusCode.UNAUTHENTICATED: 401,
        StatusCode.PERMISSION_DENIED: 403,
        StatusCode.RESOURCE_EXHAUSTED: 429,
        StatusCode.UNAVAILABLE: 503,
        StatusCode.DEADLINE_EXCEEDED: 504,
        StatusCode.CANCELLED: 499,  # nobody is there to read it: for logs and metrics
        StatusCode.UNIMPLEMENTED: 501,
        StatusCode.INTERNAL: 500,
    }
)
# Those that an owner answers calls with: the other two are of bundles.
_BY_REASON: Final = {
    kind.reason: kind for kind in STATUS if kind not in (BundleRefused, MissingExtra)
}
# A queue drains in tenths of a second; a server that loads or drains takes longer.
RETRY_AFTER_S: Final[Mapping[type[AttarError], float]] = MappingProxyType(
    {Overloaded: 0.1, Replaced: 0.1, Unavailable: 1.0}
)
# The message travels twice in the trailers, percent-encoded and as base64, and they must stay
# below 8 KiB: beyond it gRPC drops the whole status.
MAX_MESSAGE: Final = 400
MAX_QUOTED: Final = 80
"""Characters of a value in quotes, of one word, and of a field, in a message to a caller."""

# A path of this machine: absolute, of two parts or more, and no route of ours.
_PATH: Final = re.compile(r"(?<![\w./}])(?:[A-Za-z]:)?/(?!v[12](?:/|\b))(?:[^\s/'\",;:()]+/)+")
# Another server's: a URL, what gRPC calls an address, or host:port after "at".
_ADDRESS: Final = re.compile(
    r"(?: at)? (?:ipv[46]:[^\s,;)]*[^\s,;:.)]|https?://[^\s,;)]+)"
    r"| at (?:\[[0-9A-Fa-f:.]+\]|(?=[^\s:]*[A-Za-z.])[^\s:]+):\d{1,5}\b"
)
_QUOTED: Final = re.compile(r"""(?<![\w'"])(['"])((?:(?!\1).){80,}?)\1(?!\w)""", re.DOTALL)
_WORD: Final = re.compile(rf"\S{{{MAX_QUOTED + 5},}}")  # quotes and a comma go with it
_LONGEST: Final = 4 * MAX_MESSAGE  # that is looked at


# In `parameters[...]` a caller's own word stands, in `ids[3]` an index.
_THEIRS: Final = re.compile(r"\[(?!\d+\]).*", re.DOTALL)


class Violation(Exception):
    """An InvalidInput, and the request field that it is about."""

    def __init__(self, field: str, error: InvalidInput, *, ours: bool = True) -> None:
        """Keep both; `field` is a path such as `ids[3].uuid`, not `ours` where a caller made it up.

        `logged` is what a log may have of it: no word of the caller's.
        """
        super().__init__(field, error)
        self.field = field
        self.error = error
        self.logged = _THEIRS.sub("", field) if ours else ""


class Unreadable(Violation):
    """A request that HTTP itself has a status for: too large, too slow, of another type."""

    def __init__(self, code: int, message: str) -> None:
        """Keep HTTP's status, such as 413; to gRPC it is INVALID_ARGUMENT."""
        super().__init__("", InvalidInput(message))
        self.http_code = code


@contextmanager
def about(field: str, *, ours: bool = True) -> Iterator[None]:
    """Name the request field for every InvalidInput raised inside; not `ours`: not in the log."""
    try:
        yield
    except InvalidInput as error:
        raise Violation(field, error, ours=ours) from error


def public(message: str) -> str:
    """A message as callers get it: no folder or server of ours, nothing that is very long.

    Of a path stands its last part, and of a long value in quotes or a long word the beginning.
    Control characters are escaped. The log has the message as it was.
    """
    text = _ADDRESS.sub("", _PATH.sub("", message[:_LONGEST]))
    text = _QUOTED.sub(lambda match: f"{match[1]}{_cut(match[2], MAX_QUOTED)}{match[1]}", text)
    text = _WORD.sub(lambda match: _cut(match[0], MAX_QUOTED), text)
    return _cut(plain(text), MAX_MESSAGE)


def to_status(error: Exception, *, fields: Container[str] = ()) -> Status:
    """The status of `error` for a caller; `fields` are those of its request.

    Every message of attar names the thing that is wrong first, so where that is one of `fields` it
    is the violated one, even if who raised it knows nothing of requests.

    An exception that is a bug, ours or unknown, is reported by a request id alone: its type and its
    frames are logged under the id, its message is not, because it may quote a payload.
    """
    field, error = (error.field, error.error) if isinstance(error, Violation) else ("", error)
    code = code_of(error)
    info = ErrorInfo(reason=AttarError.reason, domain=DOMAIN)
    if isinstance(error, AttarError):
        info.reason = error.reason
    if code is StatusCode.INTERNAL:
        info.metadata["request_id"] = request_id = current().request_id
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("request %s: %s\n%s", request_id, lineage(error), frames)
        message = f"internal error; the server's log tells more under request id {request_id}"
    else:
        message = public(str(error))
    status = Status(code=code.value[0], message=message)
    status.details.add().Pack(info)
    if code is StatusCode.INVALID_ARGUMENT and (field := field or _named_first(message, fields)):
        field = _cut(plain(field), MAX_QUOTED)
        violation = BadRequest.FieldViolation(field=field, description=message, reason=info.reason)
        status.details.add().Pack(BadRequest(field_violations=[violation]))
    if (seconds := retry_after_s(error)) is not None:
        delay = Duration()
        delay.FromMilliseconds(int(seconds * 1000))
        status.details.add().Pack(RetryInfo(retry_delay=delay))
    return status


def from_status(status: Status) -> Exception:
    """The exception that another process of this server answered with, by `to_status`."""
    info, violations, retry = ErrorInfo(), BadRequest(), RetryInfo()
    for detail in status.details:
        _ = detail.Unpack(info) or detail.Unpack(violations) or detail.Unpack(retry)
    kind = _BY_REASON.get(info.reason, AttarError)
    if kind is RateLimited:
        return RateLimited(status.message, retry.retry_delay.ToMilliseconds() / 1000)
    error = kind(status.message)
    if isinstance(error, InvalidInput) and violations.field_violations:
        return Violation(violations.field_violations[0].field, error)
    return error


def code_of(error: Exception) -> StatusCode:
    """The gRPC status code of an exception: INTERNAL for any that attar does not know."""
    if isinstance(error, Violation):
        error = error.error
    return STATUS.get(type(error), StatusCode.INTERNAL)  # type: ignore[arg-type]


def reason_of(error: Exception) -> str:
    """The word for programs of an exception: INTERNAL for any that attar does not know."""
    if isinstance(error, Violation):
        error = error.error
    return error.reason if isinstance(error, AttarError) else AttarError.reason


def field_of(error: Exception, fields: Container[str] = ()) -> str:
    """The request field that is at fault, as far as a log may have it; `fields` as in to_status."""
    if isinstance(error, Violation):
        return error.logged
    named = _named_first(str(error), fields) if isinstance(error, InvalidInput) else ""
    return _THEIRS.sub("", named)


def http_code(error: Exception) -> int:
    """The HTTP status of an exception: 500 for any that attar does not know."""
    if isinstance(error, Unreadable):
        return error.http_code
    return HTTP[code_of(error)]


def retry_after_s(error: Exception) -> float | None:
    """Seconds after which a caller may try again; None where trying again is no use."""
    if isinstance(error, RateLimited):
        return error.retry_after_s
    return RETRY_AFTER_S.get(type(error))  # type: ignore[arg-type]


def table() -> str:
    """Every exception as a Markdown table; docs/protocols.md holds it."""
    rows = [
        "| exception | reason | gRPC status | HTTP | retry after |",
        "| --- | --- | --- | --- | --- |",
    ]
    for kind, code in STATUS.items():
        delay = f"{RETRY_AFTER_S[kind]} s" if kind in RETRY_AFTER_S else ""
        delay = "in the answer" if kind is RateLimited else delay
        rows.append(
            f"| `{kind.__name__}` | `{kind.reason}` | `{code.name}` | {HTTP[code]} | {delay} |"
        )
    return "\n".join(rows)


def _named_first(message: str, fields: Container[str]) -> str:
    thing = message.split(maxsplit=1)[0] if message else ""
    return thing if thing.partition("[")[0] in fields else ""


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
