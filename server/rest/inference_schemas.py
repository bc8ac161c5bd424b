"""Schemas of Text Embeddings Inference's routes."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, TypeAlias, cast

from pydantic import Field, PlainValidator, RootModel, ValidationInfo

from attar.inputs import TextPair

from .endpoint import json_kind
from .schemas import ManyTokenIds, Schema, Text, Texts, TokenIds, items_of, shown

Direction: TypeAlias = Literal["left", "right", "Left", "Right"]
_EXPECTED: Final = {
    "model": "give the name of a model, GET /v1/models lists them",
    "truncate": "give true or false",
    "truncation_direction": "expected left or right",
}
_PAIR: Final = 2


def _sequences(value: object, info: ValidationInfo) -> list[str | TextPair]:
    """One text, one pair of texts, or a list of such, each in a list of its own.

    By hand: pydantic would try each kind on every item, in one call that holds the interpreter.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise ValueError(f"inputs is {json_kind(value)}; give a text, a pair of texts, or a list")
    if value and isinstance(value[0], str):
        return [_sequence(value, "inputs")]
    max_items = cast("int", info.context)
    if not 1 <= len(value) <= max_items:
        raise ValueError(
            f"inputs has {len(value)} items; a request takes 1 to {max_items} (max_items)"
        )
    return [_sequence(item, f"inputs[{index}]") for index, item in enumerate(value)]


def _sequence(value: object, where: str) -> str | TextPair:
    if (
        not isinstance(value, list)
        or not 1 <= len(value) <= _PAIR
        or not all(isinstance(text, str) for text in value)
    ):
        raise ValueError(
            f'{where} is {shown(value)}; give ["text"], or ["query", "document"] where the model '
            "is a cross-encoder"
        )
    return value[0] if len(value) == 1 else TextPair(value[0], value[1])


class EmbedRequest(Schema):
    """Items to embed. A field that is null counts as absent."""

    expected: ClassVar[Mapping[str, str]] = {
        **_EXPECTED,
        "inputs": "give text, or a list",
        "normalize": "give true or false",
        "prompt_name": "give the name of a prompt of the model",
        "dimensions": "give a whole number above 0",
    }

    inputs: Annotated[
        Sequence[Any],
        PlainValidator(items_of, json_schema_input_type=Text | Texts | TokenIds | ManyTokenIds),
        Field(description="A text, texts, one text's token ids, or those of several."),
    ]
    normalize: bool = Field(True, description="Bring embeddings to unit length.")
    truncate: bool = Field(True, description="Cut what is too long; otherwise it is refused.")
    truncation_direction: Direction | None = Field(
        None, description="The end that is cut; that of the model's bundle alone is taken."
    )
    prompt_name: str = Field(
        "passage", description="passage, query, or another name of the model's prompts."
    )
    dimensions: int | None = Field(None, ge=1, description="A width that the model declares.")
    model: str = Field("", description="Where several are served.")


class EmbedResponse(RootModel[list[list[float]]]):
    """An embedding for each item, in their order."""


class PredictRequest(Schema):
    """Texts to classify, or pairs to score. A field that is null counts as absent."""

    expected: ClassVar[Mapping[str, str]] = {
        **_EXPECTED,
        "inputs": "give a text, a pair of texts, or a list",
        "raw_scores": "give true or false",
    }

    inputs: Annotated[
        Sequence[Any],
        PlainValidator(
            _sequences,
            json_schema_input_type=Text
            | Annotated[Texts, Field(max_length=_PAIR)]
            | list[Annotated[Texts, Field(max_length=_PAIR)]],
        ),
        Field(description="A text, a pair of texts, or a list of such, each in a list."),
    ]
    raw_scores: bool = Field(False, description="Scores before softmax or sigmoid.")
    truncate: bool = Field(True, description="Cut what is too long; otherwise it is refused.")
    truncation_direction: Direction | None = Field(
        None, description="The end that is cut; that of the model's bundle alone is taken."
    )
    model: str = Field(
        "",
        description="A cross-encoder, a model with one classifier in its bundle, or "
        "MODEL/CLASSIFIER.",
    )


class Prediction(Schema):
    """A label with its score."""

    score: float
    label: str


class PredictResponse(RootModel[list[Prediction] | list[list[Prediction]]]):
    """The labels, best first: of the one input, or of each of a list."""


class Pooling(Schema):
    """How an encoder pools."""

    pooling: Literal["graph"] = Field(description="A bundle's graph gives pooled embeddings.")


class Labels(Schema):
    """The labels of a model that gives scores."""

    id2label: dict[str, str]
    label2id: dict[str, int]


class ModelType(Schema):
    """What the model does; one of both."""

    embedding: Pooling | None = None
    reranker: Labels | None = None


class ModelInfo(Schema):
    """A model, and what a request may have."""

    model_id: str
    model_sha: str = Field(description="The fingerprint of its space.")
    model_dtype: str = Field(description="The variant that runs.")
    model_type: ModelType
    max_concurrent_requests: int
    max_input_length: int = Field(description="Tokens; 0 where the model takes no text.")
    max_batch_tokens: int
    max_batch_requests: int | None = None
    max_client_batch_size: int
    auto_truncate: bool
    tokenization_workers: int
    version: str
