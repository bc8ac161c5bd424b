"""LitServe: its batching in front of the graph."""

import sys
from collections.abc import Sequence
from typing import Any

import litserve
from graph_encoder import GraphEncoder


class Embeddings(litserve.LitAPI):  # type: ignore[misc]
    """One text in, one embedding out."""

    def setup(self, device: str) -> None:
        """Load the graph, in the process that runs it."""
        del device
        self.encoder = GraphEncoder()

    def decode_request(self, request: dict[str, Any]) -> str:
        """Take the text."""
        return str(request["input"])

    def batch(self, inputs: Sequence[str]) -> list[str]:
        """Give the texts as they came."""
        return list(inputs)

    def predict(self, x: list[str]) -> Any:
        """Embed a batch."""
        return self.encoder(x)

    def unbatch(self, output: Any) -> list[Any]:
        """Part a batch."""
        return list(output)

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Give the row as JSON's numbers."""
        return {"embedding": output.tolist()}


if __name__ == "__main__":
    port, batch, wait_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    api = Embeddings(max_batch_size=batch, batch_timeout=wait_s, api_path="/embed")
    server = litserve.LitServer(api, accelerator="cpu", devices=1, workers_per_device=1)
    server.run(host="127.0.0.1", port=port, generate_client_file=False, log_level="warning")
