"""KServe v2 over HTTP: JSON, with Triton's extension of tensors as bytes behind it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from pydantic import BaseModel
from starlette.responses import JSONResponse, Response

from attar.errors import InvalidInput, ShapeError, Unavailable

from .. import kserve
from ..cooperative import off_the_loop, steps
from ..engine.models import Models
from ..errors import about
from ..kserve import Inference, Inferred, Input, Parameter, Tensor, TensorInfo
from .endpoint import BINARY, JSON, HttpRequest, document, json_kind
from .json_reader import ARRAYS
from .kserve_schemas import (
    IndexRequest,
    InferInput,
    InferRequest,
    Live,
    ModelConfig,
    ModelIndex,
    ModelMetadata,
    ModelReady,
    RepositoryRequest,
    RequestedOutput,
    ServerMetadata,
    Statistics,
)
from .schemas import Request, validated

TYPES: Final = (JSON, BINARY, "")
"""Triton's clients send no type, or that of bytes; the edge says where none will do."""
HEADER: Final = "inference-header-content-length"
_BYTES_PER_NUMBER: Final = 8  # of JSON
_SIZE: Final = "binary_data_size"
_ALL_BINARY: Final = "binary_data_output"


class KServe:
    """`/v2` over the models of one server."""

    def __init__(self, models: Models, *, max_items: int, max_name_characters: int) -> None:
        """Serve these models; a request takes up to `max_items`."""
        self._models = models
        self._max_items = max_items
        self._max_name = max_name_characters

    async def live(self, http_request: HttpRequest) -> Response:
        """Say that the process answers."""
        return _json(Live, {"live": True})

    async def server(self, http_request: HttpRequest) -> Response:
        """Say what the server is."""
        return _json(ServerMetadata, kserve.server_metadata())

    async def model(self, http_request: HttpRequest) -> Response:
        """Say what a model takes and gives."""
        metadata = kserve.model_metadata(self._models, *_named(http_request))
        return _json(ModelMetadata, metadata)

    async def config(self, http_request: HttpRequest) -> Response:
        """Describe a model as Triton does."""
        name, version = _named(http_request)
        config = kserve.model_config(self._models, name, version, max_items=self._max_items)
        return _json(ModelConfig, config)

    async def ready(self, http_request: HttpRequest) -> Response:
        """Say whether a model can answer, by the status too."""
        name, version = _named(http_request)
        self._models.get(name, version)  # NotFound lists what there is
        if not kserve.ready(self._models, name, version):
            raise Unavailable(f"model {name} is not ready; retry later")
        return _json(ModelReady, {"name": name, "ready": True})

    async def statistics(self, http_request: HttpRequest) -> Response:
        """Say what a model has done, or every model."""
        statistics = kserve.statistics(self._models, *_named(http_request))
        return _json(Statistics, {"model_stats": statistics})

    async def index(self, http_request: HttpRequest) -> Response:
        """List the models that are known."""
        request = await _optional(IndexRequest, http_request)
        models = kserve.index(self._models, repository="", ready=request.ready)
        return _json(ModelIndex, models)

    async def load(self, http_request: HttpRequest) -> Response:
        """Load a model."""
        name, request = http_request.path["model"], await _optional(RepositoryRequest, http_request)
        await kserve.load(self._models, name, repository="", parameters=request.parameters)
        return JSONResponse({})

    async def unload(self, http_request: HttpRequest) -> Response:
        """Stop serving a model."""
        name, request = http_request.path["model"], await _optional(RepositoryRequest, http_request)
        await kserve.unload(self._models, name, repository="", parameters=request.parameters)
        return JSONResponse({})

    async def infer(self, http_request: HttpRequest) -> Response:
        """Answer one request."""
        size = _json_size(http_request)
        body = await document(http_request, size=size)
        binary = memoryview(http_request.body)[size:]
        request, raw = await off_the_loop(size, lambda: _request(http_request, body, binary))
        inferred = await kserve.infer(
            self._models,
            request,
            max_items=self._max_items,
            max_name_characters=self._max_name,
        )
        size = sum(tensor.array.size for tensor in inferred.outputs) * _BYTES_PER_NUMBER
        return await off_the_loop(size, lambda: _response(inferred, raw))


def _request(
    http_request: HttpRequest, body: Mapping[str, Any], binary: memoryview
) -> tuple[Inference, Mapping[str, bool]]:
    """The request, and which of its outputs are to come as bytes; "" is any other."""
    document = validated(InferRequest, body)
    name, version = _named(http_request)
    raw = _as_bytes(document.outputs, _all_binary(document.parameters))
    request = Inference(
        model=name,
        version=version,
        id=document.id,
        inputs=tuple(_inputs(document.inputs, binary)),
        parameters=document.parameters,
        outputs=tuple(output.name for output in document.outputs),
        form="bytes" if raw.get("embedding", raw[""]) else "json",
    )
    return request, raw


