"""Metrics: what the server counts, all of it present at zero before the first request."""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import numpy as np
import psutil
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from attar.errors import (
    Overloaded,
    PermissionDenied,
    RateLimited,
    Unauthenticated,
    Unavailable,
)

from ..errors import STATUS
from ..limits.fair_shares import FairShares
from .drift import Drift

# Fixed, so that two servers, or two releases, can be added up.
SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
ITEMS: Final = tuple(2**n for n in range(12))
RATIOS: Final = (0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75)
TOKENS: Final = tuple(2**n for n in range(3, 18))
OUTCOMES: Final = ("OK", *dict.fromkeys(code.name for code in STATUS.values()))
REASONS: Final = tuple(
    error.reason
    for error in (Overloaded, Unavailable, Unauthenticated, PermissionDenied, RateLimited)
)


class Watched(Protocol):
    """What of a model is read at each scrape, from another thread."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def version(self) -> str:
        """Its version."""

    @property
    def ready(self) -> bool:
        """Whether it answers."""

    @property
    def waiting(self) -> tuple[int, int]:
        """Items, and their tokens, that wait for a run."""


class _States(Collector):
    """The gauges of the models that are served now."""

    def __init__(self, models: Iterable[Watched]) -> None:
        self._models = models

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample a version of a model in each family."""
        labels = ("model", "version")
        items = GaugeMetricFamily("attar_queue_items", "Items that wait for a run.", labels=labels)
        tokens = GaugeMetricFamily(
            "attar_queue_tokens", "Tokens that wait for a run.", labels=labels
        )
        ready = GaugeMetricFamily("attar_model_ready", "1 while the model answers.", labels=labels)
        for model in self._models:
            of = (model.name, model.version)
            for family, value in zip((items, tokens), model.waiting, strict=True):
                family.add_metric(of, value)
            ready.add_metric(of, float(model.ready))
        yield from (items, tokens, ready)


class Metrics:
    """The server's own registry; a ModelMetrics reports into it for each model."""

    def __init__(self, rpcs: Iterable[str] = ()) -> None:
        """Start every series at zero; `rpcs` are full names such as `attar.v1.Info/GetInfo`."""
        self.registry = CollectorRegistry()
        self._requests = self._counter(
            "requests", "Calls that ended, by gRPC status.", "rpc", "outcome"
        )
        self._seconds = Histogram(
            "attar_request_seconds",
            "Time of a call at the server.",
            ("rpc",),
            registry=self.registry,
            buckets=SECONDS,
        )
        self._rejected = self._counter(
            "rejected", "Calls or items refused before any work.", "reason"
        )
        self._in_flight = Gauge(
            "attar_in_flight", "Calls that are being answered.", registry=self.registry
        )
        self._streams = Gauge("attar_streams", "Streams that are open.", registry=self.registry)
        self._untaken = Gauge(
            "attar_untaken_bytes",
            "Bytes of answers that are being made or not read yet.",
            registry=self.registry,
        )
        resident = Gauge(
            "attar_resident_memory_bytes", "Resident set size.", registry=self.registry
        )
        process = psutil.Process()
        resident.set_function(lambda: float(process.memory_info().rss))
        self.queue = self._histogram("queue_seconds", "Time an item waited for its run.", SECONDS)
        self.tokenize = self._histogram(
            "tokenize_seconds", "Time to prepare a call's items.", SECONDS
        )
        self.infer = self._histogram("infer_seconds", "Time of one run of the model.", SECONDS)
        self.batch_items = self._histogram("batch_items", "Items in one run.", ITEMS)
        self.batch_tokens = self._histogram("batch_tokens", "Padded tokens in one run.", TOKENS)
        self.padding_ratio = self._histogram(
            "padding_ratio", "Share of one run's tokens that are padding.", RATIOS
        )
        self.padding = self._counter("padding_tokens", "Padding tokens.", "model")
        self.truncated = self._counter("truncated", "Items that were cut to max_length.", "model")
        self.cancelled = self._counter(
            "cancelled", "Items whose caller left before the answer.", "model"
        )
        self.expired = self._counter(
            "deadline_exceeded", "Items without an answer at their deadline.", "model"
        )
        self.shared = self._counter("shared", "Items that joined an equal one in flight.", "model")
        self.cache_hits = self._counter("cache_hits", "Items answered from the cache.", "model")
        self.cache_misses = self._counter(
            "cache_misses", "Items that were not in the cache.", "model"
        )
        self.loads = self._counter(
            "model_loads", "Bundles that were opened to be served.", "model", "outcome"
        )
        self._unwatched = Counter(
            "attar_repository_looks_failed",
            "Checks of model_repository that failed.",
            registry=self.registry,
        )
        self.lost = self._counter("workers_lost", "Runs given up, each with its thread.", "model")
        self.window = self._gauge("embedding_window", "Embeddings kept for the drift figures.")
        self.rankme = self._gauge(
            "embedding_rankme", "RankMe of a full window: the number of dimensions in use."
        )
        self.shift = self._gauge(
            "embedding_shift", "Distance of the window's mean from the reference's, in its spread."
        )
        self.drift = self._gauge(
            "embedding_drift", "Fréchet distance of the window from the reference, in its spread."
        )
        for rpc in rpcs:
            self._seconds.labels(rpc)
            for outcome in OUTCOMES:
                self._requests.labels(rpc, outcome)
        for reason in REASONS:
            self._rejected.labels(reason)

    def started(self) -> None:
        """A call came in."""
        self._in_flight.inc()

    def ended(self, rpc: str, outcome: str, seconds: float) -> None:
        """A call was answered, with this gRPC status name and after so long."""
        self._in_flight.dec()
        self._seconds.labels(rpc).observe(seconds)
        self._requests.labels(rpc, outcome).inc()

    def rejected(self, reason: str) -> None:
        """A call or an item was refused, for an AttarError's `reason`."""
        self._rejected.labels(reason).inc()

    def hold(self, *, streams: FairShares, untaken: FairShares) -> None:
        """Report what callers hold at each scrape."""
        self._streams.set_function(lambda: float(streams.total))
        self._untaken.set_function(lambda: float(untaken.total))

    def loaded(self, model: str, *, good: bool) -> None:
        """A bundle was opened to be served, and is, or is not."""
        self.loads.labels(model, "served" if good else "refused").inc()

    def unwatched(self) -> None:
        """A look at the folder of bundles failed."""
        self._unwatched.inc()

    def watch(self, models: Iterable[Watched]) -> None:
        """Report on these models at each scrape."""
        self.registry.register(_States(models))

    def table(self) -> str:
        """Every metric as a Markdown table; docs/operating.md holds it."""
        rows = ["| metric | kind | labels | what it is |", "| --- | --- | --- | --- |"]
        for metric in self.registry.collect():
            name = metric.name + ("_total" if metric.type == "counter" else "")
            keys = dict.fromkeys(
                key for sample in metric.samples for key in sample.labels if key != "le"
            )
            labels = ", ".join(f"`{key}`" for key in keys)
            rows.append(f"| `{name}` | {metric.type} | {labels} | {metric.documentation} |")
        return "\n".join(rows)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"attar_{name}", what, labels, registry=self.registry)

    def _gauge(self, name: str, what: str) -> Gauge:
        return Gauge(f"attar_{name}", what, ("model",), registry=self.registry)

    def _histogram(self, name: str, what: str, buckets: tuple[float, ...]) -> Histogram:
        return Histogram(f"attar_{name}", what, ("model",), registry=self.registry, buckets=buckets)


