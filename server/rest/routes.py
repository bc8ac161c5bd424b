"""The HTTP application: every route in one table."""

import asyncio
import difflib
import re
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route as Mounted
from starlette.types import ASGIApp, Receive, Send
from starlette.types import Scope as Connection

from attar.errors import InvalidInput, PermissionDenied, Unavailable

from ..admission import REQUEST_ID, Admission
from ..cooperative import STEP_BYTES
from ..engine.models import Models
from ..observability.logs import plain
from ..request_context import request_id
from ..security.access import Scope
from ..security.browser import Site
from . import cohere, inference, kserve, openai, openapi, rerank
from .endpoint import (
    JSON,
    EndpointFactory,
    ErrorFormat,
    Handler,
    HttpRequest,
    Problem,
    Route,
    error_response,
)
from .error_formats import GOOGLE, KSERVE, OPENAI, TEXT_EMBEDDINGS_INFERENCE
from .inference_schemas import (
    EmbedRequest,
    EmbedResponse,
    ModelInfo,
    PredictRequest,
    PredictResponse,
)
from .kserve_schemas import (
    IndexRequest,
    InferRequest,
    InferResponse,
    Live,
    ModelConfig,
    ModelIndex,
    ModelMetadata,
    ModelReady,
    RepositoryRequest,
    ServerMetadata,
    Statistics,
)
from .rerank_schemas import (
    RerankRequest,
    RerankResponse,
    TextsRequest,
    TextsResponse,
)
from .schemas import EmbeddingsRequest, EmbeddingsResponse, Health, ModelDescription, ModelList

_OPENAI_PATHS: Final = "/v1/"
_GOOGLE_PATHS: Final = "/attar/"
_INFERENCE_PATHS: Final = ("/embed", "/predict", "/rerank", "/info", "/health")
_NEAR: Final = 0.79  # difflib's ratio: /openai/v1/embeddings is .8 of /v1/embeddings
_ABSOLUTE: Final = re.compile(r"https?://([^/]*)", re.IGNORECASE)
_TWO_LENGTHS: Final = Problem(
    code=400,
    message="the request has content-length and transfer-encoding; send one of them",
    reason=InvalidInput.reason,
    field="",
)
# What a page of an allowed origin may read of an answer.
_EXPOSED: Final = (REQUEST_ID, kserve.HEADER, "server-timing", "retry-after", "retry-after-ms")
Chosen: TypeAlias = "Callable[[Handlers], Handler]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may be."""

    max_items: int
    max_message_bytes: int
    max_json_values: int
    max_name_characters: int
    max_concurrent_requests: int
    max_batch_tokens: int
    read_timeout_s: float
    cors_allow_origin: tuple[str, ...] = ()
    site: Site | None = None
    truncate: bool = False


class Front:
    """What RFC 9112 asks of every server, before any route is looked for.

    A target may be absolute, as a forward proxy sends it; a slash at the end makes no other route.
    A body that has two lengths ends its connection, since a proxy may have believed the other one.
    Where there are no keys, pages of other sites are refused here, whatever they ask for.
    """

    def __init__(self, app: ASGIApp, site: Site | None) -> None:
        """Stand before `app`; without a `site`, web pages are let in like other callers."""
        self._app = app
        self._site = site

    async def __call__(self, scope: Connection, receive: Receive, send: Send) -> None:
        """Call the app by a plain path."""
        absolute = _ABSOLUTE.match(scope["path"])
        path = scope["path"][absolute.end() :] if absolute else scope["path"]
        scope["path"] = path.removesuffix("/") or "/"
        headers = Headers(scope=scope)
        host = absolute[1] if absolute else None
        if headers.get("expect", "").lower() == "100-continue":
            receive, send = _close_unread(receive, send)
        refusal = self._refusal(headers, _errors(path), host)
        if refusal is None:
            await self._app(scope, receive, partial(_in_pieces, send))

        else:
            refusal.headers[REQUEST_ID] = request_id(headers.get(REQUEST_ID))
            await refusal(scope, receive, send)

    def _refusal(self, headers: Headers, errors: ErrorFormat, host: str | None) -> Response | None:
        if "content-length" in headers and "transfer-encoding" in headers:
            return errors.response(_TWO_LENGTHS, {"connection": "close"})
        try:
            if self._site is not None:
                self._site.refuse_pages(headers, host=host)
        except PermissionDenied as error:
            return error_response(error, errors)
        return None


