"""Endpoints: what happens around every HTTP request, whatever its route.

A request comes in through admission, is read whole within its limits, and ends with its answer or
with the one status and body that its exception maps to. Who leaves takes the work along.
"""

import asyncio
import io
import json
import math
import re
from array import array
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import numpy as np
from google.protobuf.message import Message as ProtobufMessage
from google.rpc.error_details_pb2 import BadRequest
from google.rpc.status_pb2 import Status
from pydantic import BaseModel
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Send
from starlette.types import Scope as Connection

from attar.errors import Cancelled, InvalidInput
from attar.inputs import HOW_TO_CUT

from ..admission import REQUEST_ID, Admission
from ..cooperative import STEP_BYTES, came, off_the_loop, steps
from ..errors import Unreadable, http_code, reason_of, retry_after_s, to_status
from ..limits.fair_shares import ResponseRoom
from ..request_context import answering, current
from ..security.access import Scope
from ..security.browser import PREFLIGHTED, asks_first
from . import json_reader

JSON: Final = "application/json"
_ASTRAL: Final = tuple(bytes((lead,)) for lead in range(0xF0, 0xF5))  # in UTF-8
_VALUE_BYTES: Final = 64  # bytes: half of what a list of one number takes
_FIELD_BYTES: Final = 128  # besides: a pair, and its part of two objects
_TEXT_BYTES: Final = 48  # besides
_ESCAPED_BYTES: Final = 128  # text, which is written once more to look for half a pair
_FEW: Final = 2**12
_SEPARATES: Final = np.isin(np.arange(256), [*b",[{"])
BINARY: Final = "application/octet-stream"
_CHARSET: Final = re.compile(r';\s*charset\s*=\s*"?([^\s";]+)', re.IGNORECASE)

_LARGE: Final = 2**16  # bytes of an answer; asyncio writes as many without a wait


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpRequest:
    """A request of a caller at an address, come whole; the names of `headers` are lower case.

    `taken` says that its body has been read, or room taken for what it is read into.
    """

    path: Mapping[str, str]
    headers: Mapping[str, str]
    peer: str
    body: bytes
    max_json_values: int
    taken: Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """An error as HTTP knows it, before a protocol formats it, and as gRPC does where it may."""

    code: int
    message: str
    reason: str
    field: str
    status: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorFormat:
    """How an API says what is wrong: its JSON, and the statuses that it has in place of ours."""

    write: Callable[[Problem], dict[str, Any]]
    schema: type[BaseModel]
    statuses: Mapping[int, int] = field(default_factory=dict)

    def response(self, problem: Problem, headers: Mapping[str, str] | None = None) -> Response:
        """The answer to a request that failed."""
        status = self.statuses.get(problem.code, problem.code)
        return JSONResponse(self.write(problem), status, headers)


