"""KServe v2, whatever carries it: a model as named tensors, and one inference.

A text model takes `text`, BYTES of shape [n, 1], as Triton batches, or plainly [n]; any other
takes its own input. Both give `embedding`, and a gRPC code for each item in `status`; a text model
gives `input_tokens` and `truncated` too.

https://github.com/kserve/open-inference-protocol, and Triton's extensions to it.
"""

import asyncio
import math
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as release
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from attar.encodings import Encoding
from attar.errors import InvalidInput, NotFound, NotSupported, ShapeError
from attar.inputs import ROLES, Role, Truncation

from .cooperative import off_the_loop, request_bytes, steps
from .engine.models import Model, Models
from .engine.statistics import Total
from .errors import about, code_of, public
from .rpc import messages
from .usecases.embed import Embedded, Form, Items, Priority, embed

Parameter: TypeAlias = bool | int | float | str
Name = TypeVar("Name", bound=str)

EXTENSIONS: Final = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "parameters",
    "schedule_policy",
    "statistics",
)
PLATFORM: Final = "attar"
BYTES: Final = "BYTES"
TEXT: Final = "text"
DATATYPES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "BOOL": "bool",
        "UINT8": "uint8",
        "UINT16": "uint16",
        "UINT32": "uint32",
        "UINT64": "uint64",
        "INT8": "int8",
        "INT16": "int16",
        "INT32": "int32",
        "INT64": "int64",
        "FP16": "float16",
        "FP32": "float32",
        "FP64": "float64",
    }
)
"""KServe's names of numpy's dtypes; BYTES is text, and BF16 is not taken."""

_NAMES: Final = MappingProxyType({dtype: name for name, dtype in DATATYPES.items()})
_KINDS: Final[Mapping[str, set[type]]] = {"b": {bool}, "f": {int, float}}
MAX_AXES: Final = 8
_MOST_ELEMENTS: Final = 2**31
MAX_NAMED: Final = {"inputs": 8, "outputs": 8, "parameters": 32}
"""How many of each a request may name: more than any model has, or than there are."""
_PREFIX: Final = 4  # bytes of the length before each element of BYTES, little-endian
# Triton's levels, where 0 is the default and a lower one goes first.
PRIORITIES: Final[tuple[Priority, ...]] = ("interactive", "interactive", "bulk")
_SEQUENCE: Final = ("sequence_id", "sequence_start", "sequence_end")
# What a client's library adds for a transport or a kind of model that is not ours to judge.
_IGNORED: Final = ("triton_enable_empty_final_response", "binary_data_output")
_PARAMETERS: Final = ("dimensions", "encoding", "truncate", "role", "priority", "timeout")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorInfo:
    """A tensor that a model takes or gives; -1 is an axis of any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tensor:
    """A tensor on its way; that of BYTES holds Python's bytes."""

    name: str
    datatype: str
    array: NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Input:
    """A tensor that came: what it says it is, and how its contents are read once that is right."""

    info: TensorInfo
    read: Callable[[], Tensor]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inference:
    """One request; no `outputs` stands for all of them.

    `form` is how its embeddings are written in the answer.
    """

    model: str
    version: str
    id: str
    inputs: tuple[Input, ...]
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    form: Form = "bytes"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Inferred:
    """One answer; its vectors may be compared with others of its `fingerprint`."""

    model: str
    version: str
    id: str
    outputs: tuple[Tensor, ...]
    parameters: Mapping[str, Parameter]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a request's parameters ask for."""

    dims: int | None
    encoding: Encoding
    truncation: Truncation
    role: Role
    priority: Priority
    timeout_s: float | None


def takes(model: Model) -> TensorInfo:
    """The one input that a request gives."""
    if model.encoder.modality == "text":
        return TensorInfo(name=TEXT, datatype=BYTES, shape=(-1, 1))
    spec = model.encoder.manifest.inputs[0]
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in spec.shape)
    return TensorInfo(name=spec.name, datatype=_NAMES[spec.dtype], shape=shape)


