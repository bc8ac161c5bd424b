"""Schemas of the rerank routes: Cohere's and Jina's fields, and Text Embeddings Inference's."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import Field, PlainValidator, RootModel, ValidationInfo

from attar.inputs import Priority

from .endpoint import json_kind
from .json_reader import ARRAYS
from .schemas import Schema, Text, Texts, shown


class Document(Schema):
    """A document."""

    text: Text


def documents_of(value: object, info: ValidationInfo) -> list[str]:
    """Give the texts of a list of texts, or of objects with a text, of up to `max_items`.

    By hand: pydantic would try each kind on every item, in one call that holds the interpreter.
    """
    name = info.field_name
    if not isinstance(value, ARRAYS):
        raise ValueError(f"{name} is {json_kind(value)}; give a list of texts")
    given: Sequence[Any] = value
    max_items = cast("int", info.context)
    if not 1 <= len(given) <= max_items:
        raise ValueError(
            f"{name} has {len(given)} items; a request takes 1 to {max_items} (max_items)"
        )
    texts = []
    for index, item in enumerate(given):
        text = item["text"] if isinstance(item, dict) and [*item] == ["text"] else item
        if not isinstance(text, str):
            raise ValueError(
                f'{name}[{index}] is {shown(item)}; give a text, or {{"text": ...}} with one'
            )
        texts.append(text)
    return texts


_MODEL = "give the name of a model, GET /v1/models lists them"
_TRUNCATE = Field(
    True,
    description="Cut what is too long; otherwise it is refused.",
)


class RerankRequest(Schema):
    """A query, and documents to rank for it. A field that is null counts as absent."""

    expected: ClassVar[Mapping[str, str]] = {
        "model": _MODEL,
        "query": "give a text",
        "documents": "give a list of texts",
        "top_n": "give a whole number above 0",
        "return_documents": "give true or false",
        "truncate": "give true or false",
    }

    model: str = Field(min_length=1)
    query: Text
    documents: Annotated[
        Sequence[Any],
        PlainValidator(documents_of, json_schema_input_type=Texts | list[Document]),
        Field(description="Texts, or objects with a text."),
    ]
    top_n: int | None = Field(None, ge=1, description="The best of them; by default all.")
    return_documents: bool = Field(False, description="Repeat the texts in the answer.")
    truncate: bool = _TRUNCATE
    priority: Priority = "interactive"


class Result(Schema):
    """A document by its place in the request, with its score."""

    index: int
    relevance_score: float
    document: Document | None = None
    truncated: bool


class TokenUsage(Schema):
    """The tokens that the model read."""

    total_tokens: int


class ApiVersion(Schema):
    """The version of the API that the fields are of."""

    version: Literal["2"] = "2"


class Meta(Schema):
    """What Cohere's clients read of an answer."""

    api_version: ApiVersion


class RerankResponse(Schema):
    """Documents, best first."""

    id: str
    model: str
    results: list[Result]
    scorer: Literal["cross-encoder", "cosine"] = Field(
        description="What a score is: the sigmoid of a cross-encoder's number, or a cosine."
    )
    usage: TokenUsage
    meta: Meta


class TextsRequest(Schema):
    """A query, and texts to rank for it. A field that is null counts as absent."""

    expected: ClassVar[Mapping[str, str]] = {
        "model": _MODEL,
        "query": "give a text",
        "texts": "give a list of texts",
        "raw_scores": "give true or false",
        "return_text": "give true or false",
        "truncate": "give true or false",
        "truncation_direction": "expected left or right",
    }

    query: Text
    texts: Annotated[
        Sequence[Any],
        PlainValidator(documents_of, json_schema_input_type=Texts),
        Field(description="Texts."),
    ]
    raw_scores: bool = Field(False, description="Scores before the sigmoid.")
    return_text: bool = Field(False, description="Repeat the texts in the answer.")
    truncate: bool = _TRUNCATE
    truncation_direction: Literal["left", "right", "Left", "Right"] | None = Field(
        None, description="The end that is cut; that of the model's bundle alone is taken."
    )
    model: str = Field("", description="Where several are served.")


class Rank(Schema):
    """A text by its place in the request, with its score."""

    index: int
    score: float
    text: str | None = None


class TextsResponse(RootModel[list[Rank]]):
    """Texts, best first."""
