"""Self-supervised label augmentation: one softmax over class x transformation; aggregate, distil.

Lee et al., ICML 2020, arXiv:1910.05872.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attar.heads import Head, LinearClassifier

from ..data.source import Source
from ..linear_head import linear_head
from ..method import Method, Metrics
from ..objectives.soft_labels import soft_labels


class LabelAugmentationBatch(NamedTuple):
    """Every image under each transformation, and its class."""

    copies: Tensor  # (n forms, channels, side, side): image by image, form by form
    labels: Tensor  # (n,) int64


class LabelAugmentation(Method[LabelAugmentationBatch]):
    """A joint classifier over classes x forms; with `distil`, a single one over classes too.

    A form is a transformation of the image, such as a quarter turn. The joint classifier's
    prediction (`aggregated`) is the mean, over an image's forms, of the logits of the classes in
    that form: one forward pass a form. The single classifier (`single`) needs one pass; it learns
    the labels, and the aggregated prediction by distillation at `temperature`. `examples` are the
    labelled images. Logs the losses.
    """

    least_items = 2

    def __init__(
        self,
        encoder: nn.Module,
        *,
        dim: int,
        classes: int,
        forms: int,
        examples: int = 0,
        distil: bool = True,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.joint = nn.Linear(dim, classes * forms)
        self.plain = nn.Linear(dim, classes)
        self.forms = forms
        self.examples = examples
        self.distil = distil
        self.temperature = temperature

    def loss(self, batch: LabelAugmentationBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the sum of the losses of the joint and the single classifier."""
        features = self.encoder(batch.copies)
        logits = self.joint(features)  # (n forms, classes forms)
        form = torch.arange(self.forms, device=logits.device).repeat(len(batch.labels))
        joint = F.cross_entropy(
            logits.float(), batch.labels.repeat_interleave(self.forms) * self.forms + form
        )
        if not self.distil:
            return joint, {}
        single = self.plain(features[:: self.forms])
        distilled = soft_labels(single, self._aggregated(logits), temperature=self.temperature)
        return joint + F.cross_entropy(single.float(), batch.labels) + distilled, {
            "joint": joint.detach(),
            "taught": distilled.detach(),
        }

    def aggregated(self, copies: Tensor) -> Tensor:
        """Give (n, classes) logits of (n forms, channels, side, side): images in all forms."""
        return self._aggregated(self.joint(self.encoder(copies)))

    def single(self, images: Tensor) -> Tensor:
        """Give (n, classes) logits of (n, channels, side, side) images, in one pass an image."""
        logits: Tensor = self.plain(self.encoder(images))
        return logits

    def heads(self, source: Source, encoder: nn.Module) -> dict[str, Head]:
        """Give the joint classifier, and the single one where it learnt one."""
        names = source.class_names
        if self.forms == 1:
            return {"single": self._head(self.joint, names)} if len(names) > 1 else {}
        forms = [f"{name}, form {form}" for name in names for form in range(self.forms)]
        heads: dict[str, Head] = {"joint": self._head(self.joint, forms)}
        if self.distil and len(names) > 1:
            heads["single"] = self._head(self.plain, names)
        return heads

    def _head(self, layer: nn.Linear, labels: Sequence[str]) -> LinearClassifier:
        return linear_head(layer.weight, layer.bias, labels, examples=self.examples)

    def _aggregated(self, logits: Tensor) -> Tensor:
        """Average, over the forms of an image, the logits of the classes in that form."""
        by_form = logits.view(len(logits) // self.forms, self.forms, -1, self.forms)
        return by_form.diagonal(dim1=1, dim2=3).mean(-1)
