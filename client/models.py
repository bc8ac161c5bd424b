"""Calls of the services Info and Models."""

from typing import cast

from attar import wire
from attar.manifest import Compatible
from attar.v1 import info_pb2, models_pb2
from attar.values import Indexed, Model, ModelState, ServerInfo

from .call import DEADLINE_S, Call, decode_nothing, make_call


def info(*, deadline_s: float = DEADLINE_S) -> Call[ServerInfo]:
    """The models that are served and every limit."""

    def decode(response: info_pb2.GetInfoResponse) -> ServerInfo:
        limits = {
            field.name: getattr(response.limits, field.name)
            for field in info_pb2.Limits.DESCRIPTOR.fields
        }
        return ServerInfo(response.server_version, tuple(map(_model, response.models)), limits)

    request = info_pb2.GetInfoRequest()
    return make_call("Info/GetInfo", request, info_pb2.GetInfoResponse, decode, deadline_s)


def models(*, deadline_s: float = DEADLINE_S) -> Call[tuple[Indexed, ...]]:
    """Every version of every model that the server knows, served or not, and why not."""

    def decode(response: models_pb2.IndexResponse) -> tuple[Indexed, ...]:
        return tuple(
            Indexed(
                model.name,
                model.version,
                cast("ModelState", models_pb2.State.Name(model.state).removeprefix("STATE_")),
                model.reason,
            )
            for model in response.models
        )

    request = models_pb2.IndexRequest()
    return make_call("Models/Index", request, models_pb2.IndexResponse, decode, deadline_s)


def load_model(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Load a model from where it lies; what served before goes on until the new one answers."""
    request = wire.message(models_pb2.LoadRequest, name=name)
    return make_call("Models/Load", request, models_pb2.LoadResponse, decode_nothing, deadline_s)


def unload_model(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Stop serving a model, when its accepted calls are answered."""
    request = wire.message(models_pb2.UnloadRequest, name=name)
    response = models_pb2.UnloadResponse
    return make_call("Models/Unload", request, response, decode_nothing, deadline_s)


def set_variant(
    name: str, variant: str, *, version: str = "", deadline_s: float = DEADLINE_S
) -> Call[None]:
    """Run another variant of a model: of all its versions unless `version` names one.

    An empty `variant` is the server's own choice.
    """
    request = wire.message(
        models_pb2.SetVariantRequest, name=name, variant=variant, version=version
    )
    return make_call(
        "Models/SetVariant", request, models_pb2.SetVariantResponse, decode_nothing, deadline_s
    )


def _model(model: info_pb2.ModelInfo) -> Model:
    return Model(
        name=model.name,
        version=model.version,
        variant=model.variant,
        variants=tuple(model.variants),
        fingerprint=model.fingerprint,
        modality=model.modality,
        dim=model.dim,
        dims=tuple(model.dims),
        max_length=model.max_length or None,
        ready=model.ready,
        compatible_with=tuple(
            Compatible(
                fingerprint=entry.fingerprint,
                query_fingerprint=model.fingerprint,
                cosine=entry.cosine,
                recall_at_10=entry.recall_at_10,
            )
            for entry in model.compatible_with
        ),
        token_dim=model.tokens.dim,
        token_grid=(
            (model.tokens.grid.rows, model.tokens.grid.columns)
            if model.tokens.HasField("grid")
            else None
        ),
    )
