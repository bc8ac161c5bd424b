"""Every unary RPC of attar.v1 by its name, as a value that the clients send.

`search_batch` takes calls of `search`. The results are in `attar.values`.

An argument that calls share means the same in each:

- `name` or `collection`: what the call is about, by its name.
- `model`: a served model by its name; empty is the only one. `version`: empty is its newest.
- `items`: texts, or for a model of tensors one array, (items, ...), or a list of arrays of one
  shape.
- `role`: the prompt that is put before a text: "passage" or "query"; `embed` takes the
  other names of the model's prompts too.
- `truncation`: "truncate" cuts an item at the model's `max_length` tokens and flags it; "error"
  refuses the item.
- `partial`: each failed item has its error in the result's `errors`. Without it the first one is
  raised.
- `deadline_s`: seconds until the call must have its result, repeated attempts included.

Each call raises InvalidInput for an argument that cannot be sent, and the error of `attar.errors`
that the server met: NotFound for a name that does not exist, Unavailable where no server answers,
DeadlineExceeded, Overloaded, and Unauthenticated, PermissionDenied or RateLimited for a key.
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
from .embedding import embed, embed_tokens
from .models import info, load_model, models, set_variant, unload_model
from .reranking import rerank

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
    "embed_tokens",
    "fit_anomaly",
    "fit_classifier",
    "info",
    "load_model",
    "models",
    "optimize",
    "rerank",
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
