"""Metrics: all there at zero, and true afterwards."""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import generate_latest

from attar.server.observability.drift import ROWS
from attar.server.observability.metrics import OUTCOMES, REASONS, Metrics, ModelMetrics

DOCS = Path(__file__).parents[3] / "docs" / "operating.md"


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_every_series_is_at_zero_before_the_first_request() -> None:
    metrics = Metrics(["attar.v1.Info/GetInfo"])
    ModelMetrics(metrics, "m")

    for outcome in OUTCOMES:
        labels = {"rpc": "attar.v1.Info/GetInfo", "outcome": outcome}
        assert value(metrics, "attar_requests_total", **labels) == 0
    for reason in REASONS:
        assert value(metrics, "attar_rejected_total", reason=reason) == 0
    for name in ("padding_tokens", "truncated", "cancelled", "deadline_exceeded"):
        assert value(metrics, f"attar_{name}_total", model="m") == 0
    for name in ("queue_seconds", "tokenize_seconds", "infer_seconds", "batch_items"):
        assert value(metrics, f"attar_{name}_count", model="m") == 0
    assert value(metrics, "attar_in_flight") == 0
    assert (value(metrics, "attar_resident_memory_bytes") or 0) > 1e6


def test_a_run_counts_its_items_its_tokens_and_its_padding() -> None:
    metrics = Metrics()
    model = ModelMetrics(metrics, "m")

    model.batch(3, tokens=10, padded_tokens=12, seconds=0.5)
    model.tokenized(0.1, truncated=2)

    assert value(metrics, "attar_batch_items_sum", model="m") == 3
    assert value(metrics, "attar_batch_tokens_sum", model="m") == 12
    assert value(metrics, "attar_padding_tokens_total", model="m") == 2
    assert value(metrics, "attar_infer_seconds_sum", model="m") == pytest.approx(0.5)
    assert value(metrics, "attar_truncated_total", model="m") == 2


def test_no_series_is_labelled_by_free_text() -> None:
    metrics = Metrics(["attar.v1.Info/GetInfo"])
    ModelMetrics(metrics, "m")

    keys = {k for family in metrics.registry.collect() for s in family.samples for k in s.labels}
    assert keys <= {"rpc", "outcome", "reason", "model", "version", "le"}


def test_two_servers_in_one_process_do_not_share_their_counts() -> None:
    first, second = Metrics(), Metrics()

    first.rejected("OVERLOADED")

    assert b'attar_rejected_total{reason="OVERLOADED"} 1.0' in generate_latest(first.registry)
    assert b'attar_rejected_total{reason="OVERLOADED"} 0.0' in generate_latest(second.registry)


@dataclass(frozen=True)
class Some:
    """A model as metrics see it."""

    name: str = "m"
    version: str = "1"
    ready: bool = True
    waiting: tuple[int, int] = (3, 40)


def test_what_waits_now_is_read_at_each_scrape() -> None:
    metrics, models = Metrics(), [Some(), Some(version="2", ready=False, waiting=(0, 0))]
    metrics.watch(models)

    assert value(metrics, "attar_queue_items", model="m", version="1") == 3
    assert value(metrics, "attar_queue_tokens", model="m", version="1") == 40
    assert value(metrics, "attar_model_ready", model="m", version="2") == 0
    models.pop()
    assert value(metrics, "attar_model_ready", model="m", version="2") is None


def test_embeddings_are_looked_at() -> None:
    metrics = Metrics()
    model = ModelMetrics(metrics, "m")
    for embedding in np.eye(4, dtype=np.float32)[np.arange(ROWS) % 4]:
        model.embedded(embedding)

    assert value(metrics, "attar_embedding_window", model="m") == ROWS  # begins to make the others
    deadline = time.monotonic() + 30
    while not value(metrics, "attar_embedding_rankme", model="m"):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    assert value(metrics, "attar_embedding_rankme", model="m") == pytest.approx(4, rel=1e-3)
    assert value(metrics, "attar_embedding_shift", model="m") == 0
    assert value(metrics, "attar_embedding_drift", model="m") == pytest.approx(0, abs=1e-6)


def test_the_documentation_has_the_metrics_table() -> None:
    metrics = Metrics(["x"])
    ModelMetrics(metrics, "m")
    metrics.watch([Some()])

    assert metrics.table() in DOCS.read_text("utf-8"), metrics.table()
