"""Error formats: how the APIs that the HTTP port speaks say why there is no answer."""

from collections.abc import Mapping
from typing import Any, Final

from attar.errors import NotFound

from .endpoint import ErrorFormat, Problem
from .schemas import Error, OpenAIError, OpenAIErrorDetail, TypedError

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


KSERVE: Final = ErrorFormat(write=_kserve, schema=Error)
"""KServe's, which every route without another one uses."""
OPENAI: Final = ErrorFormat(write=_openai, schema=OpenAIError)
TEXT_EMBEDDINGS_INFERENCE: Final = ErrorFormat(
    write=_text_embeddings_inference,
    schema=TypedError,
    # What is wrong with a request, a model that does not do what is asked, and a run that failed.
    statuses={400: 413, 409: 424, 500: 424},
)
"""https://huggingface.github.io/text-embeddings-inference"""
