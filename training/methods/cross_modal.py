"""The same objects in several modalities, pulled together and told from others in every pair."""

import math

import torch
from torch import Tensor, nn

from attar.errors import InvalidInput

from ..distributed import gather
from ..encoders.joint_space import JointSpace
from ..method import Method, Metrics
from ..objectives.clip import MAX_SCALE, clip


class CrossModal(Method[tuple[Tensor, ...]]):
    """CLIP over all pairs of modalities; a batch has each object's tensors in the space's order.

    There is a learned scale of similarity for every pair, that begins at `scale` (AstroM3's is the
    largest there may be, 100; CLIP's 1 / 0.07). Logs `alignment`, the mean cosine between an
    object's modalities, and `scale`, the mean of the scales.
    """

    least_items = 2

    encoder: JointSpace

    def __init__(self, encoder: JointSpace, *, scale: float = MAX_SCALE) -> None:
        super().__init__()
        if scale <= 0:
            raise InvalidInput(f"scale must be above 0; got {scale}")
        self.encoder = encoder
        pairs = math.comb(len(encoder.names), 2)
        self.log_scales = nn.Parameter(torch.full((pairs,), math.log(scale)))
        self._keep_scales()

    def loss(self, batch: tuple[Tensor, ...], step: int) -> tuple[Tensor, Metrics]:
        """Add up what finding each other costs in all pairs."""
        embeddings = gather(self.encoder(*batch))  # (n, modalities, dim)
        loss = clip(embeddings.unbind(1), self.log_scales)
        with torch.no_grad():
            count = embeddings.shape[1]
            own = embeddings.sum(1).square().sum(1)  # of unit rows: count + every pair twice
            alignment = (own.mean() - count) / (count * (count - 1))
            return loss, {"alignment": alignment, "scale": self.log_scales.exp().mean()}

    def after_step(self, step: int) -> None:
        """Bring the scales back to where the objective does not cut them and their gradient."""
        self._keep_scales()

    @torch.no_grad()
    def _keep_scales(self) -> None:
        self.log_scales.clamp_(0.0, math.log(MAX_SCALE) - 1e-5)
