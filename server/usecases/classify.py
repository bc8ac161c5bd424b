"""Classification: linear heads fitted on labelled items."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput
from attar.heads import LinearClassifier
from attar.server.engine.models import Models

from .embed import Item, Items, Truncation, embed
from .shelf import Shelf

_ITERATIONS: Final = 1000


@dataclass(frozen=True, slots=True)
class ClassifierInfo:
    """What a classifier was fitted on and what it tells apart."""

    name: str
    model: str
    fingerprint: str
    labels: tuple[str, ...]
    examples: int


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """Each item's likeliest label and all probabilities; None and zeros where it failed."""

    labels: tuple[str | None, ...]
    probabilities: NDArray[np.float32]  # (n, k), rows sum to 1
    classes: tuple[str, ...]  # the k columns
    items: tuple[Item, ...]
    fingerprint: str


class Classification:
    """Every classifier under <data_dir>/classifiers."""

    def __init__(self, data_dir: Path, models: Models) -> None:
        """Read the classifiers that are there, which blocks."""
        self._models = models
        self._shelf = Shelf(data_dir / "classifiers", "classifier", LinearClassifier.from_bytes)
        self.damaged = self._shelf.damaged

    async def fit(
        self,
        name: str,
        *,
        model: str = "",
        items: Items,
        labels: Sequence[str],
        truncation: Truncation = "truncate",
        deadline: float | None = None,
    ) -> ClassifierInfo:
        """Fit a classifier on items and a label for each; at least two different labels.

        Raises the first item's error if one cannot be embedded, `AlreadyExists` if the name is
        taken.
        """
        self._shelf.refuse_taken(name)
        if len(items) != len(labels):
            raise InvalidInput(f"give one label an item; got {len(labels)} for {len(items)} items")
        for i, label in enumerate(labels):
            # An array of numpy strings ends each at its last character that is not NUL.
            if not label or label.endswith("\0"):
                raise InvalidInput(f"labels[{i}] must be a name; got {label!r}")
        if len(set(labels)) < 2:
            raise InvalidInput(f"give at least two different labels; got {sorted(set(labels))}")
        embedded = await embed(
            self._models,
            model=model,
            items=items,
            truncation=truncation,
            deadline=deadline,
            wait=True,
            whole=True,
        )
        head = await asyncio.to_thread(
            fit_classifier,
            embedded.vectors,
            labels,
            model=embedded.model.name,
            fingerprint=embedded.model.encoder.fingerprint,
        )
        await self._shelf.put(name, head)
        return _info(name, head)

    async def predict(
        self,
        name: str,
        *,
        items: Items,
        truncation: Truncation = "truncate",
        deadline: float | None = None,
    ) -> Predicted:
        """Give each item's label; an item that cannot be embedded fails alone."""
        head = self._shelf.get(name)
        embedded = await embed(
            self._models,
            model=head.model,
            items=items,
            dims=head.weights.shape[1],
            truncation=truncation,
            deadline=deadline,
        )
        good = embedded.good
        probabilities = np.zeros((len(embedded.items), len(head.labels)), np.float32)
        probabilities[good] = head.probabilities(
            embedded.vectors[good], fingerprint=embedded.model.encoder.fingerprint
        )
        likeliest = probabilities.argmax(axis=1)
        return Predicted(
            tuple(
                head.labels[best] if item.error is None else None
                for best, item in zip(likeliest, embedded.items, strict=True)
            ),
            probabilities,
            head.labels,
            embedded.items,
            head.fingerprint,
        )

    async def get(self, name: str) -> ClassifierInfo:
        """Describe a classifier."""
        return _info(name, self._shelf.get(name))

    async def list(self) -> tuple[ClassifierInfo, ...]:
        """Describe every classifier, by name."""
        return tuple(_info(name, self._shelf.get(name)) for name in self._shelf.names())

    async def delete(self, name: str) -> None:
        """Remove a classifier."""
        await self._shelf.delete(name)


def fit_classifier(
    vectors: NDArray[np.float32], labels: Sequence[str], *, model: str, fingerprint: str
) -> LinearClassifier:
    """Fit scikit-learn's multinomial logistic regression (C = 1) on (n, d) rows and n labels."""
    # 80 MB, which a server that fits nothing has no use for.
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415

    fitted = LogisticRegression(max_iter=_ITERATIONS).fit(vectors, np.array(labels, dtype=np.str_))
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:
        # Two labels: one logit z, whose sigmoid is the softmax of (0, z).
        weights = np.concatenate([np.zeros_like(weights), weights])
        bias = np.array([0.0, bias[0]])
    return LinearClassifier(
        weights.astype(np.float32),
        bias.astype(np.float32),
        tuple(str(label) for label in fitted.classes_),
        len(labels),
        model,
        fingerprint,
    )


def _info(name: str, head: LinearClassifier) -> ClassifierInfo:
    return ClassifierInfo(name, head.model, head.fingerprint, head.labels, head.examples)
