"""Cohere's API of embeddings; its reranking is in `rerank`."""

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias

from pydantic import Field, PlainValidator
from starlette.responses import Response

from attar.errors import InvalidInput
from attar.inputs import Role

from ..cooperative import STEP, off_the_loop, steps
from ..engine.models import Models
from ..errors import about
from ..request_context import current
from ..usecases.embed import Embedded, embed
from .endpoint import HttpRequest, document
from .openai import timings
from .rerank_schemas import Meta, documents_of
from .schemas import Base64, Schema, Texts, shown, validated

_BYTES_PER_NUMBER: Final = 8  # of JSON
_ROLES: Final[Mapping[str, Role]] = {"search_document": "passage", "search_query": "query"}
_Vector: TypeAlias = list[float]  # Cohere has a field of that name
_ENDS: Final = {"START": "left", "END": "right"}


class CohereEmbedRequest(Schema):
    """Texts to embed. A field that is null counts as absent."""

    expected: ClassVar[Mapping[str, str]] = {
        "model": "give the name of a model, GET /v1/models lists them",
        "texts": "give a list of texts",
        "input_type": "give search_document, search_query or a name of the model's prompts",
        "embedding_types": 'give ["float"] or ["base64"]',
        "output_dimension": "give a whole number above 0",
    }

    model: str = Field(min_length=1)
    texts: Annotated[
        Sequence[Any],
        PlainValidator(documents_of, json_schema_input_type=Texts),
        Field(description="Texts, up to max_items."),
    ]
    input_type: str = Field(
        "search_document",
        min_length=1,
        description="search_document is the prompt passage, search_query the prompt query; any "
        "other word is the name of a prompt of the model.",
    )
    embedding_types: list[Literal["float", "base64"]] = Field(
        ["float"], min_length=1, description="One of them a request."
    )
    output_dimension: int | None = Field(None, ge=1, description="A width that the model declares.")
    truncate: Literal["NONE", "START", "END"] = Field(
        "END", description="The end that is cut, which must be the model's own; NONE cuts nothing."
    )


class CohereEmbeddings(Schema):
    """The embeddings, by the type that was asked for."""

    float: list[_Vector] | None = None
    base64: list[Base64] | None = None


class CohereEmbedResponse(Schema):
    """An embedding for each text, in their order."""

    response_type: Literal["embeddings_by_type"]
    id: str
    embeddings: CohereEmbeddings
    meta: Meta
    fingerprint: str = Field(
        description="The embedding space; vectors of different spaces must not be compared."
    )


class Cohere:
    """`/v2/embed` over the models of one server."""

    def __init__(self, models: Models, *, max_items: int) -> None:
        """Serve these models; a request takes up to `max_items` texts."""
        self._models = models
        self._max_items = max_items

    async def embed(self, http_request: HttpRequest) -> Response:
        """Embed the texts of a request; one bad text fails it."""
        body = await document(http_request)
        request = await off_the_loop(
            len(http_request.body),
            lambda: validated(CohereEmbedRequest, body, max_items=self._max_items),
        )
        model = self._models.get(request.model)
        role = _ROLES.get(request.input_type, request.input_type)
        with about("model"):
            model.require_kind(request.texts)
        with about("input_type"):
            model.encoder.prepare([], role=role)  # refuses a name that the model has no prompt of
        with about("output_dimension"):
            if request.output_dimension not in (None, *model.encoder.dims):
                raise InvalidInput(
                    f"output_dimension is {shown(request.output_dimension)}; {model.name} was "
                    f"trained for {list(model.encoder.dims)}"
                )
        side = model.encoder.manifest.preprocessing.truncation_side
        with about("truncate"):
            if request.truncate != "NONE" and _ENDS[request.truncate] != side:
                raise InvalidInput(
                    f"truncate is {request.truncate}; {model.name} cuts texts on the {side}: "
                    "send NONE, or the other end"
                )
        form, *more = request.embedding_types
        with about("embedding_types"):
            if more:
                raise InvalidInput(f"embedding_types has {len(more) + 1}; ask for one of them")
        with about("texts"):
            embedded = await embed(
                self._models,
                model=model.name,
                items=request.texts,
                role=role,
                dims=request.output_dimension,
                truncation="error" if request.truncate == "NONE" else "truncate",
                all_or_nothing=True,
                form="base64" if form == "base64" else "json",
            )
        size = embedded.vectors.size * _BYTES_PER_NUMBER
        written = await off_the_loop(size, lambda: _write(embedded, form))
        return Response(written, media_type="application/json", headers=timings(embedded))


def _write(embedded: Embedded, form: str) -> bytes:
    little = embedded.vectors.astype("<f4", copy=False)
    rows = [
        _dump(base64.b64encode(row.tobytes()).decode() if form == "base64" else row.tolist())
        for part in steps(len(little), max(1, STEP // little.shape[1]))
        for row in little[part]
    ]
    rest = {
        "response_type": "embeddings_by_type",
        "id": current().request_id,
        "meta": {"api_version": {"version": "2"}},
        "fingerprint": embedded.model.encoder.fingerprint,
    }
    return f'{{"embeddings":{{"{form}":[{",".join(rows)}]}},{_dump(rest)[1:]}'.encode()


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