def gives(model: Model) -> tuple[TensorInfo, ...]:
    """The outputs; that of `embedding` is as without parameters."""
    embedding = TensorInfo(name="embedding", datatype="FP32", shape=(-1, model.encoder.dim))
    status = TensorInfo(name="status", datatype="INT32", shape=(-1,))
    if model.encoder.modality != "text":
        return embedding, status
    return (
        embedding,
        TensorInfo(name="input_tokens", datatype="INT32", shape=(-1,)),
        TensorInfo(name="truncated", datatype="BOOL", shape=(-1,)),
        status,
    )


def ready(models: Models, name: str, version: str) -> bool:
    """Whether that model can answer; one that is not there cannot."""
    return any(
        model.ready for model in models if model.name == name and version in ("", model.version)
    )


def server_metadata() -> dict[str, Any]:
    """What the server is, as ServerMetadataResponse has it."""
    return {"name": PLATFORM, "version": release(PLATFORM), "extensions": list(EXTENSIONS)}


def model_metadata(models: Models, name: str, version: str) -> dict[str, Any]:
    """What a model takes and gives, as ModelMetadataResponse has it."""
    model = models.get(name, version)
    return {
        "name": model.name,
        "versions": [other.version for other in models if other.name == model.name],
        "platform": PLATFORM,
        "inputs": [_described(takes(model))],
        "outputs": [_described(info) for info in gives(model)],
    }


def model_config(models: Models, name: str, version: str, *, max_items: int) -> dict[str, Any]:
    """Triton's description of a model, as ModelConfig has it; its dims leave out the batch."""
    model = models.get(name, version)
    return {
        "name": model.name,
        "platform": PLATFORM,
        "backend": PLATFORM,
        "max_batch_size": max_items,
        "input": [_configured(takes(model))],
        "output": [_configured(info) for info in gives(model)],
        "dynamic_batching": {
            "priority_levels": len(PRIORITIES) - 1,
            "default_priority_level": 1,
        },
    }


def statistics(models: Models, name: str, version: str) -> list[dict[str, Any]]:
    """What models have done, as ModelStatistics has it: every one, one, or one's one version."""
    if name:
        chosen = models.get(name, version)  # NotFound lists what there is
        embedded = [
            candidate
            for candidate in models
            if candidate.name == name and version in ("", candidate.version)
        ]
        embedded = embedded or [chosen]
    else:
        embedded = list(models)
    return [_counted(model) for model in embedded]


def index(models: Models, *, repository: str, ready: bool) -> list[dict[str, str]]:
    """The models that are known, or of those the ready ones, as ModelIndex has them."""
    _refuse_repository(repository)
    return [
        {
            "name": version.name,
            "version": version.version,
            "state": version.state,
            "reason": public(version.reason),
        }
        for version in models.index()
        if version.state == "READY" or not ready
    ]


async def load(
    models: Models, name: str, *, repository: str, parameters: Mapping[str, object]
) -> None:
    """Load a model, or load it again."""
    _refuse_repository(repository)
    for parameter in parameters:
        with about("parameters"):
            raise InvalidInput(
                f"parameters has {parameter[:80]!r}, which would change the model; a bundle is "
                "loaded as it was exported"
            )
    await models.load(name)


async def unload(
    models: Models, name: str, *, repository: str, parameters: Mapping[str, object]
) -> None:
    """Stop serving a model; no model here depends on another."""
    _refuse_repository(repository)
    for parameter in parameters:
        if parameter != "unload_dependents":
            with about("parameters"):
                raise InvalidInput(f"parameters has {parameter[:80]!r}; known is unload_dependents")
    await models.unload(name)


