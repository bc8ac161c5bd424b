"""Every unary RPC of attar.v1 by its name, as a value that the clients send.

`search_batch` takes calls of `search`. The results are in `attar.values`.
"""

from .anomaly import delete_detector, detector, detectors, fit_anomaly, score_anomaly
from .call import Call
from .classification import classifier, classifiers, classify, delete_classifier, fit_classifier
from .collections import (
    collection,
    collections,
    count,
    create_collection,
    delete_collection,
    delete_points,
    delete_snapshot,
    optimize,
    restore,
    retrieve,
    scroll,
    search,
    search_batch,
    snapshot,
    snapshots,
    upsert,
)
from .embedding import embed
from .models import info, load_model, models, set_variant, unload_model

__all__ = [
    "Call",
    "classifier",
    "classifiers",
    "classify",
    "collection",
    "collections",
    "count",
    "create_collection",
    "delete_classifier",
    "delete_collection",
    "delete_detector",
    "delete_points",
    "delete_snapshot",
    "detector",
    "detectors",
    "embed",
    "fit_anomaly",
    "fit_classifier",
    "info",
    "load_model",
    "models",
    "optimize",
    "restore",
    "retrieve",
    "score_anomaly",
    "scroll",
    "search",
    "search_batch",
    "set_variant",
    "snapshot",
    "snapshots",
    "unload_model",
    "upsert",
]
