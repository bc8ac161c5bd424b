"""Reconstruct a series from one code a token: a transformer, a codebook and a shallow decoder.

EEGFormer, Chen et al. 2024, arXiv:2401.10278; the losses are VQ-VAE's (van den Oord et al. 2017,
arXiv:1711.00937, equation 3).
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from attar.heads import CodeSurprise, Head
from attar.n_grams import n_grams

from ..data.normal import normal_items
from ..data.source import Rows, Source
from ..distributed import gather
from ..encoders.mlp import mlp
from ..encoders.series import SeriesEncoder
from ..method import Method, Metrics
from ..targets import Codebook


class VectorQuantised(Method[Tensor]):
    """A series encoder, a codebook over its tokens' states, and a decoder of one token's window.

    A batch is (n, channels, samples). The decoder, of `hidden` units, gives the samples of the
    token's window. `commitment` is β, the weight of the distance from states to their codes.
    `order` and `run` are those of the head, see `attar.heads.CodeSurprise`. Logs `rebuilt`, the
    reconstruction error, and `used`, the perplexity of the codes.
    """

    encoder: SeriesEncoder

    def __init__(
        self,
        encoder: SeriesEncoder,
        codebook: Codebook,
        *,
        hidden: int,
        commitment: float = 0.25,
        order: int = 2,
        run: int = 4,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.codebook = codebook
        self.commitment = commitment
        self.order = order
        self.run = run
        numbers = encoder.shape.channels * encoder.shape.window
        self.decoder = mlp(encoder.width, hidden, numbers)
        self._last: tuple[Tensor, Tensor] | None = None

    def loss(self, batch: Tensor, step: int) -> tuple[Tensor, Metrics]:
        """Give the reconstruction error plus the two distances between states and codes."""
        states = self.states(batch)
        codes = self.codebook.codes(states)
        vectors = self.codebook(codes)
        straight_through = states + (vectors - states).detach()
        rebuilt = F.mse_loss(
            self.decoder(straight_through.flatten(0, 1)), self.windows(batch).flatten(0, 1)
        )
        moved = F.mse_loss(vectors, states.detach())
        committed = F.mse_loss(states, vectors.detach())
        # Of the global batch, so that every process restarts the same codes in the same way.
        self._last = gather(states.detach()).flatten(0, 1), gather(codes).flatten()
        loss = rebuilt + moved + self.commitment * committed
        return loss, {
            "rebuilt": rebuilt.detach(),
            "used": perplexity(codes, len(self.codebook.idle)),
        }

    def after_step(self, step: int) -> None:
        """Restart the codes that no token uses."""
        if self._last is not None:
            self.codebook.restart(*self._last)
            self._last = None

    def states(self, series: Float[Tensor, "n channels samples"]) -> Float[Tensor, "n t width"]:
        """Give the states of the tokens."""
        return self.encoder.own(self.encoder.states(self.encoder.tokens(series)))

    @torch.no_grad()
    def codes(self, series: Float[Tensor, "n channels samples"]) -> Int[Tensor, "n t"]:
        """Give each token's code."""
        return self.codebook.codes(self.states(series))

    def codes_of(self, items: Rows) -> NDArray[np.int64]:
        """Give the codes of every item's tokens, (n, t)."""
        device = self.codebook.vectors.device
        parts = [
            self.codes(items[rows].to(device)).cpu()
            for rows in torch.split(torch.arange(len(items)), 256)
        ]
        return torch.cat(parts).numpy()

    def code_surprise(self, normal: Rows) -> CodeSurprise:
        """Give the head that counts the n-grams of the codes of normal items."""
        codes, vectors = self.codes_of(normal), self.codebook.vectors.detach().float().cpu().numpy()
        order = min(self.order, codes.shape[1])
        counted = n_grams(codes, len(vectors), order=order)
        return CodeSurprise(vectors, counted, self.run, model="", fingerprint="")

    def heads(self, source: Source, encoder: nn.Module) -> dict[str, Head]:
        """Give the codebook with the n-grams of the normal items."""
        return {"surprise": self.code_surprise(normal_items(source))}

    def windows(self, series: Float[Tensor, "n channels samples"]) -> Float[Tensor, "n t numbers"]:
        """Give the decoder's target: the samples that each token sees, channel by channel."""
        shape = self.encoder.shape
        padded = F.pad(self.encoder.scaled(series), (0, shape.window - shape.hop))
        return padded.unfold(2, shape.window, shape.hop).transpose(1, 2).flatten(2)


def perplexity(codes: Int[Tensor, "*n"], size: int) -> Float[Tensor, ""]:
    """Give exp(entropy) of the codes' frequencies: the effective number in use, 1 to `size`."""
    shares = torch.bincount(codes.flatten(), minlength=size).float() / codes.numel()
    used: Tensor = torch.special.entr(shares).sum().exp()
    return used
