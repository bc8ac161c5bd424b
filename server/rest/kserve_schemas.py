"""KServe schemas: the JSON bodies of KServe v2 over HTTP, as pydantic models.

Requests are validated by them, and the OpenAPI page is generated from them. The values of tensors
are checked after it, against the model's own input (`server/kserve.py`).
"""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Final

from pydantic import Field, PlainValidator, RootModel

from ..kserve import MAX_AXES, MAX_NAMED, Parameter
from .endpoint import json_kind
from .schemas import Schema

_TRUE_OR_FALSE: Final = "give true or false"


def _scalar(value: object) -> Parameter:
    """Refuse all but text, numbers and flags; of a union, pydantic has an error for each kind."""
    if not isinstance(value, bool | int | float | str):
        raise ValueError(f"is {json_kind(value)}, which is no number, text or flag")
    return value


def _shape(value: object) -> list[int]:
    """Refuse all but whole numbers; those behind the last possible axis are not looked at."""
    if not isinstance(value, list) or not all(type(n) is int for n in value[: MAX_AXES + 1]):
        raise ValueError("is no list of whole numbers")
    return value


Parameters = Annotated[
    dict[
        str,
        Annotated[
            Parameter, PlainValidator(_scalar, json_schema_input_type=bool | int | float | str)
        ],
    ],
    Field(max_length=MAX_NAMED["parameters"]),
]
Shape = Annotated[list[int], PlainValidator(_shape, json_schema_input_type=list[int])]


class InputParameters(Schema):
    """How the values of an input are sent."""

    expected: ClassVar[Mapping[str, str]] = {
        "binary_data_size": "give the number of its bytes behind the JSON",
    }

    binary_data_size: int | None = Field(
        default=None,
        ge=0,
        description="The bytes of this input behind the JSON, in place of `data`.",
    )


class InferInput(Schema):
    """A tensor; its values are `data`, or the next `binary_data_size` bytes behind the JSON."""

    expected: ClassVar[Mapping[str, str]] = {
        "name": "give the name of a tensor",
        "shape": "give a list of whole numbers",
        "datatype": "give the name of a datatype",
        "parameters": "give an object",
    }

    name: str
    shape: Shape
    datatype: str
    parameters: InputParameters = InputParameters()
    data: Any = Field(None, description="An array, flat or nested as the shape is.")


class OutputParameters(Schema):
    """How the values of an output are to be sent."""

    expected: ClassVar[Mapping[str, str]] = {"binary_data": _TRUE_OR_FALSE}

    binary_data: bool | None = Field(default=None, description="As bytes behind the JSON.")


class RequestedOutput(Schema):
    """An output to give."""

    expected: ClassVar[Mapping[str, str]] = {
        "name": "give the name of an output",
        "parameters": "give an object",
    }

    name: str
    parameters: OutputParameters = OutputParameters()


class InferRequest(Schema):
    """Tensors to embed. A field that is null counts as absent."""

    expected: ClassVar[Mapping[str, str]] = {
        "id": "give text",
        "parameters": "give an object",
        "inputs": "give a list of objects, each a tensor",
        "outputs": "give a list of objects, each with the name of an output",
    }

    id: str = ""
    parameters: Parameters = Field(
        {},
        description="dimensions, encoding, truncate, role, priority, timeout (microseconds), "
        "binary_data_output.",
    )
    inputs: list[InferInput] = Field(max_length=MAX_NAMED["inputs"])
    outputs: list[RequestedOutput] = Field([], max_length=MAX_NAMED["outputs"])


class IndexRequest(Schema):
    """Which models to list."""

    expected: ClassVar[Mapping[str, str]] = {"ready": _TRUE_OR_FALSE}

    ready: bool = Field(False, description="Only those that can answer.")


class RepositoryRequest(Schema):
    """How to load or unload a model."""

    expected: ClassVar[Mapping[str, str]] = {"parameters": "give an object"}

    parameters: Parameters = Field({}, description="unload_dependents, to unload.")


class InferTensor(Schema):
    """A tensor of an answer; its values are `data`, or so many bytes behind the JSON."""

    name: str
    datatype: str
    shape: list[int]
    parameters: InputParameters = InputParameters()
    data: list[Any] = Field([], description="Flat.")


class InferResponse(Schema):
    """The outputs of a model."""

    model_name: str
    model_version: str
    id: str
    parameters: dict[str, str]
    outputs: list[InferTensor]


class Live(Schema):
    """Whether the process answers."""

    live: bool


class ModelReady(Schema):
    """A model that can answer."""

    name: str
    ready: bool


class ServerMetadata(Schema):
    """What the server is."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(Schema):
    """A tensor that a model takes or gives; -1 is an axis of any size."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(Schema):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class TensorConfig(Schema):
    """A tensor as Triton describes it; its dims leave out the batch."""

    name: str
    data_type: str
    dims: list[int]


class Batching(Schema):
    """How requests are batched."""

    priority_levels: int
    default_priority_level: int


class ModelConfig(Schema):
    """Triton's description of a model."""

    name: str
    platform: str
    backend: str
    max_batch_size: int
    input: list[TensorConfig]
    output: list[TensorConfig]
    dynamic_batching: Batching


class Duration(Schema):
    """How often something happened, and the time of all together."""

    count: int
    ns: int


class InferenceStatistics(Schema):
    """Where the time of requests went."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class BatchStatistics(Schema):
    """The batches of one size."""

    batch_size: int
    compute_infer: Duration


class ModelStatistics(Schema):
    """What one version of a model has done."""

    name: str
    version: str
    last_inference: int = Field(description="Milliseconds since 1970.")
    inference_count: int = Field(description="Items.")
    execution_count: int = Field(description="Batches.")
    inference_stats: InferenceStatistics
    batch_stats: list[BatchStatistics]


class Statistics(Schema):
    """What models have done."""

    model_stats: list[ModelStatistics]


class IndexedModel(Schema):
    """A model that is known, and why it is not served where it is not."""

    name: str
    version: str
    state: str
    reason: str


class ModelIndex(RootModel[list[IndexedModel]]):
    """The models that are known."""
