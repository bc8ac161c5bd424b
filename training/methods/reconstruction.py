"""Rebuild an item from the embedding of what is left of it: a denoising autoencoder.

Vincent et al., ICML 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ..method import Method, Metrics

ReconstructionBatch = tuple[Tensor, Tensor]
"""Items as they are seen and as they were."""


class Reconstruction(Method[ReconstructionBatch]):
    """Encoder and decoder; the decoder gives an item's numbers in a row and is thrown away."""

    least_items = 2

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def loss(self, batch: ReconstructionBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the mean squared error."""
        seen, clean = batch
        return F.mse_loss(self.decoder(self.encoder(seen)), clean.flatten(1)), {}