async def infer(
    models: Models,
    request: Inference,
    *,
    max_items: int,
    max_name_characters: int,
    deadline: float | None = None,
    wait: bool = False,
) -> Inferred:
    """Answer one request by `deadline` (loop time, s) or by its own timeout, the sooner of them.

    An item fails alone, and its code stands in `status`. The call fails with the first item's error
    where nothing would report it: `status` is not among the outputs, or no item is sound.
    """
    messages.short("id", request.id, limit=max_name_characters)
    model = models.get(request.model, request.version)
    options = read_options(request.parameters)
    with about("parameters[dimensions]"):
        if options.dims not in (None, *model.encoder.dims):
            raise InvalidInput(
                f"dimensions is {options.dims}; {model.name} was trained for "
                f"{list(model.encoder.dims)}"
            )
    with about("parameters[encoding]"):
        nothing = np.empty((0, model.encoder.dim), np.float32)
        model.encoder.finish(nothing, dims=options.dims, encoding=options.encoding)
    with about("parameters[role]"):
        model.encoder.prepare([], role=options.role)
    known = {output.name: None for output in gives(model)}
    for index, name in enumerate(request.outputs):
        with about(f"outputs[{index}].name"):
            if name not in known:
                raise InvalidInput(
                    f"{model.name} has no output {name[:80]!r}; it gives {', '.join(known)}"
                )
            if name in request.outputs[:index]:
                raise InvalidInput(f"output {name} is named twice; name each once")
    wanted = request.outputs or tuple(known)
    items = await off_the_loop(
        request_bytes(), lambda: _items(model, request.inputs, max_items=max_items)
    )
    if options.timeout_s is not None:
        own = asyncio.get_running_loop().time() + options.timeout_s
        deadline = own if deadline is None else min(deadline, own)
    with about("inputs[0]"):
        embedded = await embed(
            models,
            model=model.name,
            version=model.version,
            items=items,
            role=options.role,
            dims=options.dims,
            encoding=options.encoding,
            truncation=options.truncation,
            priority=options.priority,
            deadline=deadline,
            wait=wait,
            all_or_nothing="status" not in wanted,
            form=request.form,
        )
        if not embedded.good:
            embedded.require_all()
    outputs = await off_the_loop(
        embedded.vectors.nbytes, lambda: tuple(_output(name, embedded) for name in wanted)
    )
    return Inferred(
        model=embedded.model.name,
        version=embedded.model.version,
        id=request.id,
        outputs=outputs,
        parameters={
            "fingerprint": embedded.model.encoder.fingerprint,
            "variant": embedded.model.encoder.variant.name,
        },
    )


def refuse_many(kind: str, count: int) -> None:
    """Raise InvalidInput for more inputs, outputs or parameters than there can be."""
    if count > MAX_NAMED[kind]:
        with about(kind):
            raise InvalidInput(
                f"{kind} are {count}, and a request may name {MAX_NAMED[kind]}; leave out what the "
                "model does not know"
            )


def read_options(parameters: Mapping[str, Parameter]) -> Options:
    """Hold each parameter to its type and its values; one that is not known is refused."""
    for name, value in parameters.items():
        with about(f"parameters[{name}]"):
            if name in _SEQUENCE and value:
                raise NotSupported(f"{name} is given, and models here keep no state; leave it out")
            if name.startswith("shared_memory"):
                raise NotSupported(f"{name} is given; send the contents, there is no shared memory")
            if name not in (*_PARAMETERS, *_SEQUENCE, *_IGNORED):
                raise InvalidInput(
                    f"no parameter {name[:80]!r}; known are {', '.join(_PARAMETERS)}"
                )
    timeout_us = _whole(parameters, "timeout", high=2**53)
    return Options(
        dims=_whole(parameters, "dimensions", high=2**31 - 1),
        encoding=_word(parameters, "encoding", get_args(Encoding), "f32"),
        truncation=_truncation(parameters),
        role=_role(parameters),
        priority=_priority(parameters),
        timeout_s=timeout_us / 1e6 if timeout_us else None,
    )


