"""KServe v2 over gRPC: `inference.GRPCInferenceService`, as Triton's clients speak it."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final, NoReturn

from tritonclient.grpc import service_pb2, service_pb2_grpc

from attar.errors import InvalidInput, ShapeError, Unimplemented
from attar.server.call import current
from attar.server.engine.models import Models
from attar.server.errors import about, to_status
from attar.server.steps import off_the_loop, request_bytes, steps

from . import convert, kserve, messages
from .guard import Context
from .stream import in_order

SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

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


class KServeService(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """inference.GRPCInferenceService."""

    def __init__(
        self,
        models: Models,
        *,
        max_items: int,
        max_stream_requests: int,
        draining: asyncio.Event,
    ) -> None:
        """Serve these models; a stream stops reading when `draining` is set."""
        self._models = models
        self._max_items = max_items
        self._max_stream_requests = max_stream_requests
        self._draining = draining

    async def ServerLive(self, request: Any, context: Context) -> Any:  # noqa: ARG002, D102
        return service_pb2.ServerLiveResponse(live=True)

    async def ServerReady(self, request: Any, context: Context) -> Any:  # noqa: ARG002, D102
        ready = self._models.ready and not self._draining.is_set()
        return service_pb2.ServerReadyResponse(ready=ready)

    async def ModelReady(self, request: Any, context: Context) -> Any:  # noqa: ARG002, D102
        ready = kserve.ready(self._models, request.name, request.version)
        return service_pb2.ModelReadyResponse(ready=ready)

    async def ServerMetadata(self, request: Any, context: Context) -> Any:  # noqa: ARG002, D102
        return service_pb2.ServerMetadataResponse(**kserve.server_metadata())

    async def ModelMetadata(self, request: Any, context: Context) -> Any:  # noqa: ARG002, D102
        told = kserve.model_metadata(self._models, request.name, request.version)
        return service_pb2.ModelMetadataResponse(**told)

    async def ModelConfig(self, request: Any, context: Context) -> Any:  # noqa: ARG002, D102
        told = kserve.model_config(
            self._models, request.name, request.version, max_items=self._max_items
        )
        return service_pb2.ModelConfigResponse(config=told)

    async def ModelInfer(self, request: Any, context: Context) -> Any:  # noqa: D102
        inferred = await self._infer(request, convert.deadline(context), wait=False)
        return await messages.answer(_size(inferred), lambda: [_encode(inferred)])

    async def ModelStreamInfer(  # noqa: D102
        self, request_iterator: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        deadline = convert.deadline(context)
        answers = in_order(
            request_iterator,
            lambda request: self._answer(request, deadline),
            at_once=self._max_stream_requests,
            draining=self._draining,
        )
        async with aclosing(answers):
            async for answer in answers:
                yield answer

    async def ModelStatistics(self, request: Any, context: Context) -> Any:  # noqa: ARG002, D102
        told = kserve.statistics(self._models, request.name, request.version)
        return service_pb2.ModelStatisticsResponse(model_stats=told)

    async def RepositoryIndex(self, request: Any, context: Context) -> Any:  # noqa: ARG002, D102
        found = kserve.index(self._models, repository=request.repository_name, ready=request.ready)
        return service_pb2.RepositoryIndexResponse(models=found)

    async def RepositoryModelLoad(  # noqa: D102
        self,
        request: Any,
        context: Context,  # noqa: ARG002
    ) -> Any:
        await kserve.load(
            self._models,
            request.model_name,
            repository=request.repository_name,
            parameters=request.parameters,
        )
        return service_pb2.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(  # noqa: D102
        self,
        request: Any,
        context: Context,  # noqa: ARG002
    ) -> Any:
        await kserve.unload(
            self._models,
            request.model_name,
            repository=request.repository_name,
            parameters=request.parameters,
        )
        return service_pb2.RepositoryModelUnloadResponse()

    async def _no_shared_memory(self, request: Any, context: Context) -> NoReturn:  # noqa: ARG002
        raise Unimplemented("this server shares no memory with clients; send a tensor's contents")

    SystemSharedMemoryStatus = SystemSharedMemoryRegister = _no_shared_memory
    SystemSharedMemoryUnregister = CudaSharedMemoryStatus = _no_shared_memory
    CudaSharedMemoryRegister = CudaSharedMemoryUnregister = _no_shared_memory

    async def _no_settings(self, request: Any, context: Context) -> NoReturn:  # noqa: ARG002
        raise Unimplemented("logs and traces are set when the server starts; see its settings")

    TraceSetting = LogSettings = _no_settings

    async def _answer(self, request: Any, deadline: float | None) -> Any:
        try:
            current().message()
            inferred = await self._infer(request, deadline, wait=True)
        except Exception as error:  # noqa: BLE001 (a stream outlives any one request)
            status = to_status(error, fields=convert.fields(request))
            answer = service_pb2.ModelInferResponse(id=request.id, model_name=request.model_name)
            answer.parameters["status"].int64_param = status.code
            return service_pb2.ModelStreamInferResponse(
                error_message=status.message, infer_response=answer
            )
        return await messages.answer(_size(inferred), lambda: [_last(inferred)])

    async def _infer(self, request: Any, deadline: float | None, *, wait: bool) -> kserve.Inferred:
        return await kserve.infer(
            self._models,
            await off_the_loop(request_bytes(), lambda: _inference(request)),
            max_items=self._max_items,
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


def _inputs(request: Any) -> tuple[kserve.Tensor, ...]:
    """The request's tensors, each with its contents: all of them raw, or all of them typed."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        with about("raw_input_contents"):
            raise ShapeError(
                f"raw_input_contents are {len(raw)}, and inputs {len(request.inputs)}; "
                "give one for each"
            )
    found = []
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
                    raise InvalidInput("contents are given beside raw_input_contents; give one")
            with about(f"raw_input_contents[{index}]"):
                found.append(kserve.from_raw(info, raw[index]))
        else:
            with about(f"inputs[{index}].contents"):
                found.append(kserve.from_values(info, _typed(info, tensor.contents)))
    return tuple(found)


def _typed(info: kserve.TensorInfo, contents: Any) -> list[Any]:
    name = _CONTENTS.get(info.datatype)
    others = [field.name for field, _ in contents.ListFields() if field.name != name]
    if name is None or others:
        known = f"in {name}" if name else "raw, or is unknown"
        raise InvalidInput(
            f"contents of {info.datatype[:20]!r} travel {known}; got {', '.join(others) or 'none'}"
        )
    values = getattr(contents, name)
    return [value for part in steps(len(values)) for value in values[part]]


def _parameters(parameters: Mapping[str, Any]) -> dict[str, kserve.Parameter]:
    found: dict[str, kserve.Parameter] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            with about(f"parameters[{name}]"):
                raise InvalidInput(f"{name[:80]!r} has no value")
        found[name] = getattr(parameter, kind)
    return found


def _requested(request: Any) -> list[str]:
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
    answer = _encode(inferred)
    # What Triton's clients wait for, of models that may answer a request several times.
    answer.parameters["triton_final_response"].bool_param = True
    return service_pb2.ModelStreamInferResponse(infer_response=answer)


def _encode(inferred: kserve.Inferred) -> Any:
    kind = service_pb2.ModelInferResponse.InferOutputTensor
    answer = service_pb2.ModelInferResponse(
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
        answer.parameters[name].string_param = str(value)
    return answer
