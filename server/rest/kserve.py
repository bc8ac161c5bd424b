"""KServe v2 over HTTP: JSON, with Triton's extension of tensors as bytes behind it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from starlette.responses import JSONResponse, Response

from attar.errors import InvalidInput, ShapeError, Unavailable

from .. import kserve
from ..cooperative import off_the_loop, steps
from ..engine.models import Models
from ..errors import about
from ..kserve import Inference, Inferred, Input, Parameter, Tensor, TensorInfo
from .endpoint import BINARY, JSON, HttpRequest, document, json_kind
from .json_reader import ARRAYS

TYPES: Final = (JSON, BINARY, "")
"""Triton's clients send no type, or that of bytes; the edge says where none will do."""
HEADER: Final = "inference-header-content-length"
_REQUEST: Final = ("id", "parameters", "inputs", "outputs")
_INPUT: Final = ("name", "shape", "datatype", "parameters", "data")
_OUTPUT: Final = ("name", "parameters")
_BYTES_PER_NUMBER: Final = 8  # of JSON
_SIZE: Final = "binary_data_size"
_BINARY: Final = "binary_data"
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
        return JSONResponse({"live": True})

    async def server(self, http_request: HttpRequest) -> Response:
        """Say what the server is."""
        return JSONResponse(kserve.server_metadata())

    async def model(self, http_request: HttpRequest) -> Response:
        """Say what a model takes and gives."""
        return JSONResponse(kserve.model_metadata(self._models, *_named(http_request)))

    async def config(self, http_request: HttpRequest) -> Response:
        """Describe a model as Triton does."""
        return JSONResponse(
            kserve.model_config(self._models, *_named(http_request), max_items=self._max_items)
        )

    async def ready(self, http_request: HttpRequest) -> Response:
        """Say whether a model can answer, by the status too."""
        name, version = _named(http_request)
        self._models.get(name, version)  # NotFound lists what there is
        if not kserve.ready(self._models, name, version):
            raise Unavailable(f"model {name} is not ready; retry later")
        return JSONResponse({"name": name, "ready": True})

    async def statistics(self, http_request: HttpRequest) -> Response:
        """Say what a model has done, or every model."""
        statistics = kserve.statistics(self._models, *_named(http_request))
        return JSONResponse({"model_stats": statistics})

    async def index(self, http_request: HttpRequest) -> Response:
        """List the models that are known."""
        body = await document(http_request) if http_request.body else {}
        _refuse_unknown(body, ("ready",), "the request")
        ready = body.get("ready", False)
        with about("ready"):
            if not isinstance(ready, bool):
                raise InvalidInput(f"ready is {json_kind(ready)}; give true or false")
        return JSONResponse(kserve.index(self._models, repository="", ready=ready))

    async def load(self, http_request: HttpRequest) -> Response:
        """Load a model."""
        await kserve.load(
            self._models,
            http_request.path["model"],
            repository="",
            parameters=await _parameters_of(http_request),
        )
        return JSONResponse({})

    async def unload(self, http_request: HttpRequest) -> Response:
        """Stop serving a model."""
        await kserve.unload(
            self._models,
            http_request.path["model"],
            repository="",
            parameters=await _parameters_of(http_request),
        )
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
    _refuse_unknown(body, _REQUEST, "the request")
    name, version = _named(http_request)
    parameters = _parameters(body.get("parameters", {}), "parameters")
    outputs, raw = _outputs(body.get("outputs", []), _all_binary(parameters))
    request = Inference(
        model=name,
        version=version,
        id=_id(body.get("id", "")),
        inputs=tuple(_inputs(body.get("inputs"), binary)),
        parameters=parameters,
        outputs=outputs,
        form="bytes" if raw.get("embedding", raw[""]) else "json",
    )
    return request, raw


def _named(http_request: HttpRequest) -> tuple[str, str]:
    return http_request.path.get("model", ""), http_request.path.get("version", "")


async def _parameters_of(http_request: HttpRequest) -> dict[str, Parameter]:
    body = await document(http_request) if http_request.body else {}
    _refuse_unknown(body, ("parameters",), "the request")
    return _parameters(body.get("parameters", {}), "parameters")


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


