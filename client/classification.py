"""Calls of the service Classification."""

import math
from collections.abc import Iterable

from attar import wire
from attar.inputs import Truncation
from attar.v1 import classification_pb2
from attar.values import Classifier, Listing, Predicted

from .call import (
    DEADLINE_S,
    Call,
    Items,
    decode_nothing,
    enum_number,
    item_errors,
    items_fields,
    make_call,
)


def fit_classifier(
    name: str,
    items: Items,
    labels: Iterable[str],
    *,
    model: str = "",
    truncation: Truncation = "truncate",
    deadline_s: float = DEADLINE_S,
) -> Call[Classifier]:
    """Fit a linear classifier on labelled items; labels weigh equally, however many items each.

    `labels` has the label of each item.
    """
    request = wire.message(
        classification_pb2.FitClassifierRequest,
        name=name,
        model=model,
        labels=labels,
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        **items_fields(items),
    )
    response = classification_pb2.ClassifierInfo
    return make_call("Classification/Fit", request, response, _classifier, deadline_s)


def classify(
    name: str,
    items: Items,
    *,
    truncation: Truncation = "truncate",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Predicted]:
    """The likeliest label of each item by a fitted classifier, and each label's probability.

    `name` is that of a fit, or MODEL/HEAD for a classifier of that model's bundle. The
    probabilities are (items, labels) float32.
    """

    def decode(response: classification_pb2.PredictResponse) -> Predicted:
        errors = item_errors(response.items, partial=partial)
        return Predicted(
            labels=tuple(
                label if error is None else None
                for label, error in zip(response.labels, errors, strict=True)
            ),
            probabilities=wire.from_tensor(response.probabilities),
            classes=tuple(response.classes),
            errors=errors,
            fingerprint=response.fingerprint,
        )

    request = wire.message(
        classification_pb2.PredictRequest,
        name=name,
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        **items_fields(items),
    )
    response = classification_pb2.PredictResponse
    return make_call("Classification/Predict", request, response, decode, deadline_s)


def classifier(name: str, *, deadline_s: float = DEADLINE_S) -> Call[Classifier]:
    """One classifier."""
    request = wire.message(classification_pb2.GetClassifierRequest, name=name)
    response = classification_pb2.ClassifierInfo
    return make_call("Classification/Get", request, response, _classifier, deadline_s)


def classifiers(*, deadline_s: float = DEADLINE_S) -> Call[Listing[Classifier]]:
    """Every classifier that can be used; its `damaged` names the others, and why."""

    def decode(response: classification_pb2.ListClassifiersResponse) -> Listing[Classifier]:
        return Listing(map(_classifier, response.classifiers), response.damaged)

    request = classification_pb2.ListClassifiersRequest()
    response = classification_pb2.ListClassifiersResponse
    return make_call("Classification/List", request, response, decode, deadline_s)


def delete_classifier(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Delete a classifier."""
    request = wire.message(classification_pb2.DeleteClassifierRequest, name=name)
    response = classification_pb2.DeleteClassifierResponse
    return make_call("Classification/Delete", request, response, decode_nothing, deadline_s)


def _classifier(info: classification_pb2.ClassifierInfo) -> Classifier:
    return Classifier(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        labels=tuple(info.labels),
        examples=info.examples,
        counts=tuple(info.counts),
        recalls=tuple(None if math.isnan(recall) else recall for recall in info.recalls),
        contradictory=info.contradictory,
    )
