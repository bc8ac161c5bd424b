"""Schemas: the JSON bodies of the HTTP routes, as pydantic models; KServe's: `kserve_schemas`.

Requests are validated by them, and the OpenAPI page is generated from them. Answers with vectors
are written in steps (openai.py, kserve.py), and tests hold these to the models. Sizes are checked
before, by the JSON reader.
"""

import json
from array import array
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


def validated(
    schema: type[Request], document: Mapping[str, Any], *, max_items: int | None = None
) -> Request:
    """The request that a JSON object holds, of up to `max_items` items where it has any.

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
    kind, value, details = fault["type"], fault["input"], fault.get("ctx", {})
    owner, field, path = _place(schema, fault["loc"])
    with about(path, ours=kind != _UNKNOWN):
        if kind == _UNKNOWN:
            outer = path.removesuffix(f".{field}")
            where = "" if outer == path else f"{outer} has "
            known = ", ".join(owner.model_fields)
            raise InvalidInput(f"{where}no field {field!r}; known are {known}") from None
        if kind == "value_error":  # one about a nested value leaves out where it is
            where = "" if len(fault["loc"]) == 1 else f"{path} "
            raise InvalidInput(f"{where}{details['error']}") from None
        if kind == "too_long":
            raise InvalidInput(
                f"{path} are {len(value)}, and a request may name "
                f"{details['max_length']}; leave out what the model does not know"
            ) from None
        expected = owner.expected.get(field) or "expected one of " + ", ".join(
            get_args(owner.model_fields[field].annotation)
        )
        problem = "is missing" if kind == "missing" else f"is {shown(value)}"
        raise InvalidInput(f"{path} {problem}; {expected}") from None


def _place(schema: type[Schema], loc: Sequence[int | str]) -> tuple[type[Schema], str, str]:
    """The schema and the field that a fault is in, and its path, as inputs[0].shape."""
    inner: type[Schema] | None = schema
    owner, field, path = schema, "", ""
    for part in loc:
        name = str(part)[:_MAX_SHOWN]
        if isinstance(part, int) or inner is None:  # of a list or of a plain object
            path += f"[{name}]"
            continue
        owner, field, path = inner, name, f"{path}.{name}" if path else name
        known = owner.model_fields.get(part)
        kinds = () if known is None else (known.annotation, *get_args(known.annotation))
        inner = next((k for k in kinds if isinstance(k, type) and issubclass(k, Schema)), None)
    return owner, field, path


def _packed(numbers: object) -> list[float]:
    """The first of packed numbers, for a message."""
    assert isinstance(numbers, array)
    return numbers[:_MAX_SHOWN].tolist()


_ENCODER: Final = json.JSONEncoder(default=_packed)


def shown(value: object) -> str:
    """A value of JSON as a message has it: its beginning; the rest of it is not written."""
    text = ""
    for chunk in _ENCODER.iterencode(value):
        text += chunk
        if len(text) > _MAX_SHOWN:
            return f"{text[: _MAX_SHOWN - 1]}…"
    return text


def items_of(value: object, info: ValidationInfo) -> Sequence[Any]:
    """One text, several, one list of token ids, or several of them, as a list of items.

    By hand: pydantic would try each kind on every item, in one call that holds the interpreter.
    """
    name = info.field_name
    if not isinstance(value, str | list | array):
        raise ValueError(f"{name} is {json_kind(value)}; give text, or a list")
    items: Sequence[Any] = [value] if isinstance(value, str) else value
    if items and type(items[0]) is int and _are(items, int):
        items = [items]
    max_items = cast("int", info.context)
    if not 1 <= len(items) <= max_items:
        raise ValueError(
            f"{name} has {len(items)} items; a request takes 1 to {max_items} (max_items)"
        )
    texts = isinstance(items[0], str)
    for index, item in enumerate(items):
        if not (isinstance(item, str) if texts else isinstance(item, list) and _are(item, int)):
            raise ValueError(
                f"{name}[{index}] is {shown(item)}: {name} is neither text nor token ids "
                "throughout; give a text, a list of texts, a list of token ids, or a list of "
                "such lists, none of them empty"
            )
    return items


def _are(items: Sequence[object], kind: type) -> bool:
    return bool(items) and all(type(item) is kind for item in items)


class EmbeddingsRequest(Schema):
    """Items to embed. A field that is null counts as absent."""

    expected: ClassVar[Mapping[str, str]] = {
        "model": "give the name of a model, GET /v1/models lists them",
        "input": "give text, or a list",
        "dimensions": "give a whole number above 0",
        "truncate": "give true or false",
        "output_dimension": "give a whole number above 0",
        "input_type": "expected query or document",
        "output_dtype": "expected float",
        "truncation": "give true or false",
    }

    model: str = Field(min_length=1)
    input: Annotated[
        Sequence[Any],
        PlainValidator(items_of, json_schema_input_type=Text | Texts | TokenIds | ManyTokenIds),
        Field(
            description="A text, texts, one text's token ids, or those of several; ids of the "
            "model's own tokenizer."
        ),
    ]
    encoding_format: Format = "float"
    dimensions: int | None = Field(None, ge=1, description="A width that the model declares.")
    user: Any = Field(None, description="Ignored.")
    role: Role = Field(
        "passage", description="passage, query, or another name of the model's prompts."
    )
    truncate: bool | None = Field(
        None,
        description="Cut what is too long, and say so; otherwise it is refused. Without the field "
        "the server's setting openai_truncate counts.",
    )
    priority: Priority = "interactive"
    input_type: Literal["query", "document"] = Field(
        "document", description="Voyage's name of `role`; a document is a passage."
    )
    truncation: bool | None = Field(None, description="Voyage's name of `truncate`.")
    output_dimension: int | None = Field(None, ge=1, description="Voyage's name of `dimensions`.")
    output_dtype: Literal["float"] | None = Field(None, description="Voyage's: floats alone.")


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
    dimensions: list[int] = Field(
        description="The widths that a request may ask for; none of a cross-encoder, which ranks."
    )
    max_length: int | None = Field(description="Tokens; null where the model takes no text.")
    ready: bool


class ModelList(Schema):
    """The models that are served."""

    object: Literal["list"] = "list"
    data: list[ModelDescription]


class Health(Schema):
    """What the server can do."""

    status: Literal["live", "ready"]


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


class StatusDetail(Schema):
    """A google.rpc.Status, with HTTP's code and gRPC's status by its name."""

    code: int
    message: str
    status: str
    details: list[dict[str, Any]]


class StatusError(Schema):
    """Why there is no answer, in the format of Google's APIs."""

    error: StatusDetail


class TypedError(Schema):
    """Why there is no answer, in the format of Text Embeddings Inference."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation", "Tokenizer"]