def from_raw(info: TensorInfo, data: bytes | memoryview) -> Tensor:
    """The tensor that little-endian bytes hold; ShapeError where they do not fill the shape."""
    size = _size(info)
    if info.datatype == BYTES:
        elements = list(_elements(info, data, size))  # before a shape asks for room
        array = np.empty(size, np.object_)
        array[:] = elements
        return Tensor(name=info.name, datatype=BYTES, array=array.reshape(info.shape))
    dtype = _dtype(info).newbyteorder("<")
    if len(data) != (expected := size * dtype.itemsize):
        raise ShapeError(
            f"{len(data)} bytes of data; {info.datatype} of shape {list(info.shape)} "
            f"takes {expected}"
        )
    if dtype.kind == "b":  # any other byte than 0 and 1 is no bool that numpy may hold
        array = np.frombuffer(data, np.uint8) != 0
    else:
        array = np.frombuffer(data, dtype).astype(dtype.newbyteorder("="), copy=False)
    return Tensor(name=info.name, datatype=info.datatype, array=array.reshape(info.shape))


def from_values(info: TensorInfo, values: Sequence[Any]) -> Tensor:
    """The tensor that a list of values holds, flat or nested as its shape is.

    Values of BYTES are bytes. Raises ShapeError where they do not fill the shape, or are not of the
    datatype.
    """
    _size(info)
    flat = _flat(info, values)
    array = _texts(info, flat) if info.datatype == BYTES else _numbers(info, flat)
    require_size(info, array.size)
    return Tensor(name=info.name, datatype=info.datatype, array=array.reshape(info.shape))


def from_numbers(info: TensorInfo, values: NDArray[Any]) -> Tensor:
    """The tensor of as many numbers as its shape takes; ShapeError where one does not fit."""
    with np.errstate(over="ignore"):  # what becomes infinite is refused with its item
        array = values.astype(_dtype(info))
    if values.dtype.kind in "iu" and (array != values).any():
        raise _mistyped(info)
    return Tensor(name=info.name, datatype=info.datatype, array=array.reshape(info.shape))


def require_size(info: TensorInfo, count: int) -> None:
    """Raise ShapeError where so many values do not fill the shape."""
    if count != (size := _size(info)):
        raise ShapeError(f"{count} values; shape {list(info.shape)} of {info.name} takes {size}")


def to_raw(tensor: Tensor) -> bytes:
    """The tensor's little-endian bytes."""
    array = tensor.array
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


def _items(model: Model, inputs: Sequence[Input], *, max_items: int) -> Items:
    """Read the one input's items, once what it says of itself is right."""
    expected = takes(model)
    with about("inputs"):
        if len(inputs) != 1 or inputs[0].info.name != expected.name:
            given = ", ".join(repr(tensor.info.name[:80]) for tensor in inputs[:5]) or "none"
            raise InvalidInput(
                f"inputs are {given}; {model.name} takes one, {expected.name!r}: "
                f"{expected.datatype} {list(expected.shape)}"
            )
    info = inputs[0].info
    with about("inputs[0].datatype"):
        if info.datatype != expected.datatype:
            _require_datatype(info)
            raise ShapeError(
                f"{expected.name} is {info.datatype}; {model.name} takes {expected.datatype}"
            )
    with about("inputs[0].shape"):
        _size(info)
        is_plain = expected.datatype == BYTES and len(info.shape) == 1
        fits = is_plain or (
            len(info.shape) == len(expected.shape)
            and all(axis in (-1, n) for axis, n in zip(expected.shape, info.shape, strict=True))
        )
        if not fits or info.shape[0] > max_items:
            raise ShapeError(
                f"{expected.name} has shape {list(info.shape)}; {model.name} takes "
                f"{list(expected.shape)}, and a request 1 to {max_items} items (max_items)"
            )
    array = inputs[0].read().array
    if expected.datatype != BYTES:
        return array
    # What is not UTF-8 becomes half of a surrogate pair, for which its item, and it alone, fails.
    return [item.decode("utf-8", "surrogateescape") for item in array.reshape(-1).tolist()]


