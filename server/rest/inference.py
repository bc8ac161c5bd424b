"""Text Embeddings Inference's routes: `/embed`, `/predict` and `/info`.

https://huggingface.github.io/text-embeddings-inference
"""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from attar.errors import InvalidInput, Unavailable
from attar.token_vectors import at_unit_length

from ..cooperative import LARGE_JOBS, STEP, off_the_loop, steps
from ..engine.models import Model, Models
from ..errors import about
from ..usecases.embed import Embedded, embed
from ..usecases.predict import PAIR_LABEL, Predictions, predict
from .endpoint import HttpRequest, document
from .inference_schemas import (
    EmbedRequest,
    Labels,
    ModelInfo,
    ModelType,
    Pooling,
    PredictRequest,
)
from .openai import timings
from .schemas import shown, validated

_BYTES_PER_NUMBER: Final = 8  # of JSON
_PREDICTION_BYTES: Final = 48


class Inference:
    """`/embed`, `/predict` and `/info` over the models of one server."""

    def __init__(
        self, models: Models, *, max_items: int, max_concurrent_requests: int, max_batch_tokens: int
    ) -> None:
        """Serve these models; a request takes up to `max_items`, and `info` tells the limits."""
        self._models = models
        self._max_items = max_items
        self._max_concurrent_requests = max_concurrent_requests
        self._max_batch_tokens = max_batch_tokens

    async def embed(self, http_request: HttpRequest) -> Response:
        """Embed the inputs of a request; one bad input fails it."""
        body = await document(http_request)
        request = await off_the_loop(
            len(http_request.body),
            lambda: validated(EmbedRequest, body, max_items=self._max_items),
        )
        model = self._models.get(request.model)
        with about("model"):
            model.require_kind(request.inputs)
        with about("prompt_name"):
            model.encoder.prepare([], role=request.prompt_name)
        with about("dimensions"):
            if request.dimensions not in (None, *model.encoder.dims):
                raise InvalidInput(
                    f"dimensions is {shown(request.dimensions)}; {model.name} was trained for "
                    f"{list(model.encoder.dims)}"
                )
        refuse_other_end(model, request.truncation_direction)
        normalized = model.encoder.manifest.output.normalized
        with about("normalize"):
            if normalized and not request.normalize:
                raise InvalidInput(
                    f"normalize is false, and the graph of {model.name} gives embeddings of unit "
                    "length; leave it out"
                )
        with about("inputs"):
            embedded = await embed(
                self._models,
                model=model.name,
                items=request.inputs,
                role=request.prompt_name,
                dims=request.dimensions,
                truncation="truncate" if request.truncate else "error",
                all_or_nothing=True,
                form="json",
            )
        scale = request.normalize and not normalized
        size = embedded.vectors.size * _BYTES_PER_NUMBER
        written = await off_the_loop(
            size,
            lambda: _lists(at_unit_length(embedded.vectors) if scale else embedded.vectors),
        )
        return _answer(written, embedded)

    async def predict(self, http_request: HttpRequest) -> Response:
        """Give the labels of each input of a request, best first; one bad input fails it."""
        body = await document(http_request)
        request = await off_the_loop(
            len(http_request.body),
            lambda: validated(PredictRequest, body, max_items=self._max_items),
        )
        model = self._models.get(request.model.partition("/")[0])
        refuse_other_end(model, request.truncation_direction)
        with about("inputs"):
            predictions = await predict(
                self._models,
                inputs=request.inputs,
                model=request.model,
                raw_scores=request.raw_scores,
                truncation="truncate" if request.truncate else "error",
            )
        given = body["inputs"]
        alone = isinstance(given, str) or isinstance(given[0], str)

        def write() -> bytes:
            rows = list(_ranked(predictions))
            return (rows[0] if alone else f"[{','.join(rows)}]").encode()

        size = predictions.scores.size * _PREDICTION_BYTES
        return _answer(await off_the_loop(size, write), predictions.embedded)

    async def info(self, http_request: HttpRequest) -> Response:
        """Describe the first model, for the API knows one, and the limits of a request."""
        model = next(iter(self._models), None)
        if model is None:
            raise Unavailable("the server has no model")
        labels = Labels(id2label={"0": PAIR_LABEL}, label2id={PAIR_LABEL: 0})
        described = ModelInfo(
            model_id=model.name,
            model_sha=model.encoder.fingerprint,
            model_dtype=model.encoder.variant.name,
            model_type=ModelType(reranker=labels)
            if model.encoder.manifest.scores_pairs
            else ModelType(embedding=Pooling(pooling="graph")),
            max_concurrent_requests=self._max_concurrent_requests,
            max_input_length=model.encoder.max_length or 0,
            max_batch_tokens=self._max_batch_tokens,
            max_client_batch_size=self._max_items,
            auto_truncate=True,
            tokenization_workers=LARGE_JOBS,
            version=version("attar"),
        )
        return JSONResponse(described.model_dump(exclude_none=True))


def refuse_other_end(model: Model, direction: str | None) -> None:
    """Raise InvalidInput for a `truncation_direction` that is not the model's own."""
    side = model.encoder.manifest.preprocessing.truncation_side
    if direction is not None and direction.lower() != side:
        with about("truncation_direction"):
            raise InvalidInput(
                f"truncation_direction is {direction}; {model.name} cuts texts on the {side}: "
                "leave it out"
            )


def _lists(vectors: NDArray[np.float32]) -> bytes:
    rows = [
        _dump(row.tolist())
        for part in steps(len(vectors), max(1, STEP // vectors.shape[1]))
        for row in vectors[part]
    ]
    return f"[{','.join(rows)}]".encode()


def _ranked(predictions: Predictions) -> Iterator[str]:
    """Give the labels of each input with their scores as JSON, best first."""
    labels = predictions.labels
    for part in steps(len(predictions.scores), max(1, STEP // len(labels))):
        for scores in predictions.scores[part]:
            order = np.argsort(-scores, kind="stable").tolist()
            yield _dump([{"score": float(scores[i]), "label": labels[i]} for i in order])


def _answer(written: bytes, embedded: Embedded) -> Response:
    return Response(written, media_type="application/json", headers=timings(embedded))


_dump: Callable[[Any], str] = json.JSONEncoder(separators=(",", ":")).encode
