"""Client: a server's calls as methods, with deadlines, typed errors, and retries where safe.

    with attar.Client("127.0.0.1:8001") as client:
        client.embed(["what is a monad?"]).vectors

Every method of `Client` is one of `attar.client.calls`, which says its arguments; `AsyncClient` has
the same ones, awaited. Within its deadline a call is sent again, when sending it twice does no
harm: create, delete and fit are sent once. One that finds no server is sent up to `ATTEMPTS` times;
one that a busy server refuses, until it is answered or the deadline leaves no time for another,
which raises the refusal. Before each it waits as long as the server says, and longer after each
refusal, up to `LONGEST_PAUSE_S`.
Every call carries a request id of its own, which stands in the server's log and, where a server may
have seen the call, in the notes of its error.
"""

import asyncio
import functools
import inspect
import random
import sys
import threading
import time
import uuid
import warnings
from collections import deque
from collections.abc import (
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Iterator,
)
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Final, ParamSpec, Self, TypeVar, get_args

from numpy.typing import NDArray

from attar.errors import (
    AttarError,
    DeadlineExceeded,
    InvalidInput,
    MissingExtra,
    NotSupported,
    Overloaded,
    Unavailable,
)

try:
    import grpc
    from google.rpc.status_pb2 import Status

    from attar.v1 import embedding_pb2

    from . import calls
    from .calls import Call, Embedded, Items, Payload, TokenIds
except ImportError as error:
    what = "attar.client"
    raise MissingExtra(what, "client") from error

from attar.encodings import Encoding
from attar.inputs import Priority, Role, Truncation
from attar.target import Target
from attar.values import PointId

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Callable[..., Any])
Metadata = tuple[tuple[str, str], ...]

ATTEMPTS: Final = 4
"""How often a call is sent that finds no server."""
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0
"""Before its jitter of up to a half; a server that says a longer one is waited for."""
_DOUBLINGS: Final = 10  # beyond them the pause is the longest
# The words of gRPC, in C, Go and Node, and in Java, for a message beyond a limit: no wait helps.
_TOO_LARGE: Final = ("larger than max", "exceeds maximum size")
# Answers are as large as what was asked for; the server's limits bound it.
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
)
_CLOSED: Final = "this client is closed; make another"
_STREAM: Final = "/attar.v1.Embedding/EmbedStream"
_REQUEST_ID: Final = "x-request-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What a connection trusts and shows: PEM files.

    `ca` holds the authorities that the server's certificate must come from, the system's when it is
    None; `cert` and `key` are the client's own, for a server that asks for one.
    """

    ca: Path | str | None = None
    cert: Path | str | None = None
    key: Path | str | None = None


def _named_after(make: Callable[..., Any], method: M) -> M:
    """Give the method its call's name, words and signature, for `help` and editors."""
    functools.update_wrapper(method, make, assigned=("__name__", "__doc__"))
    signature = inspect.signature(make)
    owner = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
    (answer,) = get_args(signature.return_annotation)  # of Call[...]
    method.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[owner, *signature.parameters.values()], return_annotation=answer
    )
    return method


