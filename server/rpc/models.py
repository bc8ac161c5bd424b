"""The models over gRPC: which there are, and changing them while they serve."""

from typing import Final

from attar.v1 import models_pb2, models_pb2_grpc
from attar.values import ModelState

from ..engine.models import Models
from ..errors import public
from ..usecases.embedding_space import Orphans
from .interceptor import Context

_STATES: Final[dict[ModelState, models_pb2.State.ValueType]] = {
    "READY": models_pb2.STATE_READY,
    "LOADING": models_pb2.STATE_LOADING,
    "UNAVAILABLE": models_pb2.STATE_UNAVAILABLE,
}


class ModelsService(models_pb2_grpc.ModelsServicer):
    """attar.v1.Models."""

    def __init__(self, models: Models, orphans: Orphans | None = None) -> None:
        """Report and change these models, and report what has lost its model."""
        self._models = models
        self._orphans = orphans

    async def Index(
        self,
        request: models_pb2.IndexRequest,
        context: Context,
    ) -> models_pb2.IndexResponse:
        missed = await self._orphans.listed() if self._orphans else []
        return models_pb2.IndexResponse(
            models=[
                models_pb2.IndexedModel(
                    name=version.name,
                    version=version.version,
                    state=_STATES[version.state],
                    reason=public(version.reason),
                )
                for version in (*self._models.index(), *missed)
            ]
        )

    async def Load(
        self,
        request: models_pb2.LoadRequest,
        context: Context,
    ) -> models_pb2.LoadResponse:
        await self._models.load(request.name)
        return models_pb2.LoadResponse()

    async def Unload(
        self,
        request: models_pb2.UnloadRequest,
        context: Context,
    ) -> models_pb2.UnloadResponse:
        await self._models.unload(request.name)
        return models_pb2.UnloadResponse()

    async def SetVariant(
        self,
        request: models_pb2.SetVariantRequest,
        context: Context,
    ) -> models_pb2.SetVariantResponse:
        await self._models.set_variant(request.name, request.variant, version=request.version)
        return models_pb2.SetVariantResponse()
