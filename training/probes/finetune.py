"""Fine-tuning: train a pretrained encoder, its projector's first layers and a head on few labels.

Chen et al., NeurIPS 2020 (SimCLRv2), arXiv:2006.10029, section 2: the first layer of the projector
is kept.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from ..data.source import Labels, Rows, Source, embed
from ..distributed import shard, step_generator
from ..encoders.classifier import Classifier
from ..loop import Precision, Training, fit
from ..method import Method, Metrics
from ..optimisers import adamw
from ..sampler import Sampler
from ..schedules import warmup_cosine
from ..views.view import View

Labelled = tuple[Tensor, Int[Tensor, "b"]]  # items, and the index of the class of each
ItemView = Callable[[Tensor, torch.Generator], View[Tensor]]


@dataclass(frozen=True, slots=True)
class FineTuned:
    """A fine-tuned classifier in evaluation mode, and its accuracy on the test part, in [0, 1].

    Logit i of the classifier is of `classes[i]`, a label of the source.
    """

    classifier: Classifier
    classes: tuple[int, ...]
    accuracy: float


class _FineTune(Method[Labelled]):
    def __init__(self, encoder: Classifier) -> None:
        super().__init__()
        self.encoder = encoder  # the loop's micro-batches run `encoder`: the whole network

    def loss(self, batch: Labelled, step: int) -> tuple[Tensor, Metrics]:
        """Give the mean cross-entropy."""
        items, labels = batch
        logits = self.encoder(items)
        accuracy = (logits.argmax(1) == labels).float().mean()
        return F.cross_entropy(logits.float(), labels), {"accuracy": accuracy}


def fine_tune(
    encoder: nn.Module,
    data: Source,
    rows: ArrayLike,
    *,
    projector: nn.Sequential | None = None,
    layers: int = 1,
    steps: int = 200,
    rate: float = 1e-3,
    batch_size: int = 64,
    seed: int = 0,
    view: ItemView | None = None,
    accelerator: str = "auto",
    precision: Precision = "32-true",
    progress: bool = False,
) -> FineTuned:
    """Train a copy of `encoder` on the labels of `rows` of the training part, and test it.

    With a `projector` (see `mlp`), its first `layers` layers stay between encoder and head. The
    learning rate falls along half a cosine, without warm-up or weight decay, as in the paper; the
    optimiser is AdamW instead of LARS. `view` augments the items of a batch. The arguments are not
    changed.

    Raises:
        InvalidInput: a part of the source has no labels; `rows` are not different rows of the
            training part, or have no item of a class; or the projector has fewer layers.
    """
    if data.train_labels is None or data.test_labels is None or data.test is None:
        raise InvalidInput("fine-tuning needs labels of the training and the test part")
    chosen = _training_rows(rows, data.train_labels)
    classes, indices = np.unique(data.train_labels, return_inverse=True)
    classifier = _classifier(
        encoder, first_layers(projector, layers), data.train[chosen[:1]], classes=len(classes)
    )
    sampler = Sampler(items=len(chosen), batch_size=min(batch_size, len(chosen)), seed=seed)
    rows_of = _LabelledRows(data.train, torch.from_numpy(indices), chosen, sampler, view)
    method = _FineTune(classifier)
    training = Training(
        method=method,
        batches=rows_of.batch,
        views=rows_of.augmented,
        optimiser=adamw(method, weight_decay=0.0),
        rate=warmup_cosine(rate, 0, steps),
        steps=steps,
        seed=seed,
    )
    fit(training, accelerator=accelerator, precision=precision, progress=progress)
    classifier.eval()
    return FineTuned(classifier, tuple(classes.tolist()), accuracy(classifier, data))


@dataclass(frozen=True, slots=True)
class _LabelledRows:
    """The batches of a fine-tuning: chosen rows with the indices of their classes."""

    items: Rows
    labels: Int[Tensor, "n"]
    chosen: Int[Tensor, "m"]
    sampler: Sampler
    view: ItemView | None

    def batch(self, step: int) -> Labelled:
        rows = self.chosen[shard(self.sampler(step))]
        return self.items[rows], self.labels[rows]

    def augmented(self, batch: Labelled, step: int) -> Labelled:
        if self.view is None:
            return batch
        items, labels = batch
        return self.view(items, step_generator(self.sampler.seed, step)).data, labels


def _training_rows(rows: ArrayLike, labels: NDArray[np.int64]) -> Tensor:
    """Give `rows` as a tensor; raise InvalidInput unless they are different and of every class."""
    chosen = np.asarray(rows)
    n = len(labels)
    integers = chosen.ndim == 1 and chosen.dtype.kind in "iu" and len(chosen) > 0
    if (
        not integers
        or chosen.min() < 0
        or chosen.max() >= n
        or len(np.unique(chosen)) < len(chosen)
    ):
        raise InvalidInput(
            f"rows must be different rows of [0, {n}), in whole numbers; got {chosen.dtype} "
            f"{chosen.tolist()[:5]}..."
        )
    missing = np.setdiff1d(labels, labels[chosen])
    if len(missing):
        raise InvalidInput(
            f"rows has no item of {len(missing)} classes, {missing[0]} for one; a list has at "
            "least one of each"
        )
    return torch.as_tensor(chosen)


def _classifier(encoder: nn.Module, layers: nn.Module, item: Tensor, *, classes: int) -> Classifier:
    """Build a classifier from copies of an encoder and layers; `item` (1, ...) gives the width."""
    body, start = deepcopy(encoder), deepcopy(layers)
    device = next((weight.device for weight in encoder.parameters()), torch.device("cpu"))
    with torch.no_grad():
        width = start.to(device).eval()(body.eval()(item.to(device))).shape[1]
    return Classifier(body, start, width=width, classes=classes).to(device)


def accuracy(classifier: nn.Module, data: Source) -> float:
    """Give the share of test items classified correctly; logit i is of class i in rising order.

    Raises InvalidInput when the source lacks labels in a part.
    """
    if data.train_labels is None or data.test_labels is None or data.test is None:
        raise InvalidInput("accuracy needs labels of the training and the test part")
    labels = np.unique(data.train_labels)[predictions(classifier, data.test)]
    return float((labels == data.test_labels).mean())


def labels_to_learn(data: Source) -> Labels:
    """Give the training labels; raises InvalidInput where there are none, or no test part."""
    if data.train_labels is None:
        raise InvalidInput("fine-tuning needs the labels of some training images; there are none")
    if data.test is None:
        raise InvalidInput(
            "fine-tuning needs labels of a test part; no class has two images, of which one could "
            "be held out: give more images, or a test part"
        )
    return data.train_labels


def predictions(classifier: nn.Module, items: Rows) -> NDArray[np.int64]:
    """Give the index of the largest logit of each item, (n,), on the classifier's device."""
    indices: NDArray[np.int64] = embed(classifier, items).argmax(1)
    return indices


def first_layers(projector: nn.Sequential | None, count: int) -> nn.Module:
    """Give a projector's first `count` linear layers, each with its norm and activation.

    The modules are shared with the projector. Raises InvalidInput when it has fewer.
    """
    if projector is None:
        return nn.Identity()
    parts = list(projector)
    starts = [index for index, part in enumerate(parts) if isinstance(part, nn.Linear)]
    if not 0 <= count <= len(starts):
        raise InvalidInput(
            f"layers must be in [0, {len(starts)}], the projector's linear ones; got {count}"
        )
    return nn.Sequential(*parts[: [*starts, len(parts)][count]])
