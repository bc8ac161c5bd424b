"""Texts in, embeddings out: the model that Triton's Python backend runs.

`attar export-triton` copies this file into a repository, next to the bundle.
Triton's Python needs attar installed, which is numpy, onnxruntime and tokenizers; the host step and
the run are attar's own, so the numbers are those of `attar.load`.  A request's parameter `role`
picks the prompt, "passage" or "query".  One bad request fails alone.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import triton_python_backend_utils as pb

from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.host_step import host_step
from attar.inputs import Prepared
from attar.runtime import load


class TritonPythonModel:
    """One instance, in its own process."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the bundle; start a session unless another model runs the graph."""
        config = json.loads(args["model_config"])
        chosen = {key: value["string_value"] for key, value in config["parameters"].items()}
        path = Path(args["model_repository"], args["model_version"], "bundle.zip")
        bundle = Bundle.open(path)
        self._manifest = bundle.manifest
        self._host = host_step(bundle)
        self._tokens = int(chosen["batch_tokens"])
        self._rows: int = config["max_batch_size"]
        self._graph = chosen.get("graph")
        self._version = int(args["model_version"])
        self._encoder = load(path, variant=chosen.get("variant")) if not self._graph else None

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer every request, each with its own rows or its own error."""
        rows: list[Prepared] = []
        spans: list[slice | pb.TritonError] = []
        for request in requests:
            if request.is_cancelled():  # who has left costs no compute
                spans.append(pb.TritonError("the caller left", pb.TritonError.CANCELLED))
                continue
            try:
                prepared = self._prepare(request)
                spans.append(slice(len(rows), len(rows) + len(prepared)))
                rows += prepared
            except InvalidInput as error:
                spans.append(pb.TritonError(str(error), pb.TritonError.INVALID_ARG))
        try:
            vectors = self._embed(rows)
        except Exception as error:  # noqa: BLE001 -- sent to the callers; the instance goes on
            failure = pb.TritonError(str(error), pb.TritonError.INTERNAL)
            spans = [failure if isinstance(span, slice) else span for span in spans]
            vectors = np.empty((0, 0), np.float32)
        return [
            self._response(rows[span], vectors[span])
            if isinstance(span, slice)
            else pb.InferenceResponse(error=span)
            for span in spans
        ]

    def _prepare(self, request: Any) -> list[Prepared]:
        """Tokenise one request's texts."""
        role = json.loads(request.parameters() or "{}").get("role", "passage")
        column = pb.get_input_tensor_by_name(request, "text").as_numpy()
        texts = [_text(item, i) for i, item in enumerate(column[:, 0])]
        return self._host.prepare(texts, role=role, truncation="truncate")

    def _embed(self, rows: Sequence[Prepared]) -> np.ndarray[Any, np.dtype[np.float32]]:
        """Run rows in batches of like length: (n, dim)."""
        vectors = np.empty((len(rows), self._manifest.output.dim), np.float32)
        for batch in by_length([row.tokens for row in rows], tokens=self._tokens, rows=self._rows):
            some = [rows[i] for i in batch]
            vectors[batch] = self._encoder.infer(some) if self._encoder else self._call(some)
        return vectors

    def _call(self, rows: Sequence[Prepared]) -> Any:
        """Let the model of the graph, in the version of this one, run a padded batch."""
        tensors = zip(self._manifest.inputs, self._host.batch(rows), strict=True)
        name = self._manifest.output.name
        response = pb.InferenceRequest(
            model_name=self._graph,
            model_version=self._version,
            requested_output_names=[name],
            inputs=[pb.Tensor(spec.name, array) for spec, array in tensors],
            preferred_memory=pb.PreferredMemory(pb.TRITONSERVER_MEMORY_CPU, 0),
        ).exec()
        if response.has_error():
            raise pb.TritonModelException(f"{self._graph}: {response.error().message()}")
        return pb.get_output_tensor_by_name(response, name).as_numpy()

    def _response(
        self, rows: Sequence[Prepared], vectors: np.ndarray[Any, np.dtype[np.float32]]
    ) -> Any:
        finite = np.isfinite(vectors).all(axis=1)
        if not finite.all():
            bad = np.flatnonzero(~finite)[:10].tolist()
            error = f"the encoder gave NaN or infinity for items {bad}; the bundle is faulty"
            return pb.InferenceResponse(error=pb.TritonError(error, pb.TritonError.INTERNAL))
        space = [self._manifest.fingerprint.encode()] * len(rows)
        return pb.InferenceResponse(
            output_tensors=[
                pb.Tensor(self._manifest.output.name, vectors),
                pb.Tensor("tokens", np.array([[row.tokens] for row in rows], np.int32)),
                pb.Tensor("truncated", np.array([[row.truncated] for row in rows], np.bool_)),
                pb.Tensor("fingerprint", np.array(space, np.object_)[:, None]),
            ]
        )


def by_length(lengths: Sequence[int], *, tokens: int, rows: int) -> Iterator[list[int]]:
    """Give the indices of batches, longest first: at most `rows`, and `tokens` with padding."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        size = max(1, min(rows, tokens // lengths[order[0]]))
        yield order[:size]
        order = order[size:]


def _text(item: bytes, index: int) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError as error:
        raise InvalidInput(f"item {index} is not UTF-8: {error}") from None
