"""Transcoding: each unary call of ours as JSON over HTTP, by the `google.api.http` of its method.

The body is protobuf's JSON mapping of the message, which is held to the limits that gRPC's is held
to, and the same servicer answers it. https://google.aip.dev/127
"""

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, NoReturn, TypeAlias, cast

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.rpc.status_pb2 import Status
from starlette.responses import Response

from attar.errors import InvalidInput

from ..admission import FORWARDED, REQUEST_ID
from ..cooperative import came, off_the_loop
from ..errors import about, from_status
from ..limits.fair_shares import SHORT_BYTES, room
from ..request_context import current
from ..rest.endpoint import JSON, Handler, HttpRequest, Route, document
from ..rest.error_formats import GOOGLE
from ..settings import Settings
from . import field_counts
from .incremental_protobuf import LIMITS
from .interceptor import Context
from .methods import HTTP_RULES, HttpRule, declared_scope
from .proxy import Forward

Call: TypeAlias = "Callable[[Message, Context], Awaitable[Message | bytes]]"
_PASSED_ON: Final = ("authorization", "traceparent", "tracestate", *FORWARDED)
_UNLIMITED: Final = 2**63
_JSON_BYTES: Final = 48  # of a field in an answer, its name with it; of bytes a third more
_UNKNOWN: Final = re.compile(r'type "([\w.]+)" has no field named "(.*?)"')
_FAILED: Final = re.compile(r"Failed to parse (\w+) field: ")
_PLACE: Final = re.compile(r' at "?\w+\.?([\w.\[\]]*?)"?\.?$')


class HttpContext:
    """What a servicer, and the proxy, ask of the context of a call."""

    def __init__(self, http_request: HttpRequest) -> None:
        """Stand for the context of a request, which sets no deadline."""
        self._http_request = http_request

    def time_remaining(self) -> None:
        """Give no deadline."""

    def peer(self) -> str:
        """Give the caller's address."""
        return self._http_request.peer

    def invocation_metadata(self) -> list[tuple[str, str]]:
        """Give the headers that another process needs to admit the call."""
        headers = self._http_request.headers
        given = [(name, headers[name]) for name in _PASSED_ON if name in headers]
        return [*given, (REQUEST_ID, current().request_id)]

    def set_trailing_metadata(self, metadata: object) -> None:
        """Leave out what HTTP's own headers say."""

    async def abort(
        self, code: grpc.StatusCode, details: str, trailing_metadata: Any = ()
    ) -> NoReturn:
        """Raise what another process ended the call with."""
        status = Status(code=code.value[0], message=details)
        for name, value in trailing_metadata:
            if name == "grpc-status-details-bin":
                status = Status.FromString(value)
        raise from_status(status)


