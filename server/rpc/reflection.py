"""Reflection: the services' descriptors over gRPC, under the name of today and that of before.

grpcio-reflection has v1alpha only; v1 differs from it by nothing but the package's name.
"""

from collections.abc import Iterable
from typing import Final

import grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1: Final = "grpc.reflection.v1.ServerReflection"
V1ALPHA: Final = str(reflection.SERVICE_NAME)


def add_to(server: grpc.aio.Server, services: Iterable[str]) -> None:
    """Describe these services, and reflection itself."""
    servicer = reflection.aio.ReflectionServicer((*services, V1, V1ALPHA))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
        response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    handlers = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers(
        tuple(grpc.method_handlers_generic_handler(name, handlers) for name in (V1, V1ALPHA))
    )
