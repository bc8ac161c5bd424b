"""Classification: linear heads fitted on labelled items."""

import unicodedata
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput
from attar.heads import LinearClassifier
from attar.values import Classifier

from ..collections.store import UNLIMITED
from ..cooperative import off_the_loop, request_bytes
from ..engine.models import Models
from ..limits.head_capacity import Capacity
from ..request_context import current
from .embed import Embedded, Item, Items, Truncation, embed, refuse_large_response
from .fit_queue import FitQueue
from .head_store import Heads, HeadStore

_ITERATIONS: Final = 1000
_FOLDS: Final = 5
_WORK_BYTES: Final = 24  # of one probability, while it is computed in float64
# The inverse strength of the penalty. Rows of unit length have columns of about 1 / d variance, on
# which scikit-learn's C = 1 keeps every probability near 1 / k: see benchmarks/classifiers.py.
_C_OF_UNIT_ROWS: Final = 10.0
_C_OF_STANDARD_COLUMNS: Final = 1.0
# Below these a column's spread is that of rounding, or its weight would leave float32.
_LEAST_SPREAD: Final = (1e-6, 1e-30)  # as a share of the column's largest value, and at all


@dataclass(frozen=True, slots=True, eq=False)
class Predicted:
    """Each item's likeliest label and all probabilities; None and zeros where it failed."""

    labels: tuple[str | None, ...]
    probabilities: NDArray[np.float32]  # (n, k), rows sum to 1
    classes: tuple[str, ...]  # the k columns
    items: tuple[Item, ...]
    fingerprint: str


class Classification(Heads[LinearClassifier, Classifier]):
    """Every classifier under <data_dir>/classifiers."""

    def __init__(
        self,
        data_dir: Path,
        models: Models,
        *,
        fits: FitQueue | None = None,
        max_heads: int = UNLIMITED,
        capacity: Capacity | None = None,
        min_free_bytes: int = 0,
    ) -> None:
        """Read the classifiers that are there, which blocks; `fits` are those of the server."""
        self._fits = fits or FitQueue()
        super().__init__(
            HeadStore(
                data_dir / "classifiers",
                "classifier",
                LinearClassifier.from_bytes,
                max_heads=max_heads,
                capacity=capacity,
                reserve_bytes=min_free_bytes,
            ),
            _describe,
            kind="classifier",
            of=LinearClassifier,
            models=models,
        )

    async def fit(
        self,
        name: str,
        *,
        model: str = "",
        items: Items,
        labels: Sequence[str],
        max_labels: int = UNLIMITED,
        max_name_characters: int = UNLIMITED,
        truncation: Truncation = "truncate",
        deadline: float | None = None,
    ) -> Classifier:
        """Fit a classifier on items and a label for each; at least two different labels.

        Labels weigh equally, however many items each has. Raises the first item's error if one
        cannot be embedded, `AlreadyExists` if the name is taken, and `InvalidInput` for labels that
        are no names or that look the same.
        """
        self._head_store.refuse_taken(name)
        if len(items) != len(labels):
            raise InvalidInput(
                f"labels must be one label an item; got {len(labels)} for {len(items)} items"
            )
        await off_the_loop(
            request_bytes(),
            lambda: _check_labels(labels, most=max_labels, longest=max_name_characters),
        )
        classes, dims = len({*labels}), self._models[model].encoder.dim
        self._head_store.refuse_large(name, 4 * classes * (dims + 1))
        embedded = await embed(
            self._models,
            model=model,
            items=items,
            truncation=truncation,
            deadline=deadline,
            wait=True,
            all_or_nothing=True,
        )
        async with self._fits.slot():
            current().hold(fit_bytes(len(items), embedded.vectors.shape[1], classes))
            head = await self._fits.run(
                lambda refuse_left: fit_classifier(
                    embedded.vectors,
                    labels,
                    normalized=embedded.model.encoder.manifest.output.normalized,
                    model=embedded.model.name,
                    fingerprint=embedded.model.encoder.fingerprint,
                    between=refuse_left,
                )
            )
            await self._head_store.put(name, head)
        return _describe(name, head)

    async def predict(
        self,
        name: str,
        *,
        items: Items,
        truncation: Truncation = "truncate",
        deadline: float | None = None,
    ) -> Predicted:
        """Give each item's label; an item that cannot be embedded fails alone.

        `name` is that of a fit, or MODEL/HEAD for a classifier of that model's bundle.
        """
        head, model = self._head_and_model(name)
        values = len(items) * len(head.labels)
        size = 4 * values + head.label_bytes  # a bundle's classifier may have any labels
        refuse_large_response(size, limit=model.max_answer_bytes)
        await current().hold_more(size + 8 * head.weights.size + _WORK_BYTES * values)
        embedded = await embed(
            self._models,
            model=model.name,
            version=model.version,
            items=items,
            dims=head.weights.shape[1],
            truncation=truncation,
            deadline=deadline,
        )
        size = embedded.vectors.nbytes + 4 * len(embedded.items) * len(head.labels)
        return await off_the_loop(size, lambda: _predict(head, embedded))


