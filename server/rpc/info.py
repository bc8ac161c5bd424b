"""Info over gRPC: the models and the limits, as data that a client can read."""

from importlib.metadata import version

from attar.manifest import TokenOutput
from attar.v1 import info_pb2, info_pb2_grpc, item_pb2

from ..engine.models import Model, Models
from .interceptor import Context


class InfoService(info_pb2_grpc.InfoServicer):
    """attar.v1.Info."""

    def __init__(self, models: Models, limits: info_pb2.Limits) -> None:
        """Report these models and limits."""
        self._models = models
        self._limits = limits

    async def GetInfo(
        self,
        request: info_pb2.GetInfoRequest,
        context: Context,
    ) -> info_pb2.GetInfoResponse:
        return info_pb2.GetInfoResponse(
            server_version=version("attar"),
            models=[_describe(model) for model in self._models],
            limits=self._limits,
        )


def _describe(model: Model) -> info_pb2.ModelInfo:
    encoder = model.encoder
    return info_pb2.ModelInfo(
        name=model.name,
        version=model.version,
        variant=encoder.variant.name,
        variants=[variant.name for variant in encoder.manifest.variants],
        fingerprint=encoder.fingerprint,
        modality=encoder.modality,
        dim=encoder.dim,
        dims=encoder.dims,
        max_length=encoder.max_length or 0,
        inputs=[
            info_pb2.InputInfo(
                name=field.name, dtype=field.dtype, shape=[str(axis) for axis in field.shape]
            )
            for field in encoder.manifest.inputs
        ],
        ready=model.ready,
        compatible_with=[
            info_pb2.CompatibleSpace(
                fingerprint=entry.fingerprint,
                cosine=entry.cosine,
                recall_at_10=entry.recall_at_10,
            )
            for entry in encoder.manifest.compatible_with
        ],
        tokens=_tokens(encoder.manifest.tokens),
    )


def _tokens(tokens: TokenOutput | None) -> info_pb2.TokenInfo | None:
    if tokens is None:
        return None
    grid = tokens.grid and item_pb2.Grid(rows=tokens.grid[0], columns=tokens.grid[1])
    return info_pb2.TokenInfo(dim=tokens.dim, grid=grid)
