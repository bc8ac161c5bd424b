"""The services of one server: a gRPC service for each use case."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

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

from ..engine.models import Models
from ..limits.head_capacity import Capacity
from ..rest.endpoint import Route
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
from .transcoding import Transcoding

_UNLIMITED: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
)


class Services:
    """The services of one server, over gRPC and as JSON over HTTP."""

    def __init__(self, server: grpc.aio.Server, models: Models, settings: Settings) -> None:
        """Add services to `server`."""
        self._server = server
        self._models = models
        self._settings = settings
        self._servicers: dict[str, Any] = {}
        self._forward: Forward | None = None

    async def add(
        self,
        draining: asyncio.Event,
        stack: AsyncExitStack,
        *,
        capacity: Capacity,
        owner: Path | None,
    ) -> None:
        """Add all services; those of what is kept on disk are forwarded to its `owner`.

        `capacity` counts the heads; streams end when the server is `draining`.
        """
        orphans = await self._add_owned(stack, capacity, owner)
        self._add_models(draining, orphans)

    async def _add_owned(
        self, stack: AsyncExitStack, capacity: Capacity, owner: Path | None
    ) -> Orphans | None:
        settings = self._settings
        if owner is not None:
            channel = grpc.aio.insecure_channel(f"unix:{owner}", options=_UNLIMITED)
            stack.push_async_callback(channel.close)
            self._forward = Forward(OWNER_SERVICES, channel)
            self._server.add_generic_rpc_handlers((self._forward,))
            return None
        stored = await Stored.open(settings, self._models, stack, capacity=capacity)
        self._add(
            "Collections",
            collections_pb2_grpc.add_CollectionsServicer_to_server,
            CollectionsService(stored.collections, _limits(settings)),
        )
        self._add(
            "Anomaly",
            anomaly_pb2_grpc.add_AnomalyServicer_to_server,
            AnomalyService(stored.anomaly, max_items=settings.max_items),
        )
        self._add(
            "Classification",
            classification_pb2_grpc.add_ClassificationServicer_to_server,
            ClassificationService(
                stored.classification,
                max_items=settings.max_items,
                max_labels=settings.max_labels,
                max_name_characters=settings.max_name_characters,
            ),
        )
        return stored.orphans

    def _add_models(self, draining: asyncio.Event, orphans: Orphans | None) -> None:
        models, settings = self._models, self._settings
        self._add(
            "Info",
            info_pb2_grpc.add_InfoServicer_to_server,
            InfoService(models, _limits(settings)),
        )
        self._add(
            "Models", models_pb2_grpc.add_ModelsServicer_to_server, ModelsService(models, orphans)
        )
        self._add(
            "Embedding",
            embedding_pb2_grpc.add_EmbeddingServicer_to_server,
            EmbeddingService(
                models,
                max_items=settings.max_items,
                max_name_characters=settings.max_name_characters,
                max_stream_requests=settings.max_stream_requests,
                draining=draining,
            ),
        )
        self._add(
            "Reranking",
            reranking_pb2_grpc.add_RerankingServicer_to_server,
            RerankingService(
                models,
                max_items=settings.max_items,
                max_name_characters=settings.max_name_characters,
            ),
        )
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(
            kserve_grpc.KServeService(
                models,
                max_items=settings.max_items,
                max_name_characters=settings.max_name_characters,
                max_stream_requests=settings.max_stream_requests,
                draining=draining,
            ),
            self._server,
        )

    def http_routes(self) -> list[Route]:
        """Give the routes of all calls but streams, once all services are added."""
        return Transcoding(self._servicers, self._settings, self._forward).routes()

    def _add(self, name: str, add: Callable[[Any, grpc.aio.Server], None], servicer: Any) -> None:
        add(servicer, self._server)
        self._servicers[f"attar.v1.{name}"] = servicer


def _limits(settings: Settings) -> info_pb2.Limits:
    """Every limit, by its setting's name."""
    names = [field.name for field in info_pb2.Limits.DESCRIPTOR.fields]
    return info_pb2.Limits(**{name: getattr(settings, name) for name in names})
