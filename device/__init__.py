"""attar: embeddings from one verified bundle, the same numbers on a device and on a server."""

import os
from importlib import import_module
from typing import TYPE_CHECKING

from .bundle import Bundle
from .errors import (
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

if TYPE_CHECKING:
    from attar.client import AsyncClient, Client, Tls

    from .runtime import Embeddings, Encoder, load
    from .token_vectors import TokenEmbeddings

# ONNX Runtime reports to its vendor and writes a device identifier into the home, from its first
# import on, unless a variable forbids it before. Every part of attar comes through here first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_LATE = {
    "AsyncClient": "client",
    "Client": "client",
    "Tls": "client",
    "Embeddings": "runtime",
    "Encoder": "runtime",
    "TokenEmbeddings": "token_vectors",
    "load": "runtime",
}

__all__ = [
    "AlreadyExists",
    "AsyncClient",
    "AttarError",
    "BackendError",
    "Bundle",
    "BundleRefused",
    "Cancelled",
    "Client",
    "DeadlineExceeded",
    "DiskFull",
    "Embeddings",
    "Encoder",
    "InputTooLong",
    "InvalidInput",
    "LimitReached",
    "MissingExtra",
    "NotFound",
    "NotSupported",
    "Overloaded",
    "PermissionDenied",
    "RateLimited",
    "Replaced",
    "ShapeError",
    "SpaceMismatch",
    "Tls",
    "TokenEmbeddings",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "load",
]


def __getattr__(name: str) -> object:
    """Import the part that has the name: a client needs no ONNX Runtime, and a device no grpc."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_LATE[name]}", __name__), name)
    return value


def __dir__() -> list[str]:
    """List the names that are there already, and those that come when they are used."""
    return sorted({*globals(), *__all__})
