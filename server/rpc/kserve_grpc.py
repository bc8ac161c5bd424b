"""KServe v2 over gRPC: `inference.GRPCInferenceService`, as Triton's clients speak it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn

import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from attar.errors import InvalidInput, ShapeError, Unimplemented

from .. import kserve
from ..cooperative import off_the_loop, request_bytes, steps
from ..engine.models import Models
from ..errors import about, to_status
from ..request_context import current
from . import incremental_protobuf, messages
from .interceptor import Context
from .stream import in_order

_CONTENTS: Final = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    kserve.BYTES: "bytes_contents",
}
"""The field of InferTensorContents that holds a datatype; FP16 has none, and travels raw."""
_WIDE: Final = {
    "BOOL": "bool",
    **dict.fromkeys(("INT8", "INT16", "INT32", "INT64"), "int64"),
    **dict.fromkeys(("UINT8", "UINT16", "UINT32", "UINT64"), "uint64"),
    "FP32": "float32",
    "FP64": "float64",
}
"""The numpy dtype that holds every value of the field."""


class KServeService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """inference.GRPCInferenceService."""

    def __init__(
        self,
        models: Models,
        *,
        max_items: int,
        max_name_characters: int,
        max_stream_requests: int,
        draining: asyncio.Event,
    ) -> None:
        """Serve these models; a stream stops reading when `draining` is set."""
        self._models = models
        self._max_items = max_items
        self._max_name = max_name_characters
        self._max_stream_requests = max_stream_requests
        self._draining = draining

    async def ServerLive(self, request: Any, context: Context) -> Any:
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Context) -> Any:
        ready = self._models.ready and not self._draining.is_set()
        return service_pb2.ServerReadyResponse(ready=ready)

    async def ModelReady(self, request: Any, context: Context) -> Any:
        ready = kserve.ready(self._models, request.name, request.version)
        return service_pb2.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Any, context: Context) -> Any:
        return service_pb2.ServerMetadataResponse(**kserve.server_metadata())

    async def ModelMetadata(self, request: Any, context: Context) -> Any:
        metadata = kserve.model_metadata(self._models, request.name, request.version)
        return service_pb2.ModelMetadataResponse(**metadata)

    async def ModelConfig(self, request: Any, context: Context) -> Any:
        config = kserve.model_config(
            self._models, request.name, request.version, max_items=self._max_items
        )
        return service_pb2.ModelConfigResponse(config=config)

    async def ModelInfer(self, request: Any, context: Context) -> Any:
        inferred = await self._infer(request, messages.deadline(context), wait=False)
        return await incremental_protobuf.serialize(
            service_pb2.ModelInferResponse, _size(inferred), lambda: [_encode(inferred)]
        )

    def ModelStreamInfer(
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncGenerator[Any, None]:
        deadline = messages.deadline(context)
        return in_order(
            request_iterator,
            lambda request: self._respond(request, deadline),
            at_once=self._max_stream_requests,
            draining=self._draining,
        )

    async def ModelStatistics(self, request: Any, context: Context) -> Any:
        statistics = kserve.statistics(self._models, request.name, request.version)
        return service_pb2.ModelStatisticsResponse(model_stats=statistics)

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:
        versions = kserve.index(
            self._models, repository=request.repository_name, ready=request.ready
        )
        return service_pb2.RepositoryIndexResponse(models=versions)

    async def RepositoryModelLoad(
        self,
        request: Any,
        context: Context,
    ) -> Any:
        await kserve.load(
            self._models,
            request.model_name,
            repository=request.repository_name,
            parameters=request.parameters,
        )
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self,
        request: Any,
        context: Context,
    ) -> Any:
        await kserve.unload(
            self._models,
            request.model_name,
            repository=request.repository_name,
            parameters=request.parameters,
        )
        return service_pb2.RepositoryModelUnloadResponse()

    async def _no_shared_memory(self, request: Any, context: Context) -> NoReturn:
        raise Unimplemented("this server shares no memory with clients; send a tensor's contents")

    SystemSharedMemoryStatus = SystemSharedMemoryRegister = _no_shared_memory
    SystemSharedMemoryUnregister = CudaSharedMemoryStatus = _no_shared_memory
    CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _no_shared_memory

    async def _no_settings(self, request: Any, context: Context) -> NoReturn:
        raise Unimplemented("logs and traces are set when the server starts; see its settings")

    TraceSetting = LogSettings = _no_settings

    async def _respond(self, request: Any, deadline: float | None) -> Any:
        try:
            current().message()
            inferred = await self._infer(request, deadline, wait=True)
        except Exception as error:
            status = to_status(error, fields=messages.fields(request))
            response = service_pb2.ModelInferResponse(
                id=request.id[: self._max_name], model_name=request.model_name[: self._max_name]
            )
            response.parameters["status"].int64_param = status.code
            return service_pb2.ModelStreamInferResponse(
                error_message=status.message, infer_response=response
            )
        return await incremental_protobuf.serialize(
            service_pb2.ModelStreamInferResponse, _size(inferred), lambda: [_last(inferred)]
        )

    async def _infer(self, request: Any, deadline: float | None, *, wait: bool) -> kserve.Inferred:
        return await kserve.infer(
            self._models,
            await off_the_loop(request_bytes(), lambda: _inference(request)),
            max_items=self._max_items,
            max_name_characters=self._max_name,
            deadline=deadline,
            wait=wait,
        )


def _inference(request: Any) -> kserve.Inference:
    return kserve.Inference(
        model=request.model_name,
        version=request.model_version,
        id=request.id,
        inputs=_inputs(request),
        parameters=_parameters(request.parameters),
        outputs=tuple(_requested(request)),
    )


def _inputs(request: Any) -> tuple[kserve.Input, ...]:
    """The request's tensors, each with its contents: all of them raw, or all of them typed."""
    kserve.refuse_many("inputs", len(request.inputs))
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        with about("raw_input_contents"):
            raise ShapeError(
                f"raw_input_contents are {len(raw)}, and inputs {len(request.inputs)}; "
                "give one for each"
            )
    tensors = []
    for index, tensor in enumerate(request.inputs):
        with about(f"inputs[{index}].parameters"):
            if tensor.parameters:
                raise InvalidInput(
                    f"parameters of the input are {', '.join(sorted(tensor.parameters))[:80]}; "
                    "none is known: there is no shared memory, so send the contents"
                )
        info = kserve.TensorInfo(
            name=tensor.name, datatype=tensor.datatype, shape=tuple(tensor.shape)
        )
        if raw:
            with about(f"inputs[{index}].contents"):
                if tensor.contents.ListFields():
                    raise InvalidInput("contents are given next to raw_input_contents; give one")
            read = partial(_raw, info, raw[index], index)
        else:
            with about(f"inputs[{index}].contents"):
                values = _contents(info, tensor.contents)
            read = partial(_typed, info, values, index)
        tensors.append(kserve.Input(info=info, read=read))
    return tuple(tensors)