Schema: TypeAlias = type[BaseModel] | type[ProtobufMessage]
Handler: TypeAlias = Callable[[HttpRequest], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One method of one path: what a key needs for it, and who of a server's parts answers.

    `scope` None is a probe, which needs no key. `types` are the media types of its body; none
    stands for no body. With `has_slashes` the one variable of the path may have some. `request` and
    `response` are the schemas of what is sent and answered, for the OpenAPI page.
    """

    method: str
    path: str
    scope: Scope | None
    handler: Callable[[Any], Handler]
    errors: ErrorFormat
    summary: str
    types: tuple[str, ...] = ()
    has_slashes: bool = False
    request: Schema | None = None
    response: Schema | None = None

    @property
    def name(self) -> str:
        """What metrics and logs call it."""
        return f"{self.method} {self.path}"

    @property
    def pattern(self) -> str:
        """The path as Starlette matches it."""
        return self.path.replace("}", ":path}") if self.has_slashes else self.path


class EndpointFactory:
    """The way of every request to its route's answer."""

    def __init__(
        self,
        admission: Admission,
        *,
        max_body_bytes: int,
        max_json_values: int,
        read_timeout_s: float,
    ) -> None:
        """Let requests in by `admission`; bodies have so many bytes, and so long to arrive."""
        self._admission = admission
        self._max_json_values = max_json_values
        self._max_body_bytes = max_body_bytes
        self._read_timeout_s = read_timeout_s

    def endpoint(
        self, route: Route, work: Handler
    ) -> Callable[[Request], Coroutine[Any, Any, ASGIApp]]:
        """The route as Starlette calls it; `work` answers it."""

        async def handle(request: Request) -> ASGIApp:
            headers = dict(reversed(request.headers.items()))
            peer = request.client.host if request.client else ""
            with answering(self._admission.open(route.name, headers)) as call:
                room = None
                try:
                    with (
                        self._admission.admitted(
                            call, scope=route.scope, headers=headers, peer=peer
                        ) as room,
                        ExitStack() as arriving,
                    ):
                        hold = arriving.enter_context(call.arriving())
                        body = await self._read(request, route, hold) if route.types else b""
                        came(len(body))
                        http_request = HttpRequest(
                            path=request.path_params,
                            headers=headers,
                            peer=peer,
                            body=body,
                            max_json_values=self._max_json_values,
                            taken=arriving.close,
                        )
                        response = await _unless_gone(request, work(http_request))
                        room.settle(len(response.body))
                except Exception as error:
                    response = error_response(error, route.errors)
                response.headers[REQUEST_ID] = call.request_id
                return response if room is None else _Held(response, room)

        return handle

    async def _read(self, request: Request, route: Route, hold: Callable[[int], None]) -> bytes:
        """The body, whose bytes are held before they come; raises Unreadable where none will do."""
        _refuse_form(request.headers, route.types)
        too_large = Unreadable(
            413, f"the body is larger than max_message_bytes, {self._max_body_bytes}; send less"
        )
        length = int(request.headers.get("content-length", "0"))
        if length > self._max_body_bytes:
            raise too_large
        body, size = io.BytesIO(), 0  # which gives what was written without a copy
        held = length
        if held:  # first: of bodies that come together each would else be refused half way
            hold(held)
        try:
            async with asyncio.timeout(self._read_timeout_s):
                async for chunk in request.stream():
                    size += len(chunk)
                    if size > self._max_body_bytes:
                        raise too_large
                    if size > held:  # it comes in chunks, and may be as long again
                        more = min(max(held, len(chunk)), self._max_body_bytes - held)
                        hold(more)
                        held += more
                    body.write(chunk)
        except TimeoutError:
            raise Unreadable(
                408,
                f"the body was not whole after http_read_timeout_s, {self._read_timeout_s:g} s; "
                "send it faster, or less of it",
            ) from None
        except ClientDisconnect:
            raise Cancelled("the caller left before its request was whole") from None
        current().let_go(held - size)
        return body.getvalue()


class _Held:
    """A response whose bytes are held until they are taken."""

    def __init__(self, response: Response, room: ResponseRoom) -> None:
        self._response = response
        self._room = room

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Send it, and give its room back once little of it is left to write."""

        async def send_and_wait(message: Message) -> None:
            if len(message.get("body", b"")) > _LARGE:
                await send({**message, "more_body": True})
                message = {**message, "body": b""}  # which goes when most of the other was taken
            await send(message)

        try:
            await self._response(scope, receive, send_and_wait)
        finally:
            self._room.leave()


def error_response(error: Exception, errors: ErrorFormat) -> Response:
    """The response to an exception, in a protocol's format."""
    status = to_status(error, fields=current().fields)
    violated = ""
    for detail in status.details:
        violations = BadRequest()
        if detail.Unpack(violations):
            violated = violations.field_violations[0].field
    code = http_code(error)
    message = status.message.replace(HOW_TO_CUT, 'send "truncate": true')
    problem = Problem(
        code=code, message=message, reason=reason_of(error), field=violated, status=status
    )
    headers = {}
    if (seconds := retry_after_s(error)) is not None:
        headers["retry-after"] = str(math.ceil(seconds))
        headers["retry-after-ms"] = str(math.ceil(seconds * 1000))
    if code == 401:
        headers["www-authenticate"] = "Bearer"
    return errors.response(problem, headers)


async def document(
    http_request: HttpRequest, *, size: int | None = None, exact: bool = False
) -> dict[str, Any]:
    """The JSON object that a body holds, or the first `size` bytes of it; `exact` is of `parsed`.

    Raises InvalidInput for anything else, and for more values than a body may have.
    """
    body = http_request.body if size is None else http_request.body[:size]
    count = await off_the_loop(
        len(body), lambda: json_values(body, most=http_request.max_json_values)
    )
    if count > http_request.max_json_values:
        raise InvalidInput(
            f"the body has more values than max_json_values, {http_request.max_json_values}; "
            "send less, or tensors as bytes"
        )
    await current().hold_more(await off_the_loop(len(body), lambda: weight(body, count)))
    http_request.taken()
    return await off_the_loop(len(body), lambda: parsed(body, exact=exact))


def weight(body: bytes, count: int) -> int:
    """The memory that a body of so many values takes to be read, bytes, besides its own."""
    fields = min(count, body.count(b":"))  # those inside of texts do no harm
    texts = min(count + fields, body.count(b'"') // 2)
    of_a_text = _ESCAPED_BYTES if b"\\u" in body else _TEXT_BYTES
    of_values = _VALUE_BYTES * count + _FIELD_BYTES * fields + of_a_text * texts
    return 2 * _width(body) * len(body) + of_values


def _width(body: bytes) -> int:
    """How many bytes a character of JSON may take in Python."""
    if b"\\u" in body or any(lead in body for lead in _ASTRAL):
        return 4
    return 1 if body.isascii() else 2


def json_values(body: bytes, *, most: int) -> int:
    """How many values JSON has at most: its commas and opening brackets outside of texts, and 1.

    It looks no further once there are more than `most`.
    """
    count = 1 + sum(map(body.count, (b",", b"[", b"{")))
    if count <= _FEW:  # those inside of texts do no harm
        return count
    plain = body.replace(b"\\\\", b"  ").replace(b'\\"', b"  ") if b"\\" in body else body
    count, in_text = 1, False
    for part in steps(len(plain), STEP_BYTES):
        codes = np.frombuffer(plain[part], np.uint8)
        inside = np.logical_xor.accumulate(codes == ord('"')) ^ in_text
        count += int(np.count_nonzero(_SEPARATES[codes] & ~inside))
        in_text = bool(inside[-1])
        if count > most:
            break
    return count


def parsed(body: bytes, *, exact: bool = False) -> dict[str, Any]:
    """The JSON object that a body holds; raises InvalidInput for anything else.

    Fields that are null are left out, and numbers of long arrays packed, unless it is `exact`.
    """
    try:
        text = body.decode("utf-8-sig")  # some clients put a byte order mark first
        document = json_reader.read(text, exact=exact)
        if b"\\u" in body:
            json.dumps(document, ensure_ascii=False, default=_no_text).encode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"the body is not UTF-8 at byte {error.start}; encode it so") from None
    except UnicodeEncodeError:
        raise InvalidInput("the body escapes half of a surrogate pair, which is no text") from None
    except json.JSONDecodeError as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        reason = (
            str(error)
            if isinstance(error, json_reader.NotJson)
            else "a number or its depth is too large"
        )
        raise InvalidInput(f"the body is not JSON: {reason}") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"the body is {json_kind(document)}; send an object")
    return document