def _blocking(make: Callable[P, Call[R]]) -> Callable[Concatenate["Client", P], R]:
    """Turn a call into a method that sends it and returns its answer."""

    def method(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._send(make(*args, **kwargs))

    return _named_after(make, method)


def _awaiting(make: Callable[P, Call[R]]) -> Callable[Concatenate["AsyncClient", P], Awaitable[R]]:
    """Turn a call into a method that sends it and gives its answer when awaited."""

    async def method(self: "AsyncClient", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._send(make(*args, **kwargs))

    return _named_after(make, method)


class Client:
    """A server at `target`, host:port; use it in a `with` block, from any thread."""

    def __init__(self, target: str, *, key: str | None = None, tls: Tls | None = None) -> None:
        """Connect when the first call is made, by TLS when `tls` says how.

        `key` is what the server lets calls in by. Raises InvalidInput for a target that is no
        host:port, or a file that cannot be read.
        """
        self._target = Target(target, tls=tls is not None)
        self._made = functools.partial(type(self), target, key=key, tls=tls)
        self._metadata = _credentials(self._target, key)
        self._closed = threading.Event()
        options = (*_OPTIONS, *self._target.options)
        self._channel = (
            grpc.insecure_channel(target, options=options)
            if tls is None
            else grpc.secure_channel(target, _channel_credentials(tls), options=options)
        )

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        """Pickle what it was made of, the key too: what is unpickled connects anew."""
        return self._made, ()

    def __enter__(self) -> Self:
        """The client itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        self.close()

    def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._closed.set()
        self._channel.close()

    def _opened(self) -> grpc.Channel:
        if self._closed.is_set():
            raise InvalidInput(_CLOSED)
        return self._channel

    info = _blocking(calls.info)
    models = _blocking(calls.models)
    load_model = _blocking(calls.load_model)
    unload_model = _blocking(calls.unload_model)
    set_variant = _blocking(calls.set_variant)
    embed = _blocking(calls.embed)
    create_collection = _blocking(calls.create_collection)
    delete_collection = _blocking(calls.delete_collection)
    collection = _blocking(calls.collection)
    collections = _blocking(calls.collections)
    upsert = _blocking(calls.upsert)
    search = _blocking(calls.search)
    search_batch = _blocking(calls.search_batch)
    retrieve = _blocking(calls.retrieve)
    scroll = _blocking(calls.scroll)
    delete_points = _blocking(calls.delete_points)
    count = _blocking(calls.count)
    optimize = _blocking(calls.optimize)
    snapshot = _blocking(calls.snapshot)
    snapshots = _blocking(calls.snapshots)
    delete_snapshot = _blocking(calls.delete_snapshot)
    restore = _blocking(calls.restore)
    fit_anomaly = _blocking(calls.fit_anomaly)
    score_anomaly = _blocking(calls.score_anomaly)
    detector = _blocking(calls.detector)
    detectors = _blocking(calls.detectors)
    delete_detector = _blocking(calls.delete_detector)
    fit_classifier = _blocking(calls.fit_classifier)
    classify = _blocking(calls.classify)
    classifier = _blocking(calls.classifier)
    classifiers = _blocking(calls.classifiers)
    delete_classifier = _blocking(calls.delete_classifier)

    def upsert_all(
        self,
        collection: str,
        points: Iterable[tuple[PointId, str | NDArray[Any], Payload]],
        *,
        batch_size: int = 256,
        deadline_s: float = calls.DEADLINE_S,
    ) -> int:
        """Write any number of (id, item, payload), `batch_size` to a call; gives how many.

        An item is a text, or the array of a model that takes arrays. `deadline_s` is each call's.
        What an error interrupts may be begun again from the start.
        """
        written = 0
        for size, call in calls.upsert_batches(
            collection, points, batch_size=batch_size, deadline_s=deadline_s
        ):
            with calls.among(written, size):
                self._send(call)
            written += size
        return written

    def embed_stream(
        self,
        batches: Iterable[Items | TokenIds],
        *,
        model: str = "",
        version: str = "",
        role: Role = "passage",
        dims: int | None = None,
        encoding: Encoding = "f32",
        truncation: Truncation = "truncate",
        priority: Priority = "interactive",
        partial: bool = False,
        deadline_s: float | None = None,
    ) -> Iterator[Embedded]:
        """The embeddings of each batch, in order, while later batches are read and sent.

        A full queue makes the stream wait. There is no deadline by default: only the caller knows
        how long the stream is. With `partial`, a batch that failed as a whole has its error at
        every item; without, it ends the stream.
        """
        timeout_s = None if deadline_s is None else calls.seconds("deadline_s", deadline_s)
        sizes: deque[int] = deque()
        lost: deque[Exception] = deque()

        def requests() -> Iterator[embedding_pb2.EmbedRequest]:
            try:
                for batch in calls.row_of("batches", batches):
                    request = calls.embed_request(
                        batch,
                        model=model,
                        version=version,
                        role=role,
                        dims=dims,
                        encoding=encoding,
                        truncation=truncation,
                        priority=priority,
                    )
                    sizes.append(calls.size_of(request))
                    yield request
            except Exception as error:  # noqa: BLE001 (raised where the caller is, after the answers)
                lost.append(error)

        with _named(_STREAM, self._metadata) as metadata:
            stream = self._opened().stream_stream(
                _STREAM, _serialize, embedding_pb2.EmbedResponse.FromString
            )(requests(), timeout=timeout_s, metadata=metadata)
            try:
                for answer in stream:
                    yield calls.embedded(answer, partial=partial, size=sizes.popleft())
            except grpc.RpcError as error:
                raise _explain(error, self._target, metadata)[0] from None
            finally:
                stream.cancel()
        if lost:
            raise lost[0]

    def _send(self, call: Call[R]) -> R:
        attempts = _Attempts(call)
        invoke = self._opened().unary_unary(call.rpc, _serialize, call.answer.FromString)
        with _named(call.rpc, self._metadata) as metadata:
            while True:
                try:
                    answer = invoke(call.request, timeout=attempts.left_s, metadata=metadata)
                    return call.decode(answer)
                except grpc.RpcError as failure:
                    error, delay = _explain(failure, self._target, metadata, hint=call.hint)
                    pause = attempts.pause(error, delay)
                    if pause is None:
                        raise error from None
                if self._closed.wait(pause):
                    raise InvalidInput(_CLOSED)


class AsyncClient:
    """A server at `target`, host:port; use it in an `async with` block, in one event loop."""

    def __init__(self, target: str, *, key: str | None = None, tls: Tls | None = None) -> None:
        """Connect when the first call is made, by TLS when `tls` says how.

        `key` is what the server lets calls in by. Raises InvalidInput for a target that is no
        host:port, or a file that cannot be read.
        """
        self._target = Target(target, tls=tls is not None)
        self._made = functools.partial(type(self), target, key=key, tls=tls)
        self._metadata = _credentials(self._target, key)
        options = (*_OPTIONS, *self._target.options)
        # Made at the first call: a channel belongs to the event loop that it is made in.
        self._connect = (
            functools.partial(grpc.aio.insecure_channel, target, options=options)
            if tls is None
            else functools.partial(
                grpc.aio.secure_channel, target, _channel_credentials(tls), options=options
            )
        )
        self._channel: grpc.aio.Channel | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __reduce__(self) -> tuple[Callable[[], object], tuple[()]]:
        """Pickle what it was made of, the key too: what is unpickled connects anew."""
        return self._made, ()

    async def __aenter__(self) -> Self:
        """The client itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection."""
        await self.close()

    async def close(self) -> None:
        """Close the connection; calls in flight are cancelled."""
        self._closed = True
        if self._channel is not None:
            await self._channel.close()

    def _opened(self) -> grpc.aio.Channel:
        if self._closed:
            raise InvalidInput(_CLOSED)
        if self._channel is None:
            self._channel, self._loop = self._connect(), asyncio.get_running_loop()
        elif self._loop is not asyncio.get_running_loop():
            raise InvalidInput("this client was used in another event loop; make one in each loop")
        return self._channel

    info = _awaiting(calls.info)
    models = _awaiting(calls.models)
    load_model = _awaiting(calls.load_model)
    unload_model = _awaiting(calls.unload_model)
    set_variant = _awaiting(calls.set_variant)
    embed = _awaiting(calls.embed)
    create_collection = _awaiting(calls.create_collection)
    delete_collection = _awaiting(calls.delete_collection)
    collection = _awaiting(calls.collection)
    collections = _awaiting(calls.collections)
    upsert = _awaiting(calls.upsert)
    search = _awaiting(calls.search)
    search_batch = _awaiting(calls.search_batch)
    retrieve = _awaiting(calls.retrieve)
    scroll = _awaiting(calls.scroll)
    delete_points = _awaiting(calls.delete_points)
    count = _awaiting(calls.count)
    optimize = _awaiting(calls.optimize)
    snapshot = _awaiting(calls.snapshot)
    snapshots = _awaiting(calls.snapshots)
    delete_snapshot = _awaiting(calls.delete_snapshot)
    restore = _awaiting(calls.restore)
    fit_anomaly = _awaiting(calls.fit_anomaly)
    score_anomaly = _awaiting(calls.score_anomaly)
    detector = _awaiting(calls.detector)
    detectors = _awaiting(calls.detectors)
    delete_detector = _awaiting(calls.delete_detector)
    fit_classifier = _awaiting(calls.fit_classifier)
    classify = _awaiting(calls.classify)
    classifier = _awaiting(calls.classifier)
    classifiers = _awaiting(calls.classifiers)
    delete_classifier = _awaiting(calls.delete_classifier)

    async def upsert_all(
        self,
        collection: str,
        points: Iterable[tuple[PointId, str | NDArray[Any], Payload]],
        *,
        batch_size: int = 256,
        deadline_s: float = calls.DEADLINE_S,
    ) -> int:
        """Write any number of (id, item, payload), `batch_size` to a call; gives how many.

        An item is a text, or the array of a model that takes arrays. `deadline_s` is each call's.
        What an error interrupts may be begun again from the start.
        """
        written = 0
        for size, call in calls.upsert_batches(
            collection, points, batch_size=batch_size, deadline_s=deadline_s
        ):
            with calls.among(written, size):
                await self._send(call)
            written += size
        return written

    async def embed_stream(
        self,
        batches: Iterable[Items | TokenIds] | AsyncIterable[Items | TokenIds],
        *,
        model: str = "",
        version: str = "",
        role: Role = "passage",
        dims: int | None = None,
        encoding: Encoding = "f32",
        truncation: Truncation = "truncate",
        priority: Priority = "interactive",
        partial: bool = False,
        deadline_s: float | None = None,
    ) -> AsyncIterator[Embedded]:
        """The embeddings of each batch, in order, while later batches are read and sent.

        A full queue makes the stream wait. There is no deadline by default: only the caller knows
        how long the stream is. With `partial`, a batch that failed as a whole has its error at
        every item; without, it ends the stream.
        """
        timeout_s = None if deadline_s is None else calls.seconds("deadline_s", deadline_s)
        sizes: deque[int] = deque()
        lost: deque[Exception] = deque()

        async def requests() -> AsyncIterator[embedding_pb2.EmbedRequest]:
            try:
                async for batch in _each(batches):
                    request = calls.embed_request(
                        batch,
                        model=model,
                        version=version,
                        role=role,
                        dims=dims,
                        encoding=encoding,
                        truncation=truncation,
                        priority=priority,
                    )
                    sizes.append(calls.size_of(request))
                    yield request
            except Exception as error:  # noqa: BLE001 (raised where the caller is, after the answers)
                lost.append(error)

        with _named(_STREAM, self._metadata) as metadata:
            stream = self._opened().stream_stream(
                _STREAM, _serialize, embedding_pb2.EmbedResponse.FromString
            )(requests(), timeout=timeout_s, metadata=metadata)
            try:
                async for answer in stream:
                    yield calls.embedded(answer, partial=partial, size=sizes.popleft())
            except grpc.RpcError as error:
                raise _explain(error, self._target, metadata)[0] from None
            finally:
                stream.cancel()
        if lost:
            raise lost[0]

    async def _send(self, call: Call[R]) -> R:
        attempts = _Attempts(call)
        with _named(call.rpc, self._metadata) as metadata:
            while True:
                invoke = self._opened().unary_unary(call.rpc, _serialize, call.answer.FromString)
                try:
                    answer = await invoke(call.request, timeout=attempts.left_s, metadata=metadata)
                    return call.decode(answer)
                except grpc.RpcError as failure:
                    error, delay = _explain(failure, self._target, metadata, hint=call.hint)
                    pause = attempts.pause(error, delay)
                    if pause is None:
                        raise error from None
                await asyncio.sleep(pause)


class _Attempts:
    """How long one call may take, and when it is sent again."""

    def __init__(self, call: Call[Any]) -> None:
        self._repeatable = call.repeatable
        self._ends = time.monotonic() + call.deadline_s
        self._failed = 0
        self._lost = 0  # of those, the ones that no server refused for now

    @property
    def left_s(self) -> float:
        """Seconds until its deadline."""
        return self._ends - time.monotonic()

    def pause(self, error: AttarError, delay: float | None) -> float | None:
        """Seconds to wait after a failure, at least the server's `delay`; None to give up.

        They grow, as those who are refused send it all again, and are jittered, so that callers
        spread: https://github.com/googleapis/googleapis/blob/master/google/rpc/error_details.proto
        """
        self._failed += 1
        self._lost += not isinstance(error, Overloaded)
        if delay is None or not self._repeatable or self._lost >= ATTEMPTS:
            return None
        left = self.left_s
        grown = min(FIRST_PAUSE_S * 2.0 ** min(self._failed - 1, _DOUBLINGS), LONGEST_PAUSE_S)
        spread: float = random.uniform(1, 1.5)
        # What is left is halved, and not slept through: the server may be free before its end.
        pause: float = max(delay, min(max(delay, grown) * spread, left / 2))
        # An attempt that the deadline cuts off would hide why the server refuses.
        return pause if left - pause >= FIRST_PAUSE_S else None


def _credentials(target: Target, key: str | None) -> Metadata:
    if key is None:
        return ()
    if not isinstance(key, str):
        raise InvalidInput(f"the key is a {type(key).__name__}; give text")
    if not key:
        raise InvalidInput("the key is empty; check how it was read, or leave it out")
    if not key.isascii() or not key.isprintable():
        raise InvalidInput("the key has characters that no header carries; check how it was read")
    if not target.tls and not target.is_local:
        warnings.warn(
            f"the key goes to {target} in the clear, for there is no tls; give tls=Tls()",
            stacklevel=3,
        )
    return (("authorization", f"Bearer {key}"),)


def _channel_credentials(tls: object) -> grpc.ChannelCredentials:
    if not isinstance(tls, Tls):
        raise InvalidInput(
            f"tls is an attar.Tls, which says what to trust and what to show; got {tls!r}"
        )
    if (tls.cert is None) != (tls.key is None):
        raise InvalidInput(f"tls.cert is {tls.cert} and tls.key {tls.key}; give both or neither")
    return grpc.ssl_channel_credentials(_pem(tls.ca), _pem(tls.key), _pem(tls.cert))


def _pem(path: Path | str | None) -> bytes | None:
    try:
        content = None if path is None else Path(path).read_bytes()
    except TypeError:
        raise InvalidInput(f"a file of tls is {path!r:.80}; give a path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"cannot read {path}: {reason}") from error
    if content is not None and b"-----BEGIN " not in content:
        raise InvalidInput(f"{path} is no PEM file, which has a line -----BEGIN ...-----")
    return content


@contextmanager
def _named(rpc: str, metadata: Metadata) -> Iterator[Metadata]:
    """What a call carries: the key, a request id of its own, and its span, for all its attempts.

    It has a span where the application itself has imported OpenTelemetry.
    """
    metadata = (*metadata, (_REQUEST_ID, uuid.uuid4().hex))
    if "opentelemetry.trace" not in sys.modules:
        yield metadata
        return
    from opentelemetry import propagate, trace

    service, _, method = rpc.strip("/").rpartition("/")
    attributes = {"rpc.service": service, "rpc.method": method}
    span = trace.get_tracer("attar.client").start_span(
        rpc.strip("/"), kind=trace.SpanKind.CLIENT, attributes=attributes
    )
    headers: dict[str, str] = {}
    propagate.inject(headers, trace.set_span_in_context(span))
    try:
        yield (*metadata, *headers.items())
    except Exception as error:
        span.set_status(trace.StatusCode.ERROR, type(error).__name__)  # its words may quote a text
        raise
    finally:
        span.end()


def _explain(
    failure: Any, target: Target, metadata: Metadata, *, hint: str = ""
) -> tuple[AttarError, float | None]:
    """The typed error of a failed call, and the seconds to its next attempt, if any.

    gRPC's own error is not kept as its cause: it says nothing more, in 25 lines.
    """
    error, delay, reached = _typed(failure, target)
    if hint and isinstance(error, DeadlineExceeded):
        error = DeadlineExceeded(f"{error}, {hint}")
    if reached:
        error.add_note(f"request id {dict(metadata)[_REQUEST_ID]}, as in the server's log")
    return error, delay


def _typed(failure: Any, target: Target) -> tuple[AttarError, float | None, bool]:
    """The error, the seconds to the next attempt, and whether a server may have seen the call."""
    code, text = failure.code(), failure.details() or ""
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            status = Status.FromString(value)
            return calls.error_from(status), calls.retry_after(status), True
    match code:
        case grpc.StatusCode.UNAVAILABLE:
            return Unavailable(target.explain(text)), FIRST_PAUSE_S, False
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            message = f"no answer from {target} within the deadline; give a longer deadline_s"
            return DeadlineExceeded(message), None, True
        case grpc.StatusCode.RESOURCE_EXHAUSTED if any(words in text for words in _TOO_LARGE):
            message = (
                f"{text}; send fewer items in a call (info().limits tells what {target} takes)"
            )
            return InvalidInput(message), None, True
        case grpc.StatusCode.RESOURCE_EXHAUSTED:  # gRPC's own refusal, or a proxy's
            return Overloaded(f"{target} is busy: {text}; retry later"), FIRST_PAUSE_S, True
        case grpc.StatusCode.CANCELLED:
            # Not by this client, whose own cancelling raises another exception.
            message = f"{target} went away before it answered; ask again, or another"
            return Unavailable(message), FIRST_PAUSE_S, True
        case grpc.StatusCode.UNIMPLEMENTED:
            message = f"{target} has no such call ({text}); is it attar, and not an older one?"
            return NotSupported(message), None, True
        case _:
            return AttarError(f"{target} answered {code.name}: {text}"), None, True


def _serialize(request: Any) -> bytes:
    encoded: bytes = request.SerializeToString()
    return encoded


async def _each(
    batches: Iterable[Items | TokenIds] | AsyncIterable[Items | TokenIds],
) -> AsyncIterator[Items | TokenIds]:
    if isinstance(batches, AsyncIterable):
        async for batch in batches:
            yield batch
    else:
        for batch in calls.row_of("batches", batches):
            yield batch
