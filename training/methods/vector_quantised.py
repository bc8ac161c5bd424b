"""Rebuild a series from one code a token: a transformer, a codebook and a shallow decoder.

EEGFormer, Chen et al. 2024, arXiv:2401.10278; the losses are VQ-VAE's (van den Oord et al. 2017,
arXiv:1711.00937, equation 3).
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F

from ..distributed import gather
from ..encoders.mlp import mlp
from ..encoders.series import SeriesEncoder
from ..method import Method, Metrics
from ..targets import Codebook


class Quantised(Method[Tensor]):
    """A series encoder, a codebook over its tokens' states, and a decoder of one token's window.

    A batch is (n, channels, samples). The decoder gives the samples of the token's own window.
    `commitment` is the weight of keeping states near their codes (β). Logs `rebuilt`, and `used`,
    the perplexity of the batch's codes.
    """

    encoder: SeriesEncoder

    def __init__(
        self,
        encoder: SeriesEncoder,
        codebook: Codebook,
        *,
        hidden: int,
        commitment: float = 0.25,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.codebook = codebook
        self.commitment = commitment
        numbers = encoder.shape.channels * encoder.shape.window
        self.decoder = mlp(encoder.width, hidden, numbers)
        self._last: tuple[Tensor, Tensor] | None = None

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, Metrics]:
        """Add up the error of what was rebuilt and the two distances between states and codes."""
        states = self.states(batch)
        codes = self.codebook.codes(states)
        vectors = self.codebook(codes)
        passed = states + (vectors - states).detach()
        rebuilt = F.mse_loss(self.decoder(passed.flatten(0, 1)), self.windows(batch).flatten(0, 1))
        moved = F.mse_loss(vectors, states.detach())
        committed = F.mse_loss(states, vectors.detach())
        # Of the global batch, so that every process restarts the same codes alike.
        self._last = gather(states.detach()).flatten(0, 1), gather(codes).flatten()
        loss = rebuilt + moved + self.commitment * committed
        return loss, {
            "rebuilt": rebuilt.detach(),
            "used": perplexity(codes, len(self.codebook.idle)),
        }

    def after_step(self, step: int) -> None:
        """Restart the codes that nobody uses."""
        if self._last is not None:
            self.codebook.restart(*self._last)
            self._last = None

    def states(self, series: Float[Tensor, "n channels samples"]) -> Float[Tensor, "n t width"]:
        """Give the tokens' states."""
        return self.encoder.own(self.encoder.states(self.encoder.tokens(series)))

    @torch.no_grad()
    def codes(self, series: Float[Tensor, "n channels samples"]) -> Int[Tensor, "n t"]:
        """Give each token's code."""
        return self.codebook.codes(self.states(series))

    def windows(self, series: Float[Tensor, "n channels samples"]) -> Float[Tensor, "n t numbers"]:
        """Give what the decoder should say: each token's samples, channel by channel."""
        shape = self.encoder.shape
        padded = F.pad(series, (0, shape.window - shape.hop))
        return padded.unfold(2, shape.window, shape.hop).transpose(1, 2).flatten(2)


def perplexity(codes: Int[Tensor, "*n"], size: int) -> Float[Tensor, ""]:
    """Say how many of `size` codes are in use, as if each were as frequent: 1 to `size`."""
    shares = torch.bincount(codes.flatten(), minlength=size).float() / codes.numel()
    used: Tensor = torch.special.entr(shares).sum().exp()
    return used