class ModelMetrics:
    """The engine's Observer for one model; its series start at zero here."""

    def __init__(self, metrics: Metrics, model: str) -> None:
        """Take the model's own series."""
        self._queue = metrics.queue.labels(model)
        self._tokenize = metrics.tokenize.labels(model)
        self._infer = metrics.infer.labels(model)
        self._batch_items = metrics.batch_items.labels(model)
        self._batch_tokens = metrics.batch_tokens.labels(model)
        self._padding = metrics.padding.labels(model)
        self._truncated = metrics.truncated.labels(model)
        self._cancelled = metrics.cancelled.labels(model)
        self._expired = metrics.expired.labels(model)
        self._shared = metrics.shared.labels(model)
        self._cache_hits = metrics.cache_hits.labels(model)
        self._cache_misses = metrics.cache_misses.labels(model)
        self._lost = metrics.lost.labels(model)
        for outcome in ("served", "refused"):
            metrics.loads.labels(model, outcome)
        self._padding_ratio = metrics.padding_ratio.labels(model)
        self._drift = drift = Drift()
        metrics.window.labels(model).set_function(lambda: drift.shown().rows)
        metrics.rankme.labels(model).set_function(lambda: drift.shown().rankme)
        metrics.shift.labels(model).set_function(lambda: drift.shown().shift)
        metrics.drift.labels(model).set_function(lambda: drift.shown().drift)
        self.rejected = metrics.rejected

    def batch(self, size: int, tokens: int, padded_tokens: int, seconds: float) -> None:
        """One run: `padded_tokens` is what was computed, `tokens` what was requested."""
        self._batch_items.observe(size)
        self._batch_tokens.observe(padded_tokens)
        self._padding.inc(padded_tokens - tokens)
        self._padding_ratio.observe(1 - tokens / padded_tokens)
        self._infer.observe(seconds)

    def embedded(self, embedding: NDArray[np.float32]) -> None:
        """One call was answered, with this embedding among others."""
        self._drift.keep(embedding)

    def waited(self, seconds: float) -> None:
        """One item left the queue."""
        self._queue.observe(seconds)

    def tokenized(self, seconds: float, *, truncated: int) -> None:
        """One call's items were prepared, and so many of them cut."""
        self._tokenize.observe(seconds)
        self._truncated.inc(truncated)

    def expired(self) -> None:
        """One item's deadline passed while it waited."""
        self._expired.inc()

    def cancelled(self) -> None:
        """One item's caller left while it waited."""
        self._cancelled.inc()

    def shared(self) -> None:
        """One item joined an equal one in flight."""
        self._shared.inc()

    def cached(self, *, hits: int, misses: int) -> None:
        """One call's items were looked up."""
        self._cache_hits.inc(hits)
        self._cache_misses.inc(misses)

    def lost(self) -> None:
        """One run was given up with its worker."""
        self._lost.inc()