def _close_unread(receive: Receive, send: Send) -> tuple[Receive, Send]:
    """End the connection of a body that was not requested: it may come, or another request may."""
    has_read = False

    async def read() -> MutableMapping[str, Any]:
        nonlocal has_read
        has_read = True
        return await receive()

    async def respond(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and not has_read:
            message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
        await send(message)

    return read, respond


async def _in_pieces(send: Send, message: MutableMapping[str, Any]) -> None:
    """Send a long body in pieces: one write of all of it would copy it, and others would wait."""
    body = message.get("body", b"")
    if len(body) <= STEP_BYTES:
        await send(message)
        return
    for start in range(0, len(body), STEP_BYTES):
        more = start + STEP_BYTES < len(body) or message.get("more_body", False)
        piece = body[start : start + STEP_BYTES]
        await send({"type": message["type"], "body": piece, "more_body": more})
        await asyncio.sleep(0)


class Probes:
    """Liveness and readiness, for orchestrators that ask by HTTP."""

    def __init__(self, models: Models, admission: Admission) -> None:
        """Report on these models, until admission drains."""
        self._models = models
        self._admission = admission

    async def live(self, http_request: HttpRequest) -> Response:
        """Say that the process answers."""
        return JSONResponse(Health(status="live").model_dump())

    async def ready(self, http_request: HttpRequest) -> Response:
        """Say whether every model can answer."""
        if self._admission.draining.is_set():
            raise Unavailable("the server is shutting down; ask another, or retry later")
        if why := self._models.why_not_ready:
            raise Unavailable(why)
        return JSONResponse(Health(status="ready").model_dump())


@dataclass(frozen=True, slots=True, kw_only=True)
class Handlers:
    """Who answers the routes of one server."""

    health: Probes
    openai: openai.OpenAI
    cohere: cohere.Cohere
    rerank: rerank.Rerank
    inference: inference.Inference
    kserve: kserve.KServe


def _get(
    path: str,
    scope: Scope | None,
    handler: Chosen,
    summary: str,
    response: type[BaseModel] | None = None,
) -> Route:
    return Route(
        method="GET",
        path=path,
        scope=scope,
        handler=handler,
        errors=_errors(path),
        summary=summary,
        response=response,
    )


def _post(
    path: str,
    scope: Scope,
    handler: Chosen,
    summary: str,
    *,
    types: tuple[str, ...] = kserve.TYPES,
    request: type[BaseModel] | None = None,
    response: type[BaseModel] | None = None,
) -> Route:
    return Route(
        method="POST",
        path=path,
        scope=scope,
        handler=handler,
        errors=_errors(path),
        summary=summary,
        types=types,
        request=request,
        response=response,
    )


def _errors(path: str) -> ErrorFormat:
    if path in _INFERENCE_PATHS:
        return TEXT_EMBEDDINGS_INFERENCE
    if path.startswith(_GOOGLE_PATHS):
        return GOOGLE
    return OPENAI if path.startswith(_OPENAI_PATHS) else KSERVE


def _of_a_model(path: str) -> tuple[Route, ...]:
    """Give KServe's routes of one model, or of one of its versions."""
    return (
        _get(
            path,
            "infer",
            lambda to: to.kserve.model,
            "Say what a model takes and gives.",
            ModelMetadata,
        ),
        _get(
            f"{path}/ready",
            None,
            lambda to: to.kserve.ready,
            "Whether a model can answer.",
            ModelReady,
        ),
        _get(
            f"{path}/config",
            "infer",
            lambda to: to.kserve.config,
            "Describe it as Triton does.",
            ModelConfig,
        ),
        _get(
            f"{path}/stats",
            "infer",
            lambda to: to.kserve.statistics,
            "Count what it has done.",
            Statistics,
        ),
        _post(
            f"{path}/infer",
            "infer",
            lambda to: to.kserve.infer,
            "Embed tensors.",
            request=InferRequest,
            response=InferResponse,
        ),
    )


_REPOSITORY: Final[tuple[tuple[str, Chosen], ...]] = (
    ("load", lambda to: to.kserve.load),
    ("unload", lambda to: to.kserve.unload),
)
ROUTES: Final = (
    _get("/livez", None, lambda to: to.health.live, "Whether the process answers.", Health),
    _get("/readyz", None, lambda to: to.health.ready, "Whether every model can answer.", Health),
    _get("/health", None, lambda to: to.health.ready, "The same as /readyz.", Health),
    _post(
        "/v1/embeddings",
        "infer",
        lambda to: to.openai.embeddings,
        "Embed texts or token ids.",
        types=(JSON,),
        request=EmbeddingsRequest,
        response=EmbeddingsResponse,
    ),
    _post(
        "/v2/embed",
        "infer",
        lambda to: to.cohere.embed,
        "Embed texts, as Cohere has it.",
        types=(JSON,),
        request=cohere.CohereEmbedRequest,
        response=cohere.CohereEmbedResponse,
    ),
    *(
        _post(
            path,
            "infer",
            lambda to: to.rerank.documents,
            f"Rank documents for a query, as {whose} has it.",
            types=(JSON,),
            request=RerankRequest,
            response=RerankResponse,
        )
        for path, whose in (("/v1/rerank", "Jina"), ("/v2/rerank", "Cohere"))
    ),
    _post(
        "/embed",
        "infer",
        lambda to: to.inference.embed,
        "Embed texts or token ids, as Text Embeddings Inference has it.",
        types=(JSON,),
        request=EmbedRequest,
        response=EmbedResponse,
    ),
    _post(
        "/predict",
        "infer",
        lambda to: to.inference.predict,
        "Classify texts, or score pairs of texts, as Text Embeddings Inference has it.",
        types=(JSON,),
        request=PredictRequest,
        response=PredictResponse,
    ),
    _get(
        "/info",
        "infer",
        lambda to: to.inference.info,
        "Describe the first model, as Text Embeddings Inference does.",
        ModelInfo,
    ),
    _post(
        "/rerank",
        "infer",
        lambda to: to.rerank.texts,
        "Rank texts for a query, as Text Embeddings Inference has it.",
        types=(JSON,),
        request=TextsRequest,
        response=TextsResponse,
    ),
    _get("/v1/models", "infer", lambda to: to.openai.models, "List the models.", ModelList),
    _get(
        "/v1/models/{model}",
        "infer",
        lambda to: to.openai.model,
        "Describe a model.",
        ModelDescription,
    ),
    _get("/v2", "infer", lambda to: to.kserve.server, "Describe the server.", ServerMetadata),
    _get("/v2/health/live", None, lambda to: to.kserve.live, "Whether the process answers.", Live),
    _get(
        "/v2/health/ready",
        None,
        lambda to: to.health.ready,
        "Whether every model can answer.",
        Health,
    ),
    _get(
        "/v2/models/stats",
        "infer",
        lambda to: to.kserve.statistics,
        "Count what all have done.",
        Statistics,
    ),
    *_of_a_model("/v2/models/{model}"),
    *_of_a_model("/v2/models/{model}/versions/{version}"),
    _post(
        "/v2/repository/index",
        "infer",
        lambda to: to.kserve.index,
        "List what is known.",
        request=IndexRequest,
        response=ModelIndex,
    ),
    *(
        _post(
            f"/v2/repository/models/{{model}}/{verb}",
            "admin",
            handler,
            f"{verb.capitalize()} a model.",
            request=RepositoryRequest,
        )
        for verb, handler in _REPOSITORY
    ),
)
"""Every route, and what a key needs for it."""


def application(
    models: Models, admission: Admission, limits: Limits, more: Sequence[Route] = ()
) -> ASGIApp:
    """The ASGI application, with `more` routes; who calls it handles no error of it."""
    to = Handlers(
        health=Probes(models, admission),
        openai=openai.OpenAI(models, max_items=limits.max_items, truncate=limits.truncate),
        cohere=cohere.Cohere(models, max_items=limits.max_items),
        rerank=rerank.Rerank(models, max_items=limits.max_items),
        inference=inference.Inference(
            models,
            max_items=limits.max_items,
            max_concurrent_requests=limits.max_concurrent_requests,
            max_batch_tokens=limits.max_batch_tokens,
        ),
        kserve=kserve.KServe(
            models,
            max_items=limits.max_items,
            max_name_characters=limits.max_name_characters,
        ),
    )
    way = EndpointFactory(
        admission,
        max_body_bytes=limits.max_message_bytes,
        max_json_values=limits.max_json_values,
        read_timeout_s=limits.read_timeout_s,
    )
    routes = (*ROUTES, *more)
    described = openapi.describe(routes)
    shown = openapi.show(described)
    written = JSONResponse(described).body  # once, not at every request

    async def description(request: Request) -> Response:
        return Response(written, media_type=JSON)

    async def docs(request: Request) -> Response:
        return HTMLResponse(shown, headers=openapi.HEADERS)

    routed = Starlette(
        routes=[
            *(
                Mounted(
                    route.pattern, way.endpoint(route, route.handler(to)), methods=[route.method]
                )
                for route in routes
            ),
            Mounted("/openapi.json", description, methods=["GET"]),
            Mounted("/docs", docs, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _no_route},
    )
    routed.router.redirect_slashes = False  # to http, behind a proxy that ends TLS
    if limits.cors_allow_origin:
        routed.add_middleware(
            CORSMiddleware,
            allow_origins=limits.cors_allow_origin,
            allow_methods=("GET", "POST", "DELETE"),
            allow_headers=("*",),  # clients add their own
            expose_headers=_EXPOSED,
        )
    return Front(routed, limits.site)


async def _no_route(request: Request, error: Exception) -> Response:
    """Refuse an unknown path or method, in the format of the API that the path looks like."""
    assert isinstance(error, HTTPException)
    path = plain(request.url.path)
    if error.status_code == 405:
        message = f"{request.method} is not what {path[:80]} takes; GET /openapi.json lists all"
    else:
        near = difflib.get_close_matches(path[:80], (route.path for route in ROUTES), 1, _NEAR)
        meant = f" is it {near[0]}?" if near else ""
        message = f"no route {path[:80]};{meant} GET /openapi.json lists them"
    problem = Problem(code=error.status_code, message=message, reason="NO_ROUTE", field="")
    headers = {**(error.headers or {}), REQUEST_ID: request_id(request.headers.get(REQUEST_ID))}
    # OpenAI's clients show no other words, and their users forget /v1.
    errors = _errors(path) if path.startswith(("/v2", _GOOGLE_PATHS)) else OPENAI
    return errors.response(problem, headers)