def _described(info: TensorInfo) -> dict[str, Any]:
    return {"name": info.name, "datatype": info.datatype, "shape": list(info.shape)}


def _configured(info: TensorInfo) -> dict[str, Any]:
    word = "STRING" if info.datatype == BYTES else info.datatype
    return {"name": info.name, "data_type": f"TYPE_{word}", "dims": list(info.shape[1:])}


def _counted(model: Model) -> dict[str, Any]:
    done = model.statistics
    rest = done.success.ns - done.queue.ns - done.tokenize.ns - done.infer.ns
    return {
        "name": model.name,
        "version": model.version,
        "last_inference": done.last_inference_ms,
        "inference_count": done.inference_count,
        "execution_count": done.execution_count,
        "inference_stats": {
            "success": _total(done.success),
            "fail": _total(done.fail),
            "queue": _total(done.queue),
            "compute_input": _total(done.tokenize),
            "compute_infer": _total(done.infer),
            "compute_output": {"count": done.infer.count, "ns": max(0, rest)},
        },
        "batch_stats": [
            {"batch_size": size, "compute_infer": _total(total)}
            for size, total in sorted(done.batches.items())
        ],
    }


def _total(total: Total) -> dict[str, int]:
    return {"count": total.count, "ns": total.ns}


def _refuse_repository(name: str) -> None:
    if name:
        raise NotFound(f"no repository {name[:80]!r}; this server has one, without a name")


def _output(name: str, embedded: Embedded) -> Tensor:
    match name:
        case "embedding":
            array = embedded.vectors
        case "input_tokens":
            array = np.array([item.tokens for item in embedded.items], np.int32)
        case "truncated":
            array = np.array([item.truncated for item in embedded.items], np.bool_)
        case _:
            codes = [0 if i.error is None else code_of(i.error).value[0] for i in embedded.items]
            array = np.array(codes, np.int32)
    return Tensor(name=name, datatype=_NAMES[array.dtype.name], array=array)


def _elements(info: TensorInfo, data: bytes | memoryview, count: int) -> Iterator[bytes]:
    start = 0
    for index in range(count):
        length = int.from_bytes(data[start : start + _PREFIX], "little")
        end = start + _PREFIX + length
        if start + _PREFIX > len(data) or end > len(data):
            raise ShapeError(
                f"{info.name} ends within element {index} of {count}; each is its length in 4 "
                "bytes, little-endian, and then its bytes"
            )
        yield bytes(data[start + _PREFIX : end])
        start = end
    if start != len(data):
        raise ShapeError(
            f"{info.name} has {len(data) - start} bytes after the {count} elements of its shape"
        )


def _flat(info: TensorInfo, values: Sequence[Any]) -> Sequence[Any]:
    """The values one behind the other; ShapeError where they are nested, but not as the shape."""
    nested, first = [len(values)], values[0] if values else None
    while isinstance(first, list | array):
        nested.append(len(first))
        first = first[0] if first else None
    if len(nested) == 1:
        return values
    flat = values
    for size in nested[1:]:
        outer, flat = flat, array("d") if isinstance(flat[0], array) else []
        for part in steps(len(outer)):
            for row in outer[part]:
                if not isinstance(row, list | array) or len(row) != size:
                    kind = "texts" if info.datatype == BYTES else info.datatype
                    raise ShapeError(
                        f"values of {info.name} are not all {kind}, or their rows differ in length"
                    )
                if isinstance(flat, array) and not isinstance(row, array):
                    flat = flat.tolist()
                flat += row
    if tuple(nested) != info.shape:
        raise ShapeError(
            f"values of {info.name} are nested as {nested[:8]}, and its shape is "
            f"{list(info.shape)}; nest them so, or give them flat"
        )
    return flat