def _no_text(packed: object) -> None:
    """Stand for packed numbers."""


def json_kind(value: object) -> str:
    """What JSON calls a value: an object, an array, a string, a number, true, false or null."""
    match value:
        case None | bool():
            return json.dumps(value)
        case str():
            return "a string"
        case int() | float():
            return "a number"
        case list() | array():
            return "an array"
        case _:
            return "an object"


def _refuse_form(headers: Mapping[str, str], types: tuple[str, ...]) -> None:
    """Refuse a body of another media type, charset or coding before it is read."""
    content_type = headers.get("content-type", "")
    kind = content_type.partition(";")[0].strip().lower()
    # A page may send a body of no type, or of text's, without that its browser asks first.
    if kind not in types or (kind == "" and not asks_first(headers)):
        expected = " or ".join(filter(None, types))
        alone = f", or none with {' or '.join(PREFLIGHTED)}" if "" in types else ""
        raise Unreadable(415, f"content-type is {kind[:80]!r}; expected {expected}{alone}")
    charset = _CHARSET.search(content_type)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8", "us-ascii"):
        raise Unreadable(415, f"charset is {charset[1][:80]!r}; send JSON as UTF-8")
    coding = headers.get("content-encoding", "").strip()
    if coding.lower() not in ("", "identity"):
        raise Unreadable(415, f"content-encoding is {coding[:80]!r}; send the body uncompressed")


async def _unless_gone(request: Request, work: Awaitable[Response]) -> Response:
    """Await the answer, and drop it when the caller leaves."""
    response = asyncio.ensure_future(work)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((response, gone), return_when=asyncio.FIRST_COMPLETED)
        if not response.done():
            raise Cancelled("the caller left")
        return response.result()
    finally:
        for task in (response, gone):
            task.cancel()
        await asyncio.wait((response, gone))


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
