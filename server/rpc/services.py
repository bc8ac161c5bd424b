"""The services of one server: each use case is made, and its gRPC service added."""

import asyncio
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
)

from ..admission import Admission
from ..collections.factory import open_store
from ..engine.models import Models
from ..settings import Settings
from ..usecases.anomaly import Anomaly
from ..usecases.classification import Classification
from ..usecases.collections import Collections
from ..usecases.embedding_space import Orphans
from ..usecases.fit_queue import FitQueue
from ..usecases.head_store import Capacity
from . import kserve_grpc
from .anomaly import AnomalyService
from .classification import ClassificationService
from .collections import CollectionsService
from .embedding import EmbeddingService
from .info import InfoService
from .methods import OWNER_SERVICES
from .models import ModelsService
from .proxy import Forward

_UNLIMITED: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


async def add_owned(
    models: Models,
    settings: Settings,
    server: grpc.aio.Server,
    stack: AsyncExitStack,
    owner: Path | None,
) -> Orphans | None:
    """Add the services of what is kept on disk, or forward them to the process that owns it."""
    if owner is not None:
        channel = grpc.aio.insecure_channel(f"unix:{owner}", options=_UNLIMITED)
        stack.push_async_callback(channel.close)
        server.add_generic_rpc_handlers((Forward(OWNER_SERVICES, channel),))
        return None
    collections = Collections(
        await open_store(settings),
        models,
        max_collections=settings.max_collections,
        max_search_hits=settings.max_search_hits,
        max_answer_bytes=settings.max_answer_bytes,
        max_fit_bytes=settings.max_fit_bytes,
    )
    stack.push_async_callback(collections.close)
    collections_pb2_grpc.add_CollectionsServicer_to_server(
        CollectionsService(collections, _limits(settings)), server
    )
    free, fits, most = settings.min_free_bytes, FitQueue(), settings.max_heads
    capacity = Capacity(settings.max_heads_bytes)
    anomaly = await asyncio.to_thread(
        Anomaly,
        settings.data_dir,
        models,
        collections,
        fits=fits,
        max_heads=most,
        capacity=capacity,
        min_free_bytes=free,
    )
    anomaly_pb2_grpc.add_AnomalyServicer_to_server(
        AnomalyService(anomaly, max_items=settings.max_items), server
    )
    classification = await asyncio.to_thread(
        Classification,
        settings.data_dir,
        models,
        fits=fits,
        max_heads=most,
        capacity=capacity,
        min_free_bytes=free,
    )
    classification_pb2_grpc.add_ClassificationServicer_to_server(
        ClassificationService(
            classification,
            max_items=settings.max_items,
            max_labels=settings.max_labels,
            max_name_characters=settings.max_name_characters,
        ),
        server,
    )
    orphans = Orphans(
        models, collections=collections, anomaly=anomaly, classification=classification
    )
    stack.callback(asyncio.create_task(orphans.keep(), name="look for orphans").cancel)
    return orphans


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
