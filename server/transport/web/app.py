"""The HTTP application: every route in one table."""

from dataclasses import dataclass
from typing import Final

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route as Mounted

from attar.errors import Unavailable
from attar.server.access import Scope
from attar.server.door import Door
from attar.server.engine.models import Models

from . import kserve, openai, page
from .edge import JSON, Answer, Asked, Edge, Problem, Route, Wording, plain

OPENAI: Final = "/v1/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a request may be."""

    max_items: int
    max_message_bytes: int
    read_timeout_s: float


class Health:
    """Liveness and readiness, for orchestrators that ask by HTTP."""

    def __init__(self, models: Models, door: Door) -> None:
        """Tell of these models, until the door drains."""
        self._models = models
        self._door = door

    async def live(self, asked: Asked) -> Response:  # noqa: ARG002 (every route's signature)
        """Say that the process answers."""
        return JSONResponse({"status": "live"})

    async def ready(self, asked: Asked) -> Response:  # noqa: ARG002
        """Say whether every model can answer."""
        if self._door.draining.is_set():
            raise Unavailable("the server is shutting down; ask another, or retry later")
        lazy = [model.name for model in self._models if not model.ready]
        if lazy or not self._models.ready:
            raise Unavailable(f"not ready: {', '.join(lazy) or 'no model is'}; retry later")
        return JSONResponse({"status": "ready"})


def routes(models: Models, door: Door, limits: Limits) -> tuple[Route, ...]:
    """Every route, and what a key needs for it."""
    health = Health(models, door)
    ai = openai.OpenAI(models, max_items=limits.max_items)
    v2 = kserve.KServe(models, max_items=limits.max_items)
    found = [
        _get("/livez", None, health.live, "Whether the process answers."),
        _get("/readyz", None, health.ready, "Whether every model can answer."),
        _get("/health", None, health.ready, "The same as /readyz."),
        _post("/v1/embeddings", "infer", ai.embeddings, "Embed texts or token ids.", (JSON,)),
        _get("/v1/models", "infer", ai.models, "List the models."),
        _get("/v1/models/{model}", "infer", ai.model, "Describe a model."),
        _get("/v2/health/live", None, v2.live, "Whether the process answers."),
        _get("/v2/health/ready", None, health.ready, "Whether every model can answer."),
        _get("/v2", "infer", v2.server, "Describe the server."),
        _get("/v2/models/stats", "infer", v2.statistics, "Count what every model has done."),
        _post("/v2/repository/index", "infer", v2.index, "List the models that are known."),
        _post("/v2/repository/models/{model}/load", "admin", v2.load, "Load a model."),
        _post("/v2/repository/models/{model}/unload", "admin", v2.unload, "Unload a model."),
    ]
    for path in ("/v2/models/{model}", "/v2/models/{model}/versions/{version}"):
        found += [
            _get(path, "infer", v2.model, "Say what a model takes and gives."),
            _get(f"{path}/ready", None, v2.ready, "Whether a model can answer."),
            _get(f"{path}/config", "infer", v2.config, "Describe a model as Triton does."),
            _get(f"{path}/stats", "infer", v2.statistics, "Count what a model has done."),
            _post(f"{path}/infer", "infer", v2.infer, "Embed tensors."),
        ]
    return tuple(found)


def application(models: Models, door: Door, limits: Limits) -> Starlette:
    """The ASGI application; who calls it handles no error of it."""
    table = routes(models, door, limits)
    way = Edge(door, max_body_bytes=limits.max_message_bytes, read_timeout_s=limits.read_timeout_s)
    described = page.describe(table)
    shown = page.show(described)

    async def description(request: Request) -> Response:  # noqa: ARG001 (Starlette's signature)
        return JSONResponse(described)

    async def docs(request: Request) -> Response:  # noqa: ARG001
        return HTMLResponse(shown, headers=page.HEADERS)

    return Starlette(
        routes=[
            *(Mounted(one.path, way.endpoint(one), methods=[one.method]) for one in table),
            Mounted("/openapi.json", description, methods=["GET"]),
            Mounted("/docs", docs, methods=["GET"]),
        ],
        exception_handlers={HTTPException: _no_route},
    )


async def _no_route(request: Request, error: Exception) -> Response:
    """Tell of a path or a method that is not there, in the words of the API it looks like."""
    assert isinstance(error, HTTPException)  # noqa: S101 (Starlette's signature is wider)
    path = request.url.path
    if error.status_code == 405:
        message = f"{request.method} is not what {path[:80]} takes; GET /openapi.json lists all"
    else:
        message = f"no route {path[:80]}; GET /openapi.json lists them"
    problem = Problem(code=error.status_code, message=message, reason="NO_ROUTE", field="")
    return JSONResponse(_wording(path)(problem), error.status_code, headers=error.headers)


def _get(path: str, scope: Scope | None, answer: Answer, summary: str) -> Route:
    return Route(
        method="GET", path=path, scope=scope, answer=answer, wording=_wording(path), summary=summary
    )


def _post(
    path: str,
    scope: Scope,
    answer: Answer,
    summary: str,
    types: tuple[str, ...] = kserve.TYPES,
) -> Route:
    return Route(
        method="POST",
        path=path,
        scope=scope,
        answer=answer,
        wording=_wording(path),
        summary=summary,
        types=types,
    )


def _wording(path: str) -> Wording:
    return openai.wording if path.startswith(OPENAI) else plain
