"""infinity with a set number of ONNX Runtime threads: it has no option for that."""

import os
from typing import Any

import onnxruntime


class InferenceSession(onnxruntime.InferenceSession):  # type: ignore[misc]
    """A session of THREADS threads, where nobody said how many: else it takes every core."""

    def __init__(self, path: Any, sess_options: Any = None, **others: Any) -> None:
        if sess_options is None:
            sess_options = onnxruntime.SessionOptions()
            sess_options.intra_op_num_threads = int(os.environ["THREADS"])
            sess_options.inter_op_num_threads = 1
        super().__init__(path, sess_options, **others)


onnxruntime.InferenceSession = InferenceSession

if __name__ == "__main__":
    from infinity_emb.cli import cli

    cli()