def _predict(head: LinearClassifier, embedded: Embedded) -> Predicted:
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


def fit_classifier(
    vectors: NDArray[np.float32],
    labels: Sequence[str],
    *,
    normalized: bool = True,
    model: str,
    fingerprint: str,
    between: Callable[[], None] = lambda: None,
) -> LinearClassifier:
    """Fit scikit-learn's multinomial logistic regression on (n, d) rows and n labels.

    Labels weigh equally. Rows that are not `normalized` have their columns standardised, which the
    weights take up, so that no column counts for its unit. Recalls are of held-out items: each fold
    of five is predicted by a fit on the others. `between` is called between those fits, and what it
    raises ends this one.
    """
    names, codes, counts = np.unique(np.array(labels), return_inverse=True, return_counts=True)
    rows, centre, spread = _prepared(vectors, normalized=normalized)
    strength = _C_OF_UNIT_ROWS if normalized else _C_OF_STANDARD_COLUMNS
    folds, contradictory = _folds(vectors, codes)
    right = np.zeros(len(names))
    for fold in range(folds.max() + 1):
        between()
        held_out = folds == fold
        weights, bias = _logistic(rows[~held_out], codes[~held_out], strength)
        predicted = (rows[held_out] @ weights.T + bias).argmax(axis=1)
        hits = codes[held_out][predicted == codes[held_out]]
        right += np.bincount(hits, minlength=len(names))
    measured = np.bincount(codes[folds >= 0], minlength=len(names))
    between()
    weights, bias = _logistic(rows, codes, strength)
    weights = weights / spread
    bias = bias - weights @ centre
    return LinearClassifier(
        weights.astype(np.float32),
        bias.astype(np.float32),
        tuple(names.tolist()),
        len(labels),
        model,
        fingerprint,
        tuple(counts.tolist()),
        tuple(float(r / m) if m else None for r, m in zip(right, measured, strict=True)),
        contradictory,
    )


def fit_bytes(items: int, dims: int, classes: int) -> int:
    """About how many bytes a fit makes, as tracemalloc counts them, and rather too many.

    Of float64: the rows and those of a fold, the labels' probabilities, and the weights with the
    steps that L-BFGS remembers.
    """
    return 8 * (5 * items * dims + 4 * items * classes + 35 * classes * (dims + 1))