def _texts(info: TensorInfo, values: Sequence[Any]) -> NDArray[Any]:
    array = np.empty(len(values), np.object_)
    for part in steps(len(values)):
        if not {*map(type, values[part])} <= {bytes}:
            raise ShapeError(
                f"values of {info.name} are not all texts, or their rows differ in length"
            )
        array[part] = values[part]
    return array


def _numbers(info: TensorInfo, values: Sequence[Any]) -> NDArray[Any]:
    """Cast values without a loss: numpy alone would cut 1.5 to 1, and take True for it."""
    dtype = _dtype(info)
    allowed = _KINDS.get(dtype.kind, {int})
    array = np.empty(len(values), dtype)
    for part in steps(len(values)):
        if not {*map(type, values[part])} <= allowed:
            raise _mistyped(info)
        try:
            with np.errstate(over="ignore"):  # what becomes infinite is refused with its item
                array[part] = np.array(values[part], np.object_).astype(dtype)
        except (ValueError, OverflowError):
            raise _mistyped(info) from None
    return array


def _mistyped(info: TensorInfo) -> ShapeError:
    return ShapeError(f"values of {info.name} are not all {info.datatype}")


def _size(info: TensorInfo) -> int:
    """The number of elements; no shape may ask for more than a request could hold."""
    shape = info.shape
    # Before it is made: the product of 30,000 large numbers takes Python's lock for a minute.
    fits = 1 <= len(shape) <= MAX_AXES and 1 <= min(shape) <= max(shape) <= _MOST_ELEMENTS
    if not fits or (size := math.prod(shape)) > _MOST_ELEMENTS:
        raise ShapeError(
            f"{info.name} has shape {list(info.shape)[:8]}; it must have 1 to 8 axes, each at least"
            " 1, and no more elements than a message holds"
        )
    return size


def _dtype(info: TensorInfo) -> np.dtype[Any]:
    _require_datatype(info)
    return np.dtype(DATATYPES[info.datatype])


def _require_datatype(info: TensorInfo) -> None:
    if info.datatype not in (*DATATYPES, BYTES):
        known = ", ".join((*DATATYPES, BYTES))
        raise ShapeError(f"{info.name} is {info.datatype[:20]!r}; known datatypes are {known}")


def _whole(parameters: Mapping[str, Parameter], name: str, *, high: int) -> int | None:
    value = parameters.get(name)
    if value is None:
        return None
    with about(f"parameters[{name}]"):
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= high:
            raise InvalidInput(f"{name} is {value!r}; it is a whole number from 0 to {high}")
    return value


def _word(
    parameters: Mapping[str, Parameter], name: str, choices: tuple[Name, ...], default: Name
) -> Name:
    value = parameters.get(name, default)
    for choice in choices:
        if value == choice:
            return choice
    with about(f"parameters[{name}]"):
        shown = value[:80] if isinstance(value, str) else value
        raise InvalidInput(f"{name} is {shown!r}; expected one of {', '.join(choices)}")


def _role(parameters: Mapping[str, Parameter]) -> Role:
    value = parameters.get("role", ROLES[0])
    if isinstance(value, str):
        return value
    with about("parameters[role]"):
        raise InvalidInput(f"role is {value!r}; give passage, query or the name of a prompt")


def _truncation(parameters: Mapping[str, Parameter]) -> Truncation:
    value = parameters.get("truncate")
    if isinstance(value, bool):
        return "truncate" if value else "error"
    return _word(parameters, "truncate", get_args(Truncation), "truncate")


def _priority(parameters: Mapping[str, Parameter]) -> Priority:
    value = parameters.get("priority")
    if isinstance(value, int) and not isinstance(value, bool):
        level = messages.whole_number(
            "parameters[priority]", value, low=0, high=len(PRIORITIES) - 1
        )
        return PRIORITIES[level]
    return _word(parameters, "priority", get_args(Priority), "interactive")
