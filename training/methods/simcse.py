"""Two dropouts of one text are a pair: its only augmentation is the noise inside the encoder.

Gao et al. 2021 (SimCSE), arXiv:2104.08821, section 3.
"""

import torch
from torch import Tensor, nn

from ..distributed import gather
from ..encoders.dropout import add_dropout
from ..encoders.text import TextEncoder
from ..method import Method, Metrics
from ..objectives.info_nce import info_nce
from ..views.text import Tokens


class SimCse(Method[Tokens]):
    """InfoNCE between two passes of the same texts through the encoder, under other dropout masks.

    The projector is used in training only, as in the paper's unsupervised models. Logs `alignment`,
    the mean cosine between the two embeddings of a text, and `in_batch`, the share of texts whose
    second embedding is the nearest of the batch.
    """

    encoder: TextEncoder
    least_items = 2

    def __init__(
        self, encoder: TextEncoder, projector: nn.Module, *, temperature: float, dropout: float
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        self.temperature = temperature
        add_dropout(encoder, dropout)

    def loss(self, batch: Tokens, step: int) -> tuple[Tensor, Metrics]:
        """Compare the first embedding of each text with the second ones of all."""
        first, second = (self.encoder(*batch) for _ in range(2))
        alignment = nn.functional.cosine_similarity(first, second).mean().detach()
        queries, keys = gather(self.projector(first)), gather(self.projector(second))
        loss = info_nce(queries, keys, temperature=self.temperature)
        nearest = (nn.functional.normalize(queries) @ nn.functional.normalize(keys).T).argmax(1)
        own = torch.arange(len(nearest), device=nearest.device)
        return loss, {"alignment": alignment, "in_batch": (nearest == own).float().mean()}
