"""Traces: a server's spans hang under its client's, and without the extra nothing is imported."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as collector
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as collector_grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from attar import Client, NotFound
from attar.errors import InvalidInput
from benchmarks.support.servers import free_port, serving, settings


class Collector(collector_grpc.TraceServiceServicer):
    """Keeps the spans that an OTLP exporter sends."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.services: set[str] = set()

    def Export(self, request: Any, context: Any) -> Any:
        for resource in request.resource_spans:
            self.services |= {
                one.value.string_value
                for one in resource.resource.attributes
                if one.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return collector.ExportTraceServiceResponse()


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Run a collector, and let the environment name it."""
    kept = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    collector_grpc.add_TraceServiceServicer_to_server(kept, server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    yield kept
    server.stop(0).wait()


@pytest.fixture(scope="module")
def applications() -> InMemorySpanExporter:
    """Let this process trace as an application does, which it can decide once."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


def test_a_calls_spans_hang_under_its_clients(
    bundle_path: Path, tmp_path: Path, collected: Collector, applications: InMemorySpanExporter
) -> None:
    applications.clear()
    with serving(settings(bundle_path, data_dir=tmp_path)) as target, Client(target) as client:
        client.embed(["the cat", "sun"])
        with pytest.raises(NotFound):
            client.embed(["the cat"], model="none")

    asked, refused = applications.get_finished_spans()
    assert asked.name == "attar.v1.Embedding/Embed"
    assert asked.context is not None
    whole, failed = [s for s in collected.spans if s.kind == s.SPAN_KIND_SERVER]
    assert whole.trace_id == asked.context.trace_id.to_bytes(16, "big")
    assert whole.parent_span_id == asked.context.span_id.to_bytes(8, "big")
    parts = [s for s in collected.spans if s.parent_span_id == whole.span_id]
    assert [part.name for part in parts] == ["tokenize", "queue", "infer"]
    for part in parts:
        assert whole.start_time_unix_nano <= part.start_time_unix_nano
        assert part.start_time_unix_nano <= part.end_time_unix_nano <= whole.end_time_unix_nano
    assert collected.services == {"attar"}
    assert (refused.status.description, failed.status.message) == ("NotFound", "NOT_FOUND")


def test_a_stream_is_one_span(
    bundle_path: Path, tmp_path: Path, collected: Collector, applications: InMemorySpanExporter
) -> None:
    applications.clear()
    with serving(settings(bundle_path, data_dir=tmp_path)) as target, Client(target) as client:
        assert len(list(client.embed_stream([["the cat"], ["sun"]]))) == 2

    (asked,) = applications.get_finished_spans()
    (whole,) = [s for s in collected.spans if s.kind == s.SPAN_KIND_SERVER]
    assert asked.context is not None
    assert whole.parent_span_id == asked.context.span_id.to_bytes(8, "big")


def test_a_request_by_http_hangs_under_its_traceparent(
    bundle_path: Path, tmp_path: Path, collected: Collector
) -> None:
    chosen = settings(bundle_path, data_dir=tmp_path, http_port=free_port())
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with serving(chosen):
        answer = httpx.post(
            f"http://127.0.0.1:{chosen.http_port}/v1/embeddings",
            json={"model": "tiny", "input": "the cat"},
            headers={"traceparent": parent},
        )

    (whole,) = [s for s in collected.spans if s.kind == s.SPAN_KIND_SERVER]
    described = {one.key: one.value.string_value for one in whole.attributes}
    assert answer.status_code == 200
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == tuple(parent.split("-")[1:3])
    assert described["http.route"] == "/v1/embeddings"
    assert {s.name for s in collected.spans} == {whole.name, "tokenize", "queue", "infer"}


def test_no_span_holds_a_text(
    bundle_path: Path, tmp_path: Path, collected: Collector, applications: InMemorySpanExporter
) -> None:
    applications.clear()
    with serving(settings(bundle_path, data_dir=tmp_path)) as target, Client(target) as client:
        client.embed(["xyzzyplugh"])

    assert collected.spans
    assert "xyzzyplugh" not in str(collected.spans)
    assert all("xyzzyplugh" not in s.to_json() for s in applications.get_finished_spans())


def test_a_collector_that_is_not_there_hurts_no_call(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    with serving(settings(bundle_path, data_dir=tmp_path)) as target, Client(target) as client:
        assert len(client.embed(["the cat"])) == 1
        leaving = time.monotonic()
    assert time.monotonic() - leaving < 20


def test_a_protocol_that_attar_does_not_send_is_refused(
    bundle_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf")
    with (
        pytest.raises(InvalidInput, match=r"OTLP_PROTOCOL is 'http/protobuf'; attar sends .* grpc"),
        serving(settings(bundle_path, data_dir=tmp_path)),
    ):
        pass


def test_without_the_variable_nothing_of_opentelemetry_is_imported() -> None:
    program = "import sys, attar.client, attar.server.app; print('opentelemetry' in sys.modules)"
    without = {key: value for key, value in os.environ.items() if not key.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=without,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )

    assert done.stdout.strip() == "False"
