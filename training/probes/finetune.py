"""Fine-tuning: a pretrained encoder, the start of its projector and a linear head learn few labels.

Chen et al., NeurIPS 2020 (SimCLRv2), arXiv:2006.10029, section 2: of a network that was pretrained
with a projector, the first layer of it is kept.
"""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

from ..data.source import Rows, Source, embed
from ..distributed import shard, step_generator
from ..loop import Precision, Training, fit
from ..method import Method, Metrics
from ..optimisers import adamw
from ..sampler import Sampler
from ..schedules import warmup_cosine
from ..views.view import View
from .protocol import check_list

Labelled = tuple[Tensor, Int[Tensor, "b"]]  # items and the places of their classes


class Classifier(nn.Module):
    """An encoder, layers of its projector and a linear head: items to logits (b, classes).

    The head starts at zero, so that no class is preferred and the first step's gradient of the
    encoder is not noise.
    """

    def __init__(
        self, encoder: nn.Module, projector: nn.Module, *, width: int, classes: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.projector = projector
        # Made without memory, so that nothing is drawn for weights that are zero.
        self.head = nn.Linear(width, classes, device="meta").to_empty(device="cpu")
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, items: Tensor) -> Float[Tensor, "b classes"]:
        """Give the logits of a batch of items."""
        logits: Tensor = self.head(self.projector(self.encoder(items)))
        return logits


@dataclass(frozen=True, slots=True)
class FineTuned:
    """What fine-tuning made, in evaluation mode, and its accuracy on the test part.

    Logit i of the classifier is of `classes[i]`, a label of the source.
    """

    classifier: Classifier
    classes: tuple[int, ...]
    accuracy: float


class _FineTune(Method[Labelled]):
    def __init__(self, encoder: Classifier) -> None:
        super().__init__()
        self.encoder = encoder  # the whole network is what the loop runs in parts

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
    view: Callable[[Tensor, torch.Generator], View[Tensor]] | None = None,
    accelerator: str = "auto",
    precision: Precision = "32-true",
    progress: bool = False,
) -> FineTuned:
    """Train a copy of `encoder` on the labels of `rows` of the training part, and test it.

    With a `projector` (see `mlp`), its first `layers` layers stay between encoder and head. The
    rate falls along half a cosine without warm-up or weight decay, as in the paper; AdamW stands
    for LARS. `view` changes a batch's items, such as a crop and flip. What is given is not changed.

    Raises:
        InvalidInput: the source lacks labels in a part, `rows` are not different training rows with
            every class among them, or the projector has fewer layers.
    """
    if data.train_labels is None or data.test_labels is None or data.test is None:
        raise InvalidInput("fine-tuning needs labels of the training and the test part")
    chosen = torch.as_tensor(np.asarray(rows))
    check_list(chosen.numpy(), data.train_labels, "rows")
    classes, places = np.unique(data.train_labels, return_inverse=True)
    labels = torch.from_numpy(places)
    body, start = deepcopy(encoder), deepcopy(first_layers(projector, layers))
    device = next((weight.device for weight in encoder.parameters()), torch.device("cpu"))
    with torch.no_grad():
        one = data.train[chosen[:1]].to(device)
        width = start.to(device).eval()(body.eval()(one)).shape[1]
    classifier = Classifier(body, start, width=width, classes=len(classes)).to(device)
    method = _FineTune(classifier)
    sampler = Sampler(items=len(chosen), batch_size=min(batch_size, len(chosen)), seed=seed)

    def batch(step: int) -> Labelled:
        own = chosen[shard(sampler(step))]
        return data.train[own], labels[own]

    def views(items: Labelled, step: int) -> Labelled:
        if view is None:
            return items
        return view(items[0], step_generator(seed, step)).data, items[1]

    fit(
        Training(
            method=method,
            batches=batch,
            views=views,
            optimiser=adamw(method, weight_decay=0.0),
            rate=warmup_cosine(rate, 0, steps),
            steps=steps,
            seed=seed,
        ),
        accelerator=accelerator,
        precision=precision,
        progress=progress,
    )
    classifier.eval()
    return FineTuned(classifier, tuple(classes.tolist()), accuracy(classifier, data))


def accuracy(classifier: nn.Module, data: Source) -> float:
    """Give the share of test items named rightly; logit i is of the i-th class, in rising order.

    Raises InvalidInput when the source lacks labels in a part.
    """
    if data.train_labels is None or data.test_labels is None or data.test is None:
        raise InvalidInput("accuracy needs labels of the training and the test part")
    found = np.unique(data.train_labels)[predictions(classifier, data.test)]
    return float((found == data.test_labels).mean())


def predictions(classifier: nn.Module, items: Rows) -> NDArray[np.int64]:
    """Give the place of each item's largest logit, from wherever the classifier is."""
    places: NDArray[np.int64] = embed(classifier, items).argmax(1)
    return places


def first_layers(projector: nn.Sequential | None, count: int) -> nn.Module:
    """Give a projector's first `count` linear layers, each with its norm and activation.

    The modules are the projector's own. Raises InvalidInput when it has fewer.
    """
    if projector is None:
        return nn.Identity()
    parts = list(projector)
    starts = [place for place, part in enumerate(parts) if isinstance(part, nn.Linear)]
    if not 0 <= count <= len(starts):
        raise InvalidInput(
            f"layers must be in [0, {len(starts)}], the projector's linear ones; got {count}"
        )
    return nn.Sequential(*parts[: [*starts, len(parts)][count]])
