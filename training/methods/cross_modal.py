"""The same objects in several modalities: CLIP's contrast on every pair of modalities.

Radford et al., ICML 2021, arXiv:2103.00020; three modalities, AstroM3: Rizhko and Bloom 2024,
arXiv:2411.08842.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.heads import Head

from ..data.source import Source, embed
from ..distributed import gather
from ..encoders.joint_space import JointSpace
from ..linear_head import centroid_head
from ..method import Method, Metrics
from ..objectives.clip import MAX_SCALE, clip


class CrossModal(Method[tuple[Tensor, ...]]):
    """CLIP over all pairs of modalities; a batch has each object's tensors in the space's order.

    Every pair of modalities has a learned scale of similarity, which starts at `scale` (100, the
    maximum, in AstroM3; 1 / 0.07 in CLIP). Logs `alignment`, the mean cosine between the
    modalities of an object, and `scale`, the mean of the scales. Raises InvalidInput for a scale
    of 0 or less.
    """

    least_items = 2

    encoder: JointSpace

    def __init__(self, encoder: JointSpace, *, scale: float = MAX_SCALE) -> None:
        super().__init__()
        if scale <= 0:
            raise InvalidInput(f"scale must be above 0; got {scale}: CLIP starts at 1 / 0.07")
        self.encoder = encoder
        pairs = math.comb(len(encoder.names), 2)
        self.log_scales = nn.Parameter(torch.full((pairs,), math.log(scale)))
        self._clamp_scales()

    def loss(self, batch: tuple[Tensor, ...], step: int) -> tuple[Tensor, Metrics]:
        """Give the sum over pairs of modalities of CLIP's loss."""
        embeddings = gather(self.encoder(*batch))  # (n, modalities, dim)
        loss = clip(embeddings.unbind(1), self.log_scales)
        with torch.no_grad():
            count = embeddings.shape[1]
            # Of unit rows the squared length of the sum is count + 2 x the cosine of every pair.
            squares = embeddings.sum(1).square().sum(1)
            alignment = (squares.mean() - count) / (count * (count - 1))
            return loss, {"alignment": alignment, "scale": self.log_scales.exp().mean()}

    def after_step(self, step: int) -> None:
        """Clamp the scales to the range in which the objective gives them a gradient."""
        self._clamp_scales()

    def heads(self, source: Source, encoder: nn.Module) -> dict[str, Head]:
        """Give the centroids of the classes in one modality, whose encoder and source these are."""
        names = source.class_names
        if source.train_labels is None or len(names) < 2:
            return {}
        classes = np.unique(source.train_labels, return_inverse=True)[1]
        embeddings, scale = embed(encoder, source.train), self.log_scales.detach().exp().mean()
        head = centroid_head(
            torch.from_numpy(embeddings), torch.from_numpy(classes), names, scale=float(scale)
        )
        return {"centroids": head}

    @torch.no_grad()
    def _clamp_scales(self) -> None:
        self.log_scales.clamp_(0.0, math.log(MAX_SCALE) - 1e-5)