def _raw(info: kserve.TensorInfo, contents: bytes, index: int) -> kserve.Tensor:
    with about(f"raw_input_contents[{index}]"):
        return kserve.from_raw(info, contents)


def _typed(info: kserve.TensorInfo, values: Sequence[Any], index: int) -> kserve.Tensor:
    with about(f"inputs[{index}].contents"):
        if info.datatype == kserve.BYTES:
            return kserve.from_values(info, list(values))
        numbers = np.empty(len(values), _WIDE[info.datatype])
        for part in steps(len(values)):
            numbers[part] = values[part]
        return kserve.from_numbers(info, numbers)


def _contents(info: kserve.TensorInfo, contents: Any) -> Sequence[Any]:
    """The field that holds the tensor's values, as many as its shape takes."""
    name = _CONTENTS.get(info.datatype)
    others = [field.name for field, _ in contents.ListFields() if field.name != name]
    if name is None or others:
        known = f"in {name}" if name else "raw, or is unknown"
        raise InvalidInput(
            f"contents of {info.datatype[:20]!r} travel {known}; got {', '.join(others) or 'none'}"
        )
    values: Sequence[Any] = getattr(contents, name)
    kserve.require_size(info, len(values))
    return values


def _parameters(parameters: Mapping[str, Any]) -> dict[str, kserve.Parameter]:
    kserve.refuse_many("parameters", len(parameters))
    values: dict[str, kserve.Parameter] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            with about(f"parameters[{name}]"):
                raise InvalidInput(f"{name[:80]!r} has no value")
        values[name] = getattr(parameter, kind)
    return values


def _requested(request: Any) -> list[str]:
    kserve.refuse_many("outputs", len(request.outputs))
    for index, output in enumerate(request.outputs):
        with about(f"outputs[{index}].parameters"):
            if output.parameters:
                raise InvalidInput(
                    f"parameters of the output are {', '.join(sorted(output.parameters))[:80]}; "
                    "none is known: outputs are raw, and not classified"
                )
    return [output.name for output in request.outputs]


def _size(inferred: kserve.Inferred) -> int:
    return sum(tensor.array.nbytes for tensor in inferred.outputs)


def _last(inferred: kserve.Inferred) -> Any:
    """The one answer of a stream's request."""
    response = _encode(inferred)
    # What Triton's clients wait for, of models that may answer a request several times.
    response.parameters["triton_final_response"].bool_param = True
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def _encode(inferred: kserve.Inferred) -> Any:
    kind = service_pb2.ModelInferResponse.InferOutputTensor
    response = service_pb2.ModelInferResponse(
        model_name=inferred.model,
        model_version=inferred.version,
        id=inferred.id,
        outputs=[
            kind(name=tensor.name, datatype=tensor.datatype, shape=tensor.array.shape)
            for tensor in inferred.outputs
        ],
        raw_output_contents=map(kserve.to_raw, inferred.outputs),
    )
    for name, value in inferred.parameters.items():
        response.parameters[name].string_param = str(value)
    return response
