"""A connection: its options and credentials, and the metadata that a call carries."""

import sys
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from attar.errors import InvalidInput
from attar.target import Target

Metadata = tuple[tuple[str, str], ...]

# Responses are as large as the request makes them; the server's limits bound them.
OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5000),
)
CLOSED: Final = "this client is closed; make another"
REQUEST_ID: Final = "x-request-id"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """What a connection trusts and shows: PEM files.

    `ca` holds the authorities that the server's certificate must come from, the system's when it is
    None; `cert` and `key` are the client's own, for a server that asks for one.
    """

    ca: Path | str | None = None
    cert: Path | str | None = None
    key: Path | str | None = None


def credentials(target: Target, key: str | None) -> Metadata:
    """Give the header of a key; raises InvalidInput for a key that no header carries."""
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


def channel_credentials(tls: object) -> grpc.ChannelCredentials:
    """Read the files of `tls`; raises InvalidInput for a file that cannot be read."""
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
def call_metadata(rpc: str, metadata: Metadata) -> Iterator[Metadata]:
    """Give what a call carries in all its attempts: the key, its own request id, and its span.

    It has a span where the application itself has imported OpenTelemetry.
    """
    metadata = (*metadata, (REQUEST_ID, uuid.uuid4().hex))
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
        span.set_status(
            trace.StatusCode.ERROR, type(error).__name__
        )  # its message may quote a text
        raise
    finally:
        span.end()


def serialize(request: Any) -> bytes:
    """Give a request's bytes."""
    encoded: bytes = request.SerializeToString()
    return encoded
