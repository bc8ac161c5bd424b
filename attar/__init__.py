"""attar: embeddings from one verified bundle, the same numbers on a device and on a server."""

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
    MissingExtra,
    NotFound,
    NotSupported,
    Overloaded,
    PermissionDenied,
    RateLimited,
    ShapeError,
    SpaceMismatch,
    Unauthenticated,
    Unavailable,
    Unimplemented,
)
from .runtime import Embeddings, Encoder, load

if TYPE_CHECKING:
    from .client import AsyncClient, Client, Tls

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
    "MissingExtra",
    "NotFound",
    "NotSupported",
    "Overloaded",
    "PermissionDenied",
    "RateLimited",
    "ShapeError",
    "SpaceMismatch",
    "Tls",
    "Unauthenticated",
    "Unavailable",
    "Unimplemented",
    "load",
]


def __getattr__(name: str) -> object:
    """Import the clients when they are asked for: they need grpc, which a device does not have."""
    if name in ("AsyncClient", "Client", "Tls"):
        from . import client  # noqa: PLC0415 -- late on purpose

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
