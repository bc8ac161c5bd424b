"""OpenAI's API of embeddings and models, as its clients speak it."""

import base64
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar, get_args

from starlette.responses import JSONResponse, Response

from attar.errors import InvalidInput, NotFound
from attar.inputs import Role, Truncation

from ..cooperative import STEP, off_the_loop, steps
from ..engine.models import Models
from ..errors import about
from ..usecases.embed import Embedded, Items, Priority, embed
from .endpoint import HttpRequest, Problem, document, json_kind
from .json_reader import ARRAYS, Values

Format = Literal["float", "base64"]
_BYTES_PER_NUMBER: Final = 8  # of JSON
Name = TypeVar("Name", bound=str)

_FIELDS: Final = (
    *("model", "input", "encoding_format", "dimensions", "user"),
    *("role", "truncate", "priority"),  # attar's own
)
_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Request:
    model: str
    items: Items
    format: Format
    dims: int | None
    role: Role
    truncation: Truncation
    priority: Priority


class OpenAI:
    """`/v1/embeddings` and `/v1/models` over the models of one server."""

    def __init__(self, models: Models, *, max_items: int, truncate: bool = False) -> None:
        """Serve these models; a request takes up to `max_items`.

        `truncate` is what a request asks for that does not say whether to cut what is too long.
        """
        self._models = models
        self._max_items = max_items
        self._truncate = truncate
        self._created = int(time.time())

    async def embeddings(self, http_request: HttpRequest) -> Response:
        """Embed the inputs of one request; one bad input fails it, since no field tells of it."""
        given = {"truncate": self._truncate, **await document(http_request)}
        request = await off_the_loop(
            len(http_request.body), lambda: _read(given, max_items=self._max_items)
        )
        model = self._models.get(request.model)
        with about("model"):
            model.require_kind(request.items)
        with about("dimensions"):
            if request.dims not in (None, *model.encoder.dims):
                raise InvalidInput(
                    f"dimensions is {_shown(request.dims)}; {request.model} was trained for "
                    f"{list(model.encoder.dims)}"
                )
        with about("input"):
            embedded = await embed(
                self._models,
                model=request.model,
                items=request.items,
                role=request.role,
                dims=request.dims,
                truncation=request.truncation,
                priority=request.priority,
                whole=True,
                form="base64" if request.format == "base64" else "json",
            )
        size = embedded.vectors.size * _BYTES_PER_NUMBER
        body = await off_the_loop(size, lambda: _write(embedded, request.format))
        return Response(body, media_type="application/json", headers=timings(embedded))

    async def models(self, http_request: HttpRequest) -> Response:
        """List the models, each by its newest version."""
        names = dict.fromkeys(model.name for model in self._models)
        return JSONResponse({"object": "list", "data": [self._describe(name) for name in names]})

    async def model(self, http_request: HttpRequest) -> Response:
        """Describe one model."""
        return JSONResponse(self._describe(http_request.path["model"]))

    def _describe(self, name: str) -> dict[str, Any]:
        model = self._models.get(name)
        encoder = model.encoder
        return {
            "id": model.name,
            "object": "model",
            "created": self._created,
            "owned_by": "attar",
            "version": model.version,
            "fingerprint": encoder.fingerprint,
            "dimensions": list(encoder.dims),
            "max_length": encoder.max_length,
            "ready": model.ready,
        }


def wording(problem: Problem) -> dict[str, Any]:
    """An error in OpenAI's words."""
    server = "server_error" if problem.code >= 500 else "invalid_request_error"
    code = "model_not_found" if problem.reason == NotFound.reason else problem.reason.lower()
    return {
        "error": {
            "message": problem.message,
            "type": _TYPES.get(problem.code, server),
            "param": problem.field or None,
            "code": code,
        }
    }


