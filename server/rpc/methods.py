"""Methods: every RPC that the server answers, and what its .proto file says about it.

Scopes and ownership of our own services are options of their .proto files, see
protos/attar/v1/options.proto. KServe's and reflection's files are not ours: their scopes are here.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from google.api import annotations_pb2
from tritonclient.grpc import service_pb2

from attar.v1 import (
    anomaly_pb2,
    classification_pb2,
    collections_pb2,
    embedding_pb2,
    info_pb2,
    models_pb2,
    options_pb2,
    reranking_pb2,
)

from ..security.access import SCOPES as KEY_SCOPES
from ..security.access import Scope

_OURS: Final = (
    info_pb2.DESCRIPTOR.services_by_name["Info"],
    models_pb2.DESCRIPTOR.services_by_name["Models"],
    embedding_pb2.DESCRIPTOR.services_by_name["Embedding"],
    reranking_pb2.DESCRIPTOR.services_by_name["Reranking"],
    collections_pb2.DESCRIPTOR.services_by_name["Collections"],
    anomaly_pb2.DESCRIPTOR.services_by_name["Anomaly"],
    classification_pb2.DESCRIPTOR.services_by_name["Classification"],
)
SERVICES: Final = (*_OURS, service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"])
SERVICE_NAMES: Final = tuple(service.full_name for service in SERVICES)
RPCS: Final = tuple(
    f"{service.full_name}/{method.name}" for service in SERVICES for method in service.methods
)
OWNER_SERVICES: Final = tuple(
    service.full_name
    for service in _OURS
    if service.GetOptions().Extensions[options_pb2.owner_only]
)
"""The services that only the process answers that owns the data folder."""

_SEGMENTS: Final = "=**}"  # a variable of more than one segment

_OTHERS: Final[Mapping[str, Mapping[str, Scope | None]]] = {
    "inference.GRPCInferenceService": {
        "ServerLive": None,
        "ServerReady": None,
        "ModelReady": None,
        "ServerMetadata": "infer",
        "ModelMetadata": "infer",
        "ModelInfer": "infer",
        "ModelStreamInfer": "infer",
        "ModelConfig": "infer",
        "ModelStatistics": "infer",
        "RepositoryIndex": "infer",
        "RepositoryModelLoad": "admin",
        "RepositoryModelUnload": "admin",
        "SystemSharedMemoryStatus": "admin",
        "SystemSharedMemoryRegister": "admin",
        "SystemSharedMemoryUnregister": "admin",
        "CudaSharedMemoryStatus": "admin",
        "CudaSharedMemoryRegister": "admin",
        "CudaSharedMemoryUnregister": "admin",
        "TraceSetting": "admin",
        "LogSettings": "admin",
    },
    "grpc.reflection.v1.ServerReflection": {"ServerReflectionInfo": "infer"},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": "infer"},
}


class HttpRule(NamedTuple):
    """A method's verb and path, by its descriptor.

    With a body, that is the message but for what the path says; `has_slashes` is of the path's one
    variable.
    """

    method: Any
    verb: str
    path: str
    has_body: bool
    has_slashes: bool


def declared_scope(method: Any) -> Scope | None:
    """The scope that a method's .proto file declares, by its descriptor; None where it has none."""
    number = method.GetOptions().Extensions[options_pb2.scope]
    name = options_pb2.Scope.Name(number).removeprefix("SCOPE_").lower()
    return next((scope for scope in KEY_SCOPES if scope == name), None)


def _scopes() -> Iterator[tuple[str, Scope | None]]:
    for service in _OURS:
        for method in service.methods:
            if (scope := declared_scope(method)) is not None:
                yield f"{service.full_name}/{method.name}", scope
    for name, methods in _OTHERS.items():
        for method_name, scope in methods.items():
            yield f"{name}/{method_name}", scope


def _http_routes() -> Iterator[tuple[str, HttpRule]]:
    for service in _OURS:
        for method in service.methods:
            rule = method.GetOptions().Extensions[annotations_pb2.http]
            if verb := rule.WhichOneof("pattern"):
                path = getattr(rule, verb)
                plain = path.replace(_SEGMENTS, "}")
                has_body = rule.body == "*"
                http = HttpRule(method, verb.upper(), plain, has_body, plain != path)
                yield f"{service.full_name}/{method.name}", http


HTTP_RULES: Final[Mapping[str, HttpRule]] = MappingProxyType(dict(_http_routes()))
"""Where each unary call of ours is answered over HTTP, by the `google.api.http` of its method."""
JSON_ROUTES: Final = tuple(f"{rule.verb} {rule.path}" for rule in HTTP_RULES.values())

SCOPES: Final[Mapping[str, Scope | None]] = MappingProxyType(dict(_scopes()))
"""What a key needs for each call; None is a probe, which needs no key and is never refused."""


def scope_of(rpc: str) -> Scope | None:
    """The scope that a call of `rpc` needs; `admin` for a call that declares none."""
    return SCOPES.get(rpc, "admin")