def _named(http_request: HttpRequest) -> tuple[str, str]:
    return http_request.path.get("model", ""), http_request.path.get("version", "")


async def _optional(schema: type[Request], http_request: HttpRequest) -> Request:
    """The request of a body, which may be empty."""
    return validated(schema, await document(http_request) if http_request.body else {})


def _json(schema: type[BaseModel], document: object) -> JSONResponse:
    return JSONResponse(schema.model_validate(document).model_dump())


def _json_size(http_request: HttpRequest) -> int:
    """How long the JSON in front is: as its header says, or all of it."""
    length = http_request.headers.get(HEADER)
    size = len(http_request.body)
    if length is not None:
        if not (
            length.isascii() and length.isdecimal() and len(length) < 12 and int(length) <= size
        ):
            raise InvalidInput(f"{HEADER} is {length[:20]!r}; the body has {size} bytes")
        size = int(length)
    return size


def _all_binary(parameters: Mapping[str, Parameter]) -> bool:
    every = parameters.get(_ALL_BINARY, False)
    with about(f"parameters[{_ALL_BINARY}]"):
        if not isinstance(every, bool):
            raise InvalidInput(f"{_ALL_BINARY} is {json_kind(every)}; give true or false")
    return every


def _as_bytes(outputs: Sequence[RequestedOutput], every: bool) -> Mapping[str, bool]:
    """Whether each requested output is to come as bytes; "" is any other."""
    raw = {"": every}
    for output in outputs:
        chosen = output.parameters.binary_data
        raw[output.name] = every if chosen is None else chosen
    return raw


def _inputs(tensors: Sequence[InferInput], binary: memoryview) -> Iterator[Input]:
    start = 0
    for index, tensor in enumerate(tensors):
        at, size = f"inputs[{index}]", tensor.parameters.binary_data_size
        info = TensorInfo(name=tensor.name, datatype=tensor.datatype, shape=tuple(tensor.shape))
        if size is None:
            yield Input(info=info, read=partial(_listed, info, tensor.data, at))
            continue
        with about(f"{at}.parameters"):
            if size > len(binary) - start:
                raise ShapeError(
                    f"{_SIZE} is {size}; {len(binary) - start} bytes are left behind the JSON"
                )
        with about(f"{at}.data"):
            if "data" in tensor.model_fields_set:
                raise InvalidInput(f"{at} has data and {_SIZE}; give one of them")
        yield Input(info=info, read=partial(_raw, info, binary[start : start + size], at))
        start += size
    if start != len(binary):
        raise ShapeError(
            f"{len(binary) - start} bytes behind the JSON belong to no input; give each its {_SIZE}"
        )


def _raw(info: TensorInfo, data: memoryview, at: str) -> Tensor:
    with about(f"{at}.data"):
        return kserve.from_raw(info, data)


def _listed(info: TensorInfo, data: object, at: str) -> Tensor:
    with about(f"{at}.data"):
        return kserve.from_values(info, _values(info, data))


def _values(info: TensorInfo, data: object) -> Sequence[Any]:
    if not isinstance(data, ARRAYS):
        raise InvalidInput(f"data of {info.name[:80]!r} is missing, or is no list")
    if info.datatype != kserve.BYTES:
        return data
    return _encoded(data, info.name)


def _encoded(values: Sequence[Any], name: str, *, axes: int = kserve.MAX_AXES) -> list[Any]:
    """Texts as bytes, nested as they were."""
    if axes > 1 and all(isinstance(value, list) for value in values):
        return [_encoded(value, name, axes=axes - 1) for value in values]
    if not all(isinstance(value, str) for value in values):
        raise ShapeError(f"data of {name[:80]!r} is not text throughout")
    return [value.encode() for value in values]


def _response(inferred: Inferred, raw: Mapping[str, bool]) -> Response:
    outputs, behind = [], []
    for tensor in inferred.outputs:
        output: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.array.shape),
        }
        if raw.get(tensor.name, raw[""]):
            behind.append(kserve.to_raw(tensor))
            outputs.append(_dump({**output, "parameters": {_SIZE: len(behind[-1])}}))
        else:
            flat = tensor.array.reshape(-1)
            numbers = [_dump(flat[part].tolist())[1:-1] for part in steps(len(flat))]
            outputs.append(f'{_dump(output)[:-1]},"data":[{",".join(numbers)}]}}')
    response = {
        "model_name": inferred.model,
        "model_version": inferred.version,
        "id": inferred.id,
        "parameters": dict(inferred.parameters),
    }
    front = f'{_dump(response)[:-1]},"outputs":[{",".join(outputs)}]}}'.encode()
    if not behind:
        return Response(front, media_type=JSON)
    return Response(
        b"".join((front, *behind)), media_type=BINARY, headers={HEADER: str(len(front))}
    )


def _dump(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))
