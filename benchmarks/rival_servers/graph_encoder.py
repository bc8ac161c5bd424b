"""The graph that attar serves, as any other server would run it: tokenise, pad, run.

Its process has no attar in it. What it pads is counted where the benchmark reads it.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer


class GraphEncoder:
    """Texts to rows; GRAPH, TOKENIZER, PADDING (a file of two counts) and THREADS say what of."""

    def __init__(self) -> None:
        self._tokenizer = Tokenizer.from_file(os.environ["TOKENIZER"])
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(256)
        options = ort.SessionOptions()
        options.intra_op_num_threads = int(os.environ["THREADS"])
        options.inter_op_num_threads = 1
        self._session = ort.InferenceSession(
            os.environ["GRAPH"],
            options,
            providers=["CPUExecutionProvider"],
            disabled_optimizers=["SkipLayerNormFusion"],  # slower on a CPU; attar does the same
        )
        self._padding = counts(Path(os.environ["PADDING"]))

    def __call__(self, texts: Sequence[str]) -> np.ndarray[Any, Any]:
        """Embed one batch: (n, dim) float32."""
        rows = [tokens.ids for tokens in self._tokenizer.encode_batch_fast(list(texts))]
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for i, row in enumerate(rows):
            ids[i, : len(row)], mask[i, : len(row)] = row, 1
        self._padding += (int(mask.sum()), ids.size)
        (vectors,) = self._session.run(None, {"input_ids": ids, "attention_mask": mask})
        return np.asarray(vectors)


def counts(path: Path) -> np.ndarray[Any, Any]:
    """Map a file of two numbers: requested tokens, and computed ones."""
    return np.memmap(path, np.int64, "r+" if path.exists() else "w+", shape=(2,))
