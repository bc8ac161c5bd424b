"""Calls of the service Anomaly."""

import numpy as np

from attar import wire
from attar.errors import InvalidInput
from attar.heads import Metric
from attar.inputs import Truncation
from attar.v1 import anomaly_pb2
from attar.values import (
    DEFAULT_NEIGHBOURS,
    DEFAULT_TARGET_FPR,
    Detector,
    Listing,
    Scored,
)

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


def fit_anomaly(
    name: str,
    items: Items | None = None,
    *,
    collection: str | None = None,
    model: str = "",
    target_fpr: float = DEFAULT_TARGET_FPR,
    neighbours: int = DEFAULT_NEIGHBOURS,
    metric: Metric | None = None,
    truncation: Truncation = "truncate",
    deadline_s: float = DEADLINE_S,
) -> Call[Detector]:
    """Fit a detector on ordinary items, or on every point of a collection.

    An item's score is its mean distance to the nearest `neighbours` of the ordinary items, 100 at
    most. The detector flags a share of at most `target_fpr`, in (0, 1), of ordinary items. Without
    a `metric` it is cosine where the model's embeddings have unit length, else euclidean.
    """
    if (items is None) == (collection is None):
        raise InvalidInput("give either items or collection, what is ordinary, and not both")
    request = wire.message(
        anomaly_pb2.FitDetectorRequest,
        name=name,
        model=model,
        target_fpr=target_fpr,
        neighbours=neighbours,
        metric=anomaly_pb2.METRIC_UNSPECIFIED
        if metric is None
        else enum_number("metric", metric, wire.METRICS),
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        **({"collection": collection} if items is None else items_fields(items)),
    )
    response = anomaly_pb2.DetectorInfo
    return make_call("Anomaly/Fit", request, response, _detector, deadline_s)


def score_anomaly(
    name: str,
    items: Items,
    *,
    truncation: Truncation = "truncate",
    partial: bool = False,
    deadline_s: float = DEADLINE_S,
) -> Call[Scored]:
    """How strange each item is to a fitted detector: scores, p-values and verdicts, (items,).

    `name` is that of a fit, or MODEL/HEAD for a detector of that model's bundle.
    """

    def decode(response: anomaly_pb2.ScoreResponse) -> Scored:
        return Scored(
            scores=np.asarray(response.scores, np.float32),
            p_values=np.asarray(response.p_values, np.float32),
            anomalies=np.asarray(response.anomalies, np.bool_),
            errors=item_errors(response.items, partial=partial),
            threshold=response.threshold,
            fingerprint=response.fingerprint,
        )

    request = wire.message(
        anomaly_pb2.ScoreRequest,
        name=name,
        truncation=enum_number("truncation", truncation, wire.TRUNCATIONS),
        **items_fields(items),
    )
    return make_call("Anomaly/Score", request, anomaly_pb2.ScoreResponse, decode, deadline_s)


def detector(name: str, *, deadline_s: float = DEADLINE_S) -> Call[Detector]:
    """One anomaly detector."""
    request = wire.message(anomaly_pb2.GetDetectorRequest, name=name)
    return make_call("Anomaly/Get", request, anomaly_pb2.DetectorInfo, _detector, deadline_s)


def detectors(*, deadline_s: float = DEADLINE_S) -> Call[Listing[Detector]]:
    """Every anomaly detector that can be used; its `damaged` names the others, and why."""

    def decode(response: anomaly_pb2.ListDetectorsResponse) -> Listing[Detector]:
        return Listing(map(_detector, response.detectors), response.damaged)

    request = anomaly_pb2.ListDetectorsRequest()
    return make_call("Anomaly/List", request, anomaly_pb2.ListDetectorsResponse, decode, deadline_s)


def delete_detector(name: str, *, deadline_s: float = DEADLINE_S) -> Call[None]:
    """Delete an anomaly detector."""
    request = wire.message(anomaly_pb2.DeleteDetectorRequest, name=name)
    response = anomaly_pb2.DeleteDetectorResponse
    return make_call("Anomaly/Delete", request, response, decode_nothing, deadline_s)


def _detector(info: anomaly_pb2.DetectorInfo) -> Detector:
    metrics = {number: name for name, number in wire.METRICS.items()}
    return Detector(
        name=info.name,
        model=info.model,
        fingerprint=info.fingerprint,
        neighbours=info.neighbours,
        references=info.references,
        calibration=info.calibration,
        target_fpr=info.target_fpr,
        threshold=info.threshold,
        metric=metrics.get(info.metric, "cosine"),  # servers had no other one before
    )
