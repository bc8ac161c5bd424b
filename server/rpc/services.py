"""The services of one server: a gRPC service for each use case."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

import grpc
from tritonclient.grpc import service_pb2_grpc

from attar.v1 import (
    anomaly_pb2_grpc,
    classification_pb2_grpc,
    collections_pb2_grpc,
    embedding_pb2_grpc,
    info_pb2,
    info_pb2_grpc,
    models_pb2_grpc,
    reranking_pb2_grpc,
)

from ..admission import Admission
from ..engine.models import Models
from ..limits.head_capacity import Capacity
from ..settings import Settings
from ..usecases.embedding_space import Orphans
from ..usecases.stored import Stored
from . import kserve_grpc
from .anomaly import AnomalyService
from .classification import ClassificationService
from .collections import CollectionsService
from .embedding import EmbeddingService
from .info import InfoService
from .methods import OWNER_SERVICES
from .models import ModelsService
from .proxy import Forward
from .reranking import RerankingService

_UNLIMITED: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


async def add_owned(
    models: Models,
    settings: Settings,
    server: grpc.aio.Server,
    stack: AsyncExitStack,
    *,
    capacity: Capacity,
    owner: Path | None,
) -> Orphans | None:
    """Add the services of what is kept on disk, or forward them to the process that owns it.

    `capacity` counts the heads.
    """
    if owner is not None:
        channel = grpc.aio.insecure_channel(f"unix:{owner}", options=_UNLIMITED)
        stack.push_async_callback(channel.close)
        server.add_generic_rpc_handlers((Forward(OWNER_SERVICES, channel),))
        return None
    stored = await Stored.open(settings, models, stack, capacity=capacity)
    collections_pb2_grpc.add_CollectionsServicer_to_server(
        CollectionsService(stored.collections, _limits(settings)), server
    )
    anomaly_pb2_grpc.add_AnomalyServicer_to_server(
        AnomalyService(stored.anomaly, max_items=settings.max_items), server
    )
    classification_pb2_grpc.add_ClassificationServicer_to_server(
        ClassificationService(
            stored.classification,
            max_items=settings.max_items,
            max_labels=settings.max_labels,
            max_name_characters=settings.max_name_characters,
        ),
        server,
    )
    return stored.orphans


def add_models(
    models: Models,
    settings: Settings,
    server: grpc.aio.Server,
    admission: Admission,
    orphans: Orphans | None,
) -> None:
    """Add the services that need models alone."""
    info_pb2_grpc.add_InfoServicer_to_server(InfoService(models, _limits(settings)), server)
    models_pb2_grpc.add_ModelsServicer_to_server(ModelsService(models, orphans), server)
    embedding_pb2_grpc.add_EmbeddingServicer_to_server(
        EmbeddingService(
            models,
            max_items=settings.max_items,
            max_name_characters=settings.max_name_characters,
            max_stream_requests=settings.max_stream_requests,
            draining=admission.draining,
        ),
        server,
    )
    reranking_pb2_grpc.add_RerankingServicer_to_server(
        RerankingService(
            models,
            max_items=settings.max_items,
            max_name_characters=settings.max_name_characters,
        ),
        server,
    )
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
        kserve_grpc.KServeService(
            models,
            max_items=settings.max_items,
            max_name_characters=settings.max_name_characters,
            max_stream_requests=settings.max_stream_requests,
            draining=admission.draining,
        ),
        server,
    )


def _limits(settings: Settings) -> info_pb2.Limits:
    """Every limit, by its setting's name."""
    names = [field.name for field in info_pb2.Limits.DESCRIPTOR.fields]
    return info_pb2.Limits(**{name: getattr(settings, name) for name in names})
