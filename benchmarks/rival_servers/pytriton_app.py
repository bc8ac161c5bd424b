"""PyTriton: Triton's own server and batching, the graph in Python behind it."""

import sys
from typing import Any

import numpy as np
from graph_encoder import GraphEncoder
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig

encoder = GraphEncoder()


@batch  # type: ignore[untyped-decorator]
def embed(text: Any) -> dict[str, Any]:
    """Embed a batch of (n, 1) bytes."""
    return {"embedding": encoder([row[0].decode() for row in text])}


if __name__ == "__main__":
    http, grpc, most, wait_s = *map(int, sys.argv[1:4]), float(sys.argv[4])
    ports = TritonConfig(
        http_address="127.0.0.1",
        http_port=http,
        grpc_address="127.0.0.1",
        grpc_port=grpc,
        allow_metrics=False,
    )
    everybody = TritonSecurityConfig(restricted_endpoints=[])
    with Triton(config=ports, security_config=everybody) as triton:
        triton.bind(
            model_name="minilm",
            infer_func=embed,
            inputs=[Tensor(name="text", dtype=bytes, shape=(1,))],
            outputs=[Tensor(name="embedding", dtype=np.float32, shape=(384,))],
            config=ModelConfig(
                max_batch_size=most,
                batcher=DynamicBatcher(max_queue_delay_microseconds=round(wait_s * 1e6)),
            ),
        )
        triton.serve()