def _id(value: object) -> str:
    with about("id"):
        if not isinstance(value, str):
            raise InvalidInput(f"id is not text; got {json_kind(value)}")
    return value


def _all_binary(parameters: Mapping[str, Parameter]) -> bool:
    every = parameters.get(_ALL_BINARY, False)
    with about(f"parameters[{_ALL_BINARY}]"):
        if not isinstance(every, bool):
            raise InvalidInput(f"{_ALL_BINARY} is {json_kind(every)}; give true or false")
    return every


def _parameters(parameters: object, where: str) -> dict[str, Parameter]:
    with about(where):
        if not isinstance(parameters, Mapping):
            raise InvalidInput(f"{where} is not an object")
        kserve.refuse_many("parameters", len(parameters))
        for name, value in parameters.items():
            if not isinstance(value, bool | int | float | str):
                raise InvalidInput(f"{where} has {name[:80]!r}, which is no number, text or flag")
    return dict(parameters)


def _refuse_unknown(fields: Mapping[str, Any], allowed: tuple[str, ...], where: str) -> None:
    for name in fields:
        if name not in allowed:
            with about(name, ours=False):
                raise InvalidInput(f"{where} has {name[:80]!r}; known are {', '.join(allowed)}")


def _objects(
    values: object, where: str, fields: tuple[str, ...]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    with about(where):
        if not isinstance(values, ARRAYS):
            raise InvalidInput(f"{where} is missing, or is no list of objects")
    kserve.refuse_many(where, len(values))
    for index, item in enumerate(values):
        at = f"{where}[{index}]"
        with about(at):
            if not isinstance(item, Mapping) or not isinstance(item.get("name"), str):
                raise InvalidInput(f"{at} is no object with a name")
        _refuse_unknown(item, fields, at)
        yield at, item


def _outputs(requested: object, every: bool) -> tuple[tuple[str, ...], Mapping[str, bool]]:
    """The requested outputs, and whether each is to come as bytes; "" is any other."""
    names, raw = [], {"": every}
    for at, output in _objects(requested, "outputs", _OUTPUT):
        parameters = _parameters(output.get("parameters", {}), f"{at}.parameters")
        for name, value in parameters.items():
            with about(f"{at}.parameters"):
                if name != _BINARY or not isinstance(value, bool):
                    raise InvalidInput(
                        f"{at}.parameters has {name[:80]!r}; known is {_BINARY}, true or false"
                    )
        names.append(output["name"])
        raw[output["name"]] = bool(parameters.get(_BINARY, every))
    return tuple(names), raw


def _inputs(tensors: object, binary: memoryview) -> Iterator[Input]:
    start = 0
    for at, tensor in _objects(tensors, "inputs", _INPUT):
        parameters = _parameters(tensor.get("parameters", {}), f"{at}.parameters")
        size = parameters.pop(_SIZE, None)
        with about(f"{at}.parameters"):
            if parameters:
                raise InvalidInput(
                    f"{at}.parameters has {', '.join(parameters)[:80]}; known is {_SIZE}"
                )
            if size is not None and not (type(size) is int and 0 <= size <= len(binary) - start):
                raise ShapeError(
                    f"{_SIZE} is {size!r}; {len(binary) - start} bytes are left behind the JSON"
                )
        info = _info(tensor, at)
        with about(f"{at}.data"):
            if isinstance(size, int):
                if "data" in tensor:
                    raise InvalidInput(f"{at} has data and {_SIZE}; give one of them")
                read = partial(_raw, info, binary[start : start + size], at)
                start += size
            else:
                read = partial(_listed, info, tensor.get("data"), at)
        yield Input(info=info, read=read)
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


def _info(tensor: Mapping[str, Any], at: str) -> TensorInfo:
    shape, datatype = tensor.get("shape"), tensor.get("datatype")
    with about(f"{at}.shape"):
        if not isinstance(shape, list) or not all(type(n) is int for n in shape):
            raise ShapeError(f"{at}.shape is missing, or is no list of whole numbers")
    with about(f"{at}.datatype"):
        if not isinstance(datatype, str):
            raise ShapeError(f"{at}.datatype is missing, or is no text")
    return TensorInfo(name=tensor["name"], datatype=datatype, shape=tuple(shape))


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
