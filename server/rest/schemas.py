"""Schemas: the JSON bodies of the HTTP routes, as pydantic models.

Requests of OpenAI's API are validated by them, and the OpenAPI page is generated from them. Answers
with vectors are written in steps (openai.py), and KServe's tensors have their own reader
(kserve.py): tests hold both to the models here. Sizes are checked before, by the JSON reader.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Final, Literal, NoReturn, TypeVar, cast, get_args

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StrictInt,
    ValidationError,
    ValidationInfo,
)

from attar.errors import InvalidInput
from attar.inputs import Priority, Role

from ..errors import about
from .endpoint import json_kind
from .json_reader import ARRAYS

Format = Literal["float", "base64"]
_MAX_SHOWN: Final = 80  # characters of a value in a message
_UNKNOWN: Final = "extra_forbidden"

Text = Annotated[str, Field(strict=True)]
TokenIds = Annotated[list[StrictInt], Field(min_length=1)]
ManyTokenIds = Annotated[list[TokenIds], Field(min_length=1)]
Texts = Annotated[list[Text], Field(min_length=1)]
Base64 = Annotated[str, Field(description="Base64 of little-endian float32.")]


class Schema(BaseModel):
    """A JSON object without fields of other names; a field that is null counts as absent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    expected: ClassVar[Mapping[str, str]] = {}
    """What to send instead of a wrong value, by field."""


Request = TypeVar("Request", bound=Schema)


def validated(schema: type[Request], document: Mapping[str, Any], *, max_items: int) -> Request:
    """The request that a JSON object holds, of up to `max_items` items.

    Raises a Violation that names the first field at fault, its value and what is expected.
    """
    try:
        return schema.model_validate(document, context=max_items)
    except ValidationError as error:
        _refuse(schema, error)


def _refuse(schema: type[Schema], error: ValidationError) -> NoReturn:
    """Raise InvalidInput about the first field at fault, unknown fields before wrong values."""
    faults = error.errors(include_url=False)
    fault = min(faults, key=lambda fault: fault["type"] != _UNKNOWN)
    field, kind, value = str(fault["loc"][0]), fault["type"], fault["input"]
    with about(field, ours=kind != _UNKNOWN):
        if kind == _UNKNOWN:
            known = ", ".join(schema.model_fields)
            raise InvalidInput(f"no field {field[:_MAX_SHOWN]!r}; known are {known}") from None
        if kind == "value_error":
            raise InvalidInput(str(fault["ctx"]["error"])) from None
        expected = schema.expected.get(field) or "expected one of " + ", ".join(
            get_args(schema.model_fields[field].annotation)
        )
        problem = "is missing" if kind == "missing" else f"is {shown(value)}"
        raise InvalidInput(f"{field} {problem}; {expected}") from None


def shown(value: object) -> str:
    """A value of JSON as a message has it: its beginning."""
    text = json.dumps(value, default=list)  # packed numbers
    return text if len(text) <= _MAX_SHOWN else f"{text[: _MAX_SHOWN - 1]}…"


def _items(value: object, info: ValidationInfo) -> Sequence[Any]:
    """One text, several, one list of token ids, or several of them, as a list of items.

    By hand: pydantic would try each kind on every item, in one call that holds the interpreter.
    """
    items: Sequence[Any] = [value] if isinstance(value, str) else _list(value)
    if items and type(items[0]) is int and _are(items, int):
        items = [items]
    max_items = cast("int", info.context)
    if not 1 <= len(items) <= max_items:
        raise ValueError(
            f"input has {len(items)} items; a request takes 1 to {max_items} (max_items)"
        )
    texts = isinstance(items[0], str)
    for index, item in enumerate(items):
        if not (isinstance(item, str) if texts else isinstance(item, list) and _are(item, int)):
            raise ValueError(
                f"input[{index}] is {shown(item)}: input is neither text nor token ids "
                "throughout; give a text, a list of texts, a list of token ids, or a list of "
                "such lists, none of them empty"
            )
    return items


def _list(value: object) -> Sequence[Any]:
    if not isinstance(value, ARRAYS):
        raise ValueError(f"input is {json_kind(value)}; give text, or a list")
    return value


def _are(items: Sequence[object], kind: type) -> bool:
    return bool(items) and all(type(item) is kind for item in items)


class EmbeddingsRequest(Schema):
    """Items to embed. A field that is null counts as absent."""

    expected: ClassVar[Mapping[str, str]] = {
        "model": "give the name of a model, GET /v1/models lists them",
        "input": "give text, or a list",
        "dimensions": "give a whole number above 0",
        "truncate": "give true or false",
    }

    model: str = Field(min_length=1)
    input: Annotated[
        Sequence[Any],
        PlainValidator(_items, json_schema_input_type=Text | Texts | TokenIds | ManyTokenIds),
        Field(
            description="A text, texts, one text's token ids, or those of several; ids of the "
            "model's own tokenizer."
        ),
    ]
    encoding_format: Format = "float"
    dimensions: int | None = Field(None, ge=1, description="A width that the model declares.")
    user: Any = Field(None, description="Ignored.")
    role: Role = "passage"
    truncate: bool | None = Field(
        None,
        description="Cut what is too long, and say so; otherwise it is refused. Without the field "
        "the server's setting openai_truncate counts.",
    )
    priority: Priority = "interactive"


class Embedding(Schema):
    """The embedding of one item, by its index in the request."""

    object: Literal["embedding"]
    index: int
    embedding: list[float] | Base64
    truncated: bool


class Usage(Schema):
    """The tokens of a request."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingsResponse(Schema):
    """An embedding for each item, in their order."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: Usage
    fingerprint: str = Field(
        description="The embedding space; vectors of different spaces must not be compared."
    )


class ModelDescription(Schema):
    """A model that is served, by its newest version."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["attar"] = "attar"
    version: str
    fingerprint: str
    dimensions: list[int] = Field(description="The widths that a request may ask for.")
    max_length: int | None = Field(description="Tokens; null where the model takes no text.")
    ready: bool


class ModelList(Schema):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelDescription]


class InferTensor(Schema):
    """A tensor; its values are `data`, or the next `binary_data_size` bytes behind the JSON."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = Field(None, description="An array, flat or nested as the shape is.")


class InferOutput(Schema):
    """An output to give, with `binary_data` true as bytes behind the JSON."""

    name: str
    parameters: dict[str, Any] = {}


class InferRequest(Schema):
    """Tensors to embed. A field that is null counts as absent."""

    id: str = ""
    parameters: dict[str, bool | int | float | str] = Field(
        {},
        description="dimensions, encoding, truncate, role, priority, timeout (microseconds), "
        "binary_data_output.",
    )
    inputs: list[InferTensor]
    outputs: list[InferOutput] = []


class InferResponse(Schema):
    """The outputs of a model."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, bool | int | float | str]
    outputs: list[InferTensor]


class OpenAIErrorDetail(Schema):
    """What is wrong, and the field that it is about."""

    message: str
    type: str
    param: str | None
    code: str


class OpenAIError(Schema):
    """Why there is no answer, in OpenAI's format."""

    error: OpenAIErrorDetail


class Error(Schema):
    """Why there is no answer."""

    error: str
