"""MLServer: a runtime of its own kind, behind its adaptive batching."""

from graph_encoder import GraphEncoder
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Embeddings(MLModel):  # type: ignore[misc]
    """Texts in, embeddings out."""

    async def load(self) -> bool:
        """Load the graph, in the process that runs it."""
        self.encoder = GraphEncoder()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Embed what was batched."""
        texts = StringCodec.decode_input(payload.inputs[0])
        vectors = NumpyCodec.encode_output("embedding", self.encoder(texts))
        return InferenceResponse(model_name=self.name, outputs=[vectors])