def _prepared(
    vectors: NDArray[np.float32], *, normalized: bool
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give rows as they are fitted, (n, d), and what was taken from each column and divided by."""
    rows = vectors.astype(np.float64)
    centre, spread = np.zeros(rows.shape[1]), np.ones(rows.shape[1])
    if not normalized:
        centre, spread = rows.mean(axis=0), rows.std(axis=0)
        share, least = _LEAST_SPREAD
        constant = spread <= np.maximum(share * np.abs(rows).max(axis=0), least)
        spread[constant] = np.inf  # a constant column gets a weight of zero
    return (rows - centre) / spread, centre, spread


def _folds(vectors: NDArray[np.float32], codes: NDArray[np.intp]) -> tuple[NDArray[np.intp], int]:
    """Give each item's fold, -1 where it is never held out, and how many items contradict another.

    Equal items of a label share a fold, for else they would not be held out. A label with one
    different item stays in every fit.
    """
    _, same = np.unique(vectors + np.float32(0), axis=0, return_inverse=True)  # no negative zeros
    pairs, of_item = np.unique(np.stack([codes, same.ravel()], axis=1), axis=0, return_inverse=True)
    shuffled = np.random.default_rng(0).permutation(len(pairs))
    order = shuffled[np.argsort(pairs[shuffled, 0], kind="stable")]  # by label
    fold = np.empty(len(pairs), np.intp)
    fold[order] = np.arange(len(pairs)) % _FOLDS
    alone = np.bincount(pairs[:, 0])[pairs[:, 0]] == 1
    fold[alone] = -1
    labels_of = np.bincount(pairs[:, 1])
    return fold[of_item.ravel()], int(np.count_nonzero(labels_of[same.ravel()] > 1))


def _logistic(
    rows: NDArray[np.float64], codes: NDArray[np.intp], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give the weights, (k, d), and the biases, (k,), of labels 0 to k - 1, which weigh equally."""
    # 80 MB, which a server that fits nothing has no use for.
    from sklearn.linear_model import LogisticRegression

    # It takes many labels for numbers; recalls say how well so few items of each tell them apart.
    warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
    fitted = LogisticRegression(C=strength, class_weight="balanced", max_iter=_ITERATIONS).fit(
        rows, codes
    )
    weights, bias = fitted.coef_, fitted.intercept_
    if len(weights) == 1:
        # Two labels: one logit z, whose sigmoid is the softmax of (0, z).
        weights = np.concatenate([np.zeros_like(weights), weights])
        bias = np.array([0.0, bias[0]])
    return weights, bias


def _check_labels(labels: Sequence[str], *, most: int, longest: int) -> None:
    """Refuse what is no name, labels that look the same, and fewer than two or too many."""
    seen: dict[str, int] = {}
    for i, label in enumerate(labels):
        if len(label) > longest:
            raise InvalidInput(
                f"labels[{i}] has {len(label)} characters, more than max_name_characters, "
                f"{longest}; got {label!r:.80}"
            )
        # An array of numpy strings ends each at its last character that is not NUL.
        seen_as = _seen_as(label)
        if not seen_as or label.endswith("\0"):
            raise InvalidInput(f"labels[{i}] must be a name; got {label!r:.80}")
        first = seen.setdefault(seen_as, i)
        if labels[first] != label:
            raise InvalidInput(
                f"labels[{i}] is {label!a} and labels[{first}] is {labels[first]!a}; they differ"
                " only in what is not seen, as blanks; write them the same"
            )
    if len(seen) < 2:
        raise InvalidInput(
            f"labels are of one class: give at least two different labels; got"
            f" {sorted(set(labels))}; to know items of one kind fit a detector"
        )
    if len(seen) > most:
        raise InvalidInput(
            f"labels are {len(seen)} different ones, more than max_labels, {most}; fit fewer, or "
            "search a collection for the nearest items"
        )


def _seen_as(label: str) -> str:
    """Give a label without what is not seen: runs of blanks, format characters, Unicode's forms."""
    seen = "".join(letter for letter in label if unicodedata.category(letter) != "Cf")
    return " ".join(unicodedata.normalize("NFC", seen).split())


def _describe(name: str, head: LinearClassifier) -> Classifier:
    return Classifier(
        name,
        head.model,
        head.fingerprint,
        head.labels,
        head.examples,
        head.counts,
        head.recalls,
        head.contradictory,
    )