def timings(embedded: Embedded) -> dict[str, str]:
    """Where the time went, in milliseconds, as `Server-Timing` has it."""
    spent = {"queue": embedded.queue_s, "tokenize": embedded.tokenize_s, "infer": embedded.infer_s}
    words = (f"{name};dur={seconds * 1000:.3f}" for name, seconds in spent.items())
    return {"server-timing": ", ".join(words)}


def _read(given: Mapping[str, Any], *, max_items: int) -> _Request:
    for name in given:
        if name not in _FIELDS:
            with about(name, ours=False):
                raise InvalidInput(f"no field {name[:80]!r}; known are {', '.join(_FIELDS)}")
    return _Request(
        model=_model(given.get("model")),
        items=_items(given.get("input"), max_items=max_items),
        format=_word(given, "encoding_format", get_args(Format), "float"),
        dims=_dimensions(given.get("dimensions")),
        role=_word(given, "role", get_args(Role), "passage"),
        truncation=_truncation(given["truncate"]),
        priority=_word(given, "priority", get_args(Priority), "interactive"),
    )


def _model(value: object) -> str:
    with about("model"):
        if not isinstance(value, str) or not value:
            raise InvalidInput("model is missing, or is not text; GET /v1/models lists them")
    return value


def _items(value: object, *, max_items: int) -> Items:
    """One text, several, one list of token ids, or several of them."""
    with about("input"):
        items: Sequence[Any] = [value] if isinstance(value, str) else _list(value)
        if items and type(items[0]) is int and _are(items, int):
            items = [items]
        if not 1 <= len(items) <= max_items:
            raise InvalidInput(
                f"input has {len(items)} items; a request takes 1 to {max_items} (max_items)"
            )
        texts = isinstance(items[0], str)
        for index, item in enumerate(items):
            if not (isinstance(item, str) if texts else isinstance(item, list) and _are(item, int)):
                raise InvalidInput(
                    f"input[{index}] is {_shown(item)}: input is neither text nor token ids "
                    "throughout; give a text, a list of texts, a list of token ids, or a list of "
                    "such lists, none of them empty"
                )
    return items


def _list(value: object) -> Values:
    if not isinstance(value, ARRAYS):
        raise InvalidInput(f"input is {json_kind(value)}; give text, or a list")
    return value


def _are(items: Sequence[object], kind: type) -> bool:
    return bool(items) and all(type(item) is kind for item in items)


def _dimensions(value: object) -> int | None:
    with about("dimensions"):
        if value is not None and (type(value) is not int or value < 1):
            raise InvalidInput(f"dimensions is {_shown(value)}; give a whole number above 0")
    return value


def _truncation(value: object) -> Truncation:
    with about("truncate"):
        if not isinstance(value, bool):
            raise InvalidInput(f"truncate is {_shown(value)}; give true or false")
    return "truncate" if value else "error"


def _word(given: Mapping[str, Any], name: str, choices: tuple[Name, ...], default: Name) -> Name:
    value = given.get(name)
    if value is None:
        return default
    for choice in choices:
        if value == choice:
            return choice
    with about(name):
        raise InvalidInput(f"{name} is {_shown(value)}; expected one of {', '.join(choices)}")


def _shown(value: object) -> str:
    text = json.dumps(value, default=list)  # packed numbers
    return text if len(text) <= 80 else f"{text[:79]}…"


def _write(embedded: Embedded, form: Format) -> bytes:
    little = embedded.vectors.astype("<f4", copy=False)
    tokens = sum(item.tokens for item in embedded.items)
    rows = []
    for part in steps(len(little), max(1, STEP // little.shape[1])):
        for index, row in enumerate(little[part], part.start):
            shown = base64.b64encode(row.tobytes()).decode() if form == "base64" else row.tolist()
            embedding = {"object": "embedding", "index": index, "embedding": shown}
            rows.append(_dump({**embedding, "truncated": embedded.items[index].truncated}))
    rest = {
        "model": embedded.model.name,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        "fingerprint": embedded.model.encoder.fingerprint,
    }
    return f'{{"object":"list","data":[{",".join(rows)}],{_dump(rest)[1:]}'.encode()


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
