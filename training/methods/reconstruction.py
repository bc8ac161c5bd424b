"""Reconstruct an item from the embedding of its corrupted form: a denoising autoencoder.

Vincent et al., ICML 2008, "Extracting and Composing Robust Features with Denoising Autoencoders".
"""

from torch import Tensor, nn
from torch.nn import functional as F

from ..method import Method, Metrics

ReconstructionBatch = tuple[Tensor, Tensor]
"""Corrupted items, and the clean ones, of the same shape."""


class Reconstruction(Method[ReconstructionBatch]):
    """An encoder and a decoder of flattened items; the decoder is used in training only."""

    least_items = 2

    def __init__(self, encoder: nn.Module, decoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder

    def loss(self, batch: ReconstructionBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the mean squared error."""
        corrupted, clean = batch
        return F.mse_loss(self.decoder(self.encoder(corrupted)), clean.flatten(1)), {}