class Transcoding:
    """The HTTP routes of calls, by their names, that servicers or another process answer."""

    def __init__(
        self, servicers: Mapping[str, Any], settings: Settings, forward: Forward | None
    ) -> None:
        """Call these servicers, by the full names of their services; the others by `forward`."""
        self._servicers = servicers
        self._forward = forward
        self._max_items = settings.max_items
        self._max_payload_values = settings.max_payload_values
        self._limits = {name: getattr(settings, name) for name in LIMITS.values()}

    def routes(self) -> list[Route]:
        """Give a route for each call."""
        return [self._route(rpc, rule) for rpc, rule in HTTP_RULES.items()]

    def _route(self, rpc: str, rule: HttpRule) -> Route:
        service, _, name = rpc.partition("/")
        servicer = self._servicers.get(service)
        if servicer is not None:
            call: Call = getattr(servicer, name)
        else:
            assert self._forward is not None
            call = partial(_forwarded, self._forward, f"/{rpc}")
        handler = self._handler(call, rule.method)
        return Route(
            method=rule.verb,
            path=rule.path,
            has_slashes=rule.has_slashes,
            # The process that answers a forwarded call admits it.
            scope=declared_scope(rule.method) if servicer is not None else None,
            handler=lambda _: handler,
            errors=GOOGLE,
            summary=f"{rpc.removeprefix('attar.v1.')} of gRPC.",
            types=(JSON,) if rule.has_body else (),
            request=GetMessageClass(rule.method.input_type) if rule.has_body else None,
            response=GetMessageClass(rule.method.output_type),
        )

    def _handler(self, call: Call, method: Any) -> Handler:
        request_kind: type[Message] = GetMessageClass(method.input_type)
        response_kind: type[Message] = GetMessageClass(method.output_type)

        async def handle(http_request: HttpRequest) -> Response:
            context = current()
            context.fields = request_kind.DESCRIPTOR.fields_by_name
            fields = await document(http_request, exact=True) if http_request.body else {}
            _add_path(fields, http_request.path)
            message, data = await off_the_loop(
                len(http_request.body), partial(_read, request_kind, fields)
            )
            del fields
            await context.hold_more(
                await off_the_loop(len(data), partial(self._weigh, message, data))
            )
            came(len(data))
            answer = await call(message, cast("Context", HttpContext(http_request)))
            del message, data
            encoded = answer if isinstance(answer, bytes) else answer.SerializeToString()
            counts = await off_the_loop(len(encoded), partial(_count, response_kind, encoded))
            if len(encoded) > SHORT_BYTES:  # a short one is given: what it reports has been done
                await context.hold_more(field_counts.weight(encoded, counts))
            await room().take(len(encoded) // 3 + _JSON_BYTES * sum(counts))
            written = await off_the_loop(len(encoded), partial(_write, response_kind, encoded))
            return Response(written, media_type=JSON)

        return handle

    def _weigh(self, message: Message, data: bytes) -> int:
        """Hold a message to the limits of gRPC's, and give the memory that it is made into."""
        counts = field_counts.count(
            type(message),
            data,
            limit=field_counts.most(self._max_items),
            max_payload_values=self._max_payload_values,
            limits=self._limits,
        )
        return field_counts.weight(data, counts)


async def _forwarded(forward: Forward, method: str, message: Message, context: Context) -> bytes:
    return await forward.ask(method, message.SerializeToString(), context)


def _add_path(fields: dict[str, Any], path: Mapping[str, str]) -> None:
    """Add what the path says; the body may say the same and nothing else."""
    for name, value in path.items():
        if fields.setdefault(name, value) != value:
            with about(name):
                raise InvalidInput(
                    f"{name} is {value!r:.80} in the path and another in the body; leave it out "
                    "of the body"
                )


def _read(kind: type[Message], fields: dict[str, Any]) -> tuple[Message, bytes]:
    """Read a message, and write it as gRPC's callers do."""
    try:
        message = json_format.ParseDict(fields, kind())
        return message, message.SerializeToString()
    except json_format.ParseError as error:
        problem = str(error).partition("\n")[0]
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        problem = str(error)  # of values of kinds that the reader does not expect
    raise _refusal(kind.DESCRIPTOR, problem) from None


def _refusal(message: Any, problem: str) -> Exception:
    """Say what is wrong with a message, by its descriptor, and where protobuf found it."""
    if unknown := _UNKNOWN.search(problem):
        owner, name = unknown.groups()
        known = message.file.pool.FindMessageTypeByName(owner).fields
        names = ", ".join(field.name for field in known)
        own = owner.rpartition(".")[2]
        return _violation(name, f"{own} has no field {name!r:.80}; known are {names}")
    place = _PLACE.search(problem)
    field = place[1] if place else ".".join(_FAILED.findall(problem))
    why = _FAILED.sub("", _PLACE.sub("", problem)).rstrip(".")
    return _violation(
        field, f"{field or 'the body'}: {why}; GET /openapi.json has what {message.name} takes"
    )


def _violation(field: str, message: str) -> Exception:
    try:
        with about(field, ours=False):
            raise InvalidInput(message)
    except Exception as error:
        return error


def _count(kind: type[Message], data: bytes) -> field_counts.FieldCounts:
    return field_counts.count(kind, data, limit=_UNLIMITED, max_payload_values=_UNLIMITED)


def _write(kind: type[Message], data: bytes) -> bytes:
    """Write a message as JSON, by the names of its .proto file and with fields that are zero."""
    fields = json_format.MessageToDict(
        kind.FromString(data),
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
    )
    # In Python, which lets other threads run, and not in one call of C.
    pieces = json.JSONEncoder(separators=(",", ":")).iterencode(fields)
    return "".join(pieces).encode()
