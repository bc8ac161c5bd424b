"""Metrics: all there at zero, and true afterwards."""

from pathlib import Path

import pytest
from prometheus_client import generate_latest

from attar.server.metrics import OUTCOMES, REASONS, Metrics, ModelMetrics

DOCS = Path(__file__).parents[1] / "docs" / "serving.md"


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
    assert keys <= {"rpc", "outcome", "reason", "model", "le"}


def test_two_servers_in_one_process_do_not_share_their_counts() -> None:
    first, second = Metrics(), Metrics()

    first.rejected("OVERLOADED")

    assert b'attar_rejected_total{reason="OVERLOADED"} 1.0' in generate_latest(first.registry)
    assert b'attar_rejected_total{reason="OVERLOADED"} 0.0' in generate_latest(second.registry)


def test_the_documentation_has_the_metrics_table() -> None:
    metrics = Metrics(["x"])
    ModelMetrics(metrics, "m")

    assert metrics.table() in DOCS.read_text("utf-8"), metrics.table()
