"""Error formats: how the APIs that the HTTP port speaks say why there is no answer."""

from collections.abc import Mapping
from typing import Any, Final

from google.protobuf import json_format
from google.rpc import code_pb2
from google.rpc.status_pb2 import Status

from attar.errors import NotFound

from .endpoint import ErrorFormat, Problem
from .schemas import Error, OpenAIError, OpenAIErrorDetail, StatusError, TypedError

_NOT_FOUND: Final = code_pb2.Code.Value("NOT_FOUND")
_INVALID: Final = code_pb2.Code.Value("INVALID_ARGUMENT")
_OPENAI_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}
_INFERENCE_TYPES: Final[Mapping[int, str]] = {
    409: "Backend",
    429: "Overloaded",
    503: "Unhealthy",
}


def _kserve(problem: Problem) -> dict[str, Any]:
    return Error(error=problem.message).model_dump()


def _openai(problem: Problem) -> dict[str, Any]:
    server = "server_error" if problem.code >= 500 else "invalid_request_error"
    code = "model_not_found" if problem.reason == NotFound.reason else problem.reason.lower()
    detail = OpenAIErrorDetail(
        message=problem.message,
        type=_OPENAI_TYPES.get(problem.code, server),
        param=problem.field or None,
        code=code,
    )
    return OpenAIError(error=detail).model_dump()


def _text_embeddings_inference(problem: Problem) -> dict[str, Any]:
    other = "Backend" if problem.code >= 500 else "Validation"
    kind = _INFERENCE_TYPES.get(problem.code, other)
    return {"error": problem.message, "error_type": kind}


def _google(problem: Problem) -> dict[str, Any]:
    # What is refused before a route is found has no status of gRPC.
    code = _NOT_FOUND if problem.code == 404 else _INVALID
    status = problem.status or Status(code=code, message=problem.message)
    detail = {
        "code": problem.code,
        "message": status.message,
        "status": code_pb2.Code.Name(status.code),
        "details": [json_format.MessageToDict(detail) for detail in status.details],
    }
    return {"error": detail}


KSERVE: Final = ErrorFormat(write=_kserve, schema=Error)
"""KServe's, which every route without another one uses."""
GOOGLE: Final = ErrorFormat(write=_google, schema=StatusError)
"""https://google.aip.dev/193, of the calls of gRPC as JSON."""
OPENAI: Final = ErrorFormat(write=_openai, schema=OpenAIError)
TEXT_EMBEDDINGS_INFERENCE: Final = ErrorFormat(
    write=_text_embeddings_inference,
    schema=TypedError,
    # What is wrong with a request, a model that does not do what is asked, and a run that failed.
    statuses={400: 413, 409: 424, 500: 424},
)
"""https://huggingface.github.io/text-embeddings-inference"""
