"""OpenAI's API of embeddings and models, as its clients speak it."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Final

from starlette.responses import JSONResponse, Response

from attar.errors import InvalidInput
from attar.inputs import Role

from ..cooperative import STEP, off_the_loop, steps
from ..engine.models import Models
from ..errors import about
from ..usecases.embed import Embedded, embed
from .endpoint import HttpRequest, document
from .schemas import (
    EmbeddingsRequest,
    Format,
    ModelDescription,
    ModelList,
    shown,
    validated,
)

_BYTES_PER_NUMBER: Final = 8  # of JSON
_ROLES: Final[Mapping[str, Role]] = {"document": "passage"}  # in Voyage's words


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
        """Embed the inputs of a request; one bad input fails it, as OpenAI's format implies."""
        body = await document(http_request)
        request = await off_the_loop(
            len(http_request.body),
            lambda: validated(EmbeddingsRequest, body, max_items=self._max_items),
        )
        name, role = _model_and_role(request)
        width = _named(request, "dimensions", "output_dimension")
        cut = _named(request, "truncate", "truncation")
        dims, truncate = getattr(request, width), getattr(request, cut)
        model = self._models.get(name)
        with about("model"):
            model.require_kind(request.input)
        with about("model" if ":" in request.model else "role"):
            model.encoder.prepare([], role=role)  # refuses a name that the model has no prompt of
        with about(width):
            if dims not in (None, *model.encoder.dims):
                raise InvalidInput(
                    f"{width} is {shown(dims)}; {name} was trained for {list(model.encoder.dims)}"
                )
        truncate = self._truncate if truncate is None else truncate
        with about("input"):
            embedded = await embed(
                self._models,
                model=name,
                items=request.input,
                role=role,
                dims=dims,
                truncation="truncate" if truncate else "error",
                priority=request.priority,
                all_or_nothing=True,
                form="base64" if request.encoding_format == "base64" else "json",
            )
        size = embedded.vectors.size * _BYTES_PER_NUMBER
        written = await off_the_loop(size, lambda: _write(embedded, request.encoding_format))
        return Response(written, media_type="application/json", headers=timings(embedded))

    async def models(self, http_request: HttpRequest) -> Response:
        """List the models, each by its newest version."""
        names = dict.fromkeys(model.name for model in self._models)
        models = ModelList(data=[self._describe(name) for name in names])
        return JSONResponse(models.model_dump())

    async def model(self, http_request: HttpRequest) -> Response:
        """Describe one model."""
        return JSONResponse(self._describe(http_request.path["model"]).model_dump())

    def _describe(self, name: str) -> ModelDescription:
        model = self._models.get(name)
        encoder = model.encoder
        return ModelDescription(
            id=model.name,
            created=self._created,
            version=model.version,
            fingerprint=encoder.fingerprint,
            dimensions=[] if encoder.manifest.scores_pairs else list(encoder.dims),
            max_length=encoder.max_length,
            ready=model.ready,
        )


def _model_and_role(request: EmbeddingsRequest) -> tuple[str, Role]:
    """Give the model's name and the role, which may stand behind the name: `NAME:query`.

    A client that sends no other field than OpenAI's chooses the prompt so; Voyage's sends its own
    `input_type`.
    """
    name, colon, role = request.model.partition(":")
    field = _named(request, "role", "input_type")
    value = getattr(request, field)
    if not colon:
        return name, _ROLES.get(value, value)
    if field in request.model_fields_set:
        raise InvalidInput(
            f"model is {shown(request.model)} and {field} {shown(value)}; give the role once"
        )
    return name, role


def _named(request: EmbeddingsRequest, own: str, voyage: str) -> str:
    """Give the name that a request has for a field which Voyage names otherwise."""
    if {own, voyage} <= request.model_fields_set:
        raise InvalidInput(f"{own} and {voyage} are two names of one field; give one of them")
    return voyage if voyage in request.model_fields_set else own


def timings(embedded: Embedded) -> dict[str, str]:
    """Where the time went, in milliseconds, as `Server-Timing` has it."""
    spent = {"queue": embedded.queue_s, "tokenize": embedded.tokenize_s, "infer": embedded.infer_s}
    parts = (f"{name};dur={seconds * 1000:.3f}" for name, seconds in spent.items())
    return {"server-timing": ", ".join(parts)}


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
