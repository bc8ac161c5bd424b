"""Label augmentation: learn which class and how it was turned at once, then aggregate and distil.

Lee et al., ICML 2020, arXiv:1910.05872.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..method import Method, Metrics
from ..objectives.soft_labels import soft_labels


class Turned(NamedTuple):
    """Every image in each of its forms, and its class."""

    copies: Tensor  # (n forms, channels, side, side), an image's forms after one another
    labels: Tensor  # (n,) int64


class LabelAugmentation(Method[Turned]):
    """One softmax over classes times forms; with `distil` a second one over classes learns from it.

    The joint classifier averages, over an image's forms, the logits that the right form has: n
    passes for one answer (`aggregated`). The single one (`single`) is taught that answer.
    """

    least_items = 2

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int,
        classes: int,
        forms: int,
        distil: bool = True,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.joint = nn.Linear(dim, classes * forms)
        self.plain = nn.Linear(dim, classes)
        self.forms = forms
        self.distil = distil
        self.temperature = temperature

    def loss(self, batch: Turned, step: int) -> tuple[Tensor, Metrics]:
        """Add the losses of the joint and of the single classifier."""
        features = self.encoder(batch.copies)
        logits = self.joint(features)  # (n forms, classes forms)
        form = torch.arange(self.forms, device=logits.device).repeat(len(batch.labels))
        joint = F.cross_entropy(
            logits.float(), batch.labels.repeat_interleave(self.forms) * self.forms + form
        )
        if not self.distil:
            return joint, {}
        single = self.plain(features[:: self.forms])
        taught = soft_labels(single, self._aggregated(logits), temperature=self.temperature)
        return joint + F.cross_entropy(single.float(), batch.labels) + taught, {
            "joint": joint.detach(),
            "taught": taught.detach(),
        }

    def aggregated(self, copies: Tensor) -> Tensor:
        """Give (n, classes) logits of images of which every form is there, (n forms, ...)."""
        return self._aggregated(self.joint(self.encoder(copies)))

    def single(self, images: Tensor) -> Tensor:
        """Give (n, classes) logits in one pass an image."""
        logits: Tensor = self.plain(self.encoder(images))
        return logits

    def _aggregated(self, logits: Tensor) -> Tensor:
        """Average over an image's forms what each says of the classes in that form."""
        by_form = logits.view(len(logits) // self.forms, self.forms, -1, self.forms)
        return by_form.diagonal(dim1=1, dim2=3).mean(-1)
