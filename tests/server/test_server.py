"""The server's promises, over a real channel on a free port."""

import asyncio
import logging
import math
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from onnx import TensorProto, helper, numpy_helper

import attar
from attar import Client, wire
from attar.bundle import Bundle
from attar.client.call import error_from, retry_after
from attar.errors import BundleRefused, InvalidInput
from attar.manifest import Manifest, Output, TensorSpec, Variant
from attar.server.app import running
from attar.server.rpc.methods import SERVICE_NAMES
from attar.v1 import embedding_pb2, embedding_pb2_grpc, item_pb2
from benchmarks.support.bundles import WORDS, tiny_bundle
from benchmarks.support.servers import free_port, process, serving, settings

SIDE = 512
HEAD_START_S = 0.15  # until a first call runs, which takes much longer


@pytest.fixture(scope="module")
def slow_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle whose every run takes some tenths of a second: a long chain of products."""
    weights = np.random.default_rng(0).standard_normal((SIDE, SIDE)) / math.sqrt(SIDE)
    names = ["rows", *(f"x{i}" for i in range(200))]
    nodes = [
        helper.make_node("Unsqueeze", ["x", "one"], ["row"]),
        helper.make_node("Mul", ["row", "many"], ["rows"]),
        *(helper.make_node("MatMul", [one, "w"], [next_]) for one, next_ in pairwise(names)),
        helper.make_node("ReduceMean", [names[-1]], ["mean"], axes=[1], keepdims=0),
        helper.make_node("LpNormalization", ["mean"], ["embedding"], axis=1, p=2),
    ]
    constants = {
        "one": np.array([1]),
        "many": np.ones((1, 448, 1), np.float32),
        "w": weights.astype(np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "slow",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", SIDE])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", SIDE])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    manifest = Manifest(
        name="slow",
        version="1",
        modality="vector",
        inputs=(TensorSpec(name="x", dtype="float32", shape=("batch", SIDE)),),
        output=Output(dim=SIDE, dims=(SIDE,)),
        reference="fp32",
        variants=(Variant(name="fp32", file="variants/fp32.onnx", precision="fp32"),),
    )
    path = tmp_path_factory.mktemp("slow") / "slow.attar"
    files = {"variants/fp32.onnx": model.SerializeToString()}
    return Bundle.write(path, manifest, files).path


@pytest.fixture
def target(bundle_path: Path, tmp_path: Path) -> Iterator[str]:
    with serving(settings(bundle_path, data_dir=tmp_path / "data")) as address:
        yield address


def slow_request(items: int = 1) -> embedding_pb2.EmbedRequest:
    """Embed items that no other request has, so that they do not share a run."""
    array = np.random.default_rng().random((items, SIDE), np.float32)
    return embedding_pb2.EmbedRequest(tensor=wire.to_tensor(array))


def texts(*values: str, **options: Any) -> embedding_pb2.EmbedRequest:
    return embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=values), **options)


def scrape(port: int | None) -> dict[str, float]:
    """Give every series of the metrics port by its full name."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
        lines = page.read().decode().splitlines()
    rows = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in rows}


def test_the_server_gives_the_runtimes_numbers(target: str, bundle_path: Path) -> None:
    words = ["the cat sat", "", "a longer text about the sun and the rain", "dog"]
    local = attar.load(bundle_path, threads=1).embed(words)

    with Client(target) as client:
        remote = client.embed(words)

    np.testing.assert_allclose(remote.vectors, local.vectors, atol=1e-6)
    assert remote.tokens.tolist() == local.tokens.tolist()
    assert (remote.fingerprint, remote.variant) == (local.fingerprint, local.variant)


def test_a_bad_item_fails_alone(target: str) -> None:
    with Client(target) as client:
        found = client.embed(["the cat", "cat " * 99, "sun"], truncation="error", partial=True)
        alone = client.embed(["the cat", "sun"])

    assert [type(error) for error in found.errors] == [type(None), attar.InputTooLong, type(None)]
    np.testing.assert_allclose(found.vectors[[0, 2]], alone.vectors, atol=1e-6)
    assert not found.vectors[1].any()


def test_what_was_cut_is_said(target: str) -> None:
    with Client(target) as client:
        found = client.embed(["the cat", "cat " * 99])

    assert found.truncated.tolist() == [False, True]
    assert found.tokens.tolist() == [4, 16]


async def test_a_stream_keeps_order_and_ids_and_outlives_a_bad_request(target: str) -> None:
    requests = [
        texts(*["cat"] * (1 + i % 5), id=f"r{i}", model="none" if i % 3 == 1 else "")
        for i in range(30)
    ]
    async with grpc.aio.insecure_channel(target) as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        answers = [answer async for answer in stub.EmbedStream(iter(requests))]

    assert [answer.id for answer in answers] == [request.id for request in requests]
    for i, answer in enumerate(answers):
        if i % 3 == 1:
            assert isinstance(error_from(answer.error), attar.NotFound)
        else:
            assert not answer.HasField("error")
            assert answer.embeddings.shape == [1 + i % 5, 16]


async def test_a_stream_answers_while_it_is_open(target: str) -> None:
    async with grpc.aio.insecure_channel(target) as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        call = stub.EmbedStream()
        for i in range(3):
            await call.write(texts("cat", id=str(i)))
            answer = await call.read()
            assert isinstance(answer, embedding_pb2.EmbedResponse)
            assert answer.id == str(i)
        await call.done_writing()


async def test_a_full_queue_refuses_calls_and_makes_streams_wait(
    bundle_path: Path, tmp_path: Path
) -> None:
    chosen = settings(bundle_path, data_dir=tmp_path, max_items=4, max_queue_items=4)
    requests = [texts(*(f"{i} {word} the cat" for word in WORDS[:4])) for i in range(50)]
    async with running(chosen) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        calls = [stub.Embed(request) for request in requests]
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        streamed = [answer async for answer in stub.EmbedStream(iter(requests))]

    refused = [error for error in outcomes if isinstance(error, grpc.aio.AioRpcError)]
    assert 0 < len(refused) < 50
    for error in refused:
        assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = dict(error.trailing_metadata())["grpc-status-details-bin"]
        assert retry_after(embedding_pb2.EmbedResponse(error=_status(status)).error) == 0.1
    assert [answer.HasField("error") for answer in streamed] == [False] * 50


def _status(serialized: str | bytes) -> Any:
    assert isinstance(serialized, bytes)
    return type(embedding_pb2.EmbedResponse().error).FromString(serialized)


async def test_a_deadline_is_met_in_the_queue_and_costs_no_run(
    slow_bundle: Path, tmp_path: Path
) -> None:
    chosen = settings(slow_bundle, data_dir=tmp_path, metrics_port=free_port())
    async with running(chosen) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        before = await asyncio.to_thread(scrape, chosen.metrics_port)
        first = asyncio.ensure_future(stub.Embed(slow_request()))
        await asyncio.sleep(HEAD_START_S)
        with pytest.raises(grpc.aio.AioRpcError) as late:
            await stub.Embed(slow_request(), timeout=0.05)
        await first
        await asyncio.sleep(0.1)
        after = await asyncio.to_thread(scrape, chosen.metrics_port)

    assert late.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    runs = 'attar_batch_items_sum{model="slow"}'
    assert after[runs] - before[runs] == 1
    left = sum(
        after[f'attar_{why}_total{{model="slow"}}'] for why in ("deadline_exceeded", "cancelled")
    )
    assert left == 1


async def test_a_cancelled_call_leaves_the_queue_and_the_others_alone(
    slow_bundle: Path, tmp_path: Path
) -> None:
    chosen = settings(slow_bundle, data_dir=tmp_path, metrics_port=free_port())
    async with running(chosen) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        before = await asyncio.to_thread(scrape, chosen.metrics_port)
        # The first must be running, and long enough, while the others wait behind it.
        first = asyncio.ensure_future(stub.Embed(slow_request(4)))
        await asyncio.sleep(HEAD_START_S)
        second, third = (asyncio.ensure_future(stub.Embed(slow_request())) for _ in range(2))
        await asyncio.sleep(HEAD_START_S)
        second.cancel()
        answers = await asyncio.gather(first, third)
        after = await asyncio.to_thread(scrape, chosen.metrics_port)

    assert [len(answer.items) for answer in answers] == [4, 1]
    runs = 'attar_batch_items_sum{model="slow"}'
    assert after[runs] - before[runs] == 5
    assert after['attar_cancelled_total{model="slow"}'] == 1
    outcome = 'attar_requests_total{outcome="CANCELLED",rpc="attar.v1.Embedding/Embed"}'
    assert after[outcome] == 1


async def test_calls_beyond_the_limit_are_refused_before_any_work(
    slow_bundle: Path, tmp_path: Path
) -> None:
    port_ = free_port()
    chosen = settings(slow_bundle, data_dir=tmp_path, max_concurrent_requests=1, metrics_port=port_)
    async with running(chosen) as port, grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        first = asyncio.ensure_future(stub.Embed(slow_request()))
        await asyncio.sleep(HEAD_START_S)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Embed(slow_request())
        assert len((await first).items) == 1
        rejected = (await asyncio.to_thread(scrape, port_))[
            'attar_rejected_total{reason="OVERLOADED"}'
        ]

    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert rejected == 1


def test_every_service_is_healthy_and_reflected(target: str) -> None:
    with grpc.insecure_channel(target) as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        states = {
            name: health.Check(health_pb2.HealthCheckRequest(service=name)).status
            for name in ("", *SERVICE_NAMES)
        }
        reflection: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = reflection.ServerReflectionInfo(iter([ask]))

    assert set(states.values()) == {health_pb2.HealthCheckResponse.SERVING}
    listed = {service.name for service in answer.list_services_response.service}
    assert {*SERVICE_NAMES, "grpc.health.v1.Health"} <= listed


def test_every_metric_is_there_before_the_first_request_and_counts_it(
    bundle_path: Path, tmp_path: Path
) -> None:
    chosen = settings(bundle_path, data_dir=tmp_path, metrics_port=free_port())
    ok = 'attar_requests_total{outcome="OK",rpc="attar.v1.Embedding/Embed"}'
    bad = 'attar_requests_total{outcome="NOT_FOUND",rpc="attar.v1.Embedding/Embed"}'
    with serving(chosen) as address, Client(address) as client:
        before = scrape(chosen.metrics_port)
        client.embed(["cat " * 99, "sun"])
        with pytest.raises(attar.NotFound):
            client.embed(["sun"], model="none")
        after = scrape(chosen.metrics_port)

    assert (before[ok], before[bad], before['attar_truncated_total{model="tiny"}']) == (0, 0, 0)
    assert (after[ok], after[bad], after['attar_truncated_total{model="tiny"}']) == (1, 1, 1)
    assert before.keys() - {"attar_in_flight"} == after.keys() - {"attar_in_flight"}
    assert after["attar_in_flight"] == 0
    assert after['attar_embedding_window{model="tiny"}'] == 1
    assert after['attar_model_ready{model="tiny",version="1"}'] == 1


def test_info_tells_the_models_and_every_limit(bundle_path: Path, tmp_path: Path) -> None:
    chosen = settings(bundle_path, data_dir=tmp_path, max_items=7)
    with serving(chosen) as address, Client(address) as client:
        info = client.info()

    limits = {name: getattr(chosen, name) for name in vars(chosen) if name.startswith("max_")}
    assert dict(info.limits) == limits
    assert info.limits["max_items"] == 7
    (model,) = info.models
    encoder = attar.load(bundle_path)
    assert (model.name, model.dim, model.max_length) == ("tiny", 16, 16)
    assert (model.fingerprint, model.variant) == (encoder.fingerprint, encoder.variant.name)
    assert model.ready


def test_everything_kept_is_there_after_a_restart(bundle_path: Path, tmp_path: Path) -> None:
    chosen = settings(bundle_path, data_dir=tmp_path)
    with serving(chosen) as address, Client(address) as client:
        client.create_collection("docs")
        client.upsert("docs", [1, 2], ["the cat", "the sun"], payloads=[{"n": 1}, {"n": 2}])
        detector = client.fit_anomaly("normal", [f"the cat sat on {i}" for i in range(30)])
        classifier = client.fit_classifier("topics", ["cat", "sun"], ["animal", "sky"])
        scored = client.score_anomaly("normal", ["dog"]).scores

    with serving(chosen) as address, Client(address) as client:
        assert client.count("docs") == 2
        assert client.search("docs", ["the cat"], limit=1)[0][0].payload == {"n": 1}
        assert client.detectors() == (detector,)
        assert client.classifiers() == (classifier,)
        assert client.score_anomaly("normal", ["dog"]).scores.tolist() == scored.tolist()


def test_vectors_of_another_space_are_refused(target: str) -> None:
    with Client(target) as client:
        client.create_collection("docs")
        mine = client.embed(["the cat"])
        client.upsert("docs", [1], vectors=mine)
        with pytest.raises(attar.SpaceMismatch, match="docs is in the space"):
            client.search("docs", vectors=mine.vectors, fingerprint="sha256:another")
        assert client.search("docs", vectors=mine)[0][0].score == pytest.approx(1, abs=1e-5)


async def test_a_taken_port_is_reported(bundle_path: Path, tmp_path: Path) -> None:
    async with running(settings(bundle_path, data_dir=tmp_path / "a")) as port:
        again = settings(bundle_path, data_dir=tmp_path / "b", port=port)
        with pytest.raises(InvalidInput, match=f"cannot listen on 127.0.0.1:{port}: the port is"):
            async with running(again):
                pass
        metrics = settings(bundle_path, data_dir=tmp_path / "b", metrics_port=port)
        with pytest.raises(InvalidInput, match=f"127.0.0.1:{port} for metrics"):
            async with running(metrics):
                pass


async def test_a_bad_bundle_is_reported_and_nothing_is_served(tmp_path: Path) -> None:
    bad = tiny_bundle(tmp_path / "bad.attar")
    (bad / "tokenizer.json").write_bytes(b"{}")

    with pytest.raises(BundleRefused, match=r"tokenizer\.json"):
        async with running(settings(bad, data_dir=tmp_path)):
            pass


async def test_an_open_address_is_warned_of(
    bundle_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    async with running(settings(bundle_path, data_dir=tmp_path)):
        assert not caplog.records
    everywhere = {"host": "0.0.0.0", "allow_anonymous": True}
    async with running(settings(bundle_path, data_dir=tmp_path, **everywhere)):
        assert "LISTENING ON 0.0.0.0: there are no keys" in caplog.text


async def test_a_drained_stream_answers_what_it_had_accepted(
    slow_bundle: Path, tmp_path: Path
) -> None:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{(port := free_port())}") as channel:
        stub = embedding_pb2_grpc.EmbeddingStub(channel)
        async with running(settings(slow_bundle, data_dir=tmp_path, port=port, grace_s=60.0)):
            call = stub.EmbedStream()
            await call.write(slow_request())
            await call.write(slow_request())
            await asyncio.sleep(HEAD_START_S)
        first, second = await call.read(), await call.read()
        for answer in (first, second):
            assert isinstance(answer, embedding_pb2.EmbedResponse)
            assert not answer.HasField("error")
        assert await call.code() is grpc.StatusCode.UNAVAILABLE


def test_sigterm_finishes_what_was_accepted_and_exits_with_0(
    slow_bundle: Path, tmp_path: Path
) -> None:
    arguments = (
        str(slow_bundle),
        "--port=0",
        "--metrics-port=off",
        "--http-port=off",
        f"--data-dir={tmp_path / 'data'}",
    )
    with process(*arguments, "--threads=1", ready_file=tmp_path / "ready") as (server, port):
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = embedding_pb2_grpc.EmbeddingStub(channel)
            health: Any = health_pb2_grpc.HealthStub(channel)
            states = health.Watch(health_pb2.HealthCheckRequest())
            assert next(states).status == health_pb2.HealthCheckResponse.SERVING
            accepted = stub.Embed.future(slow_request())
            time.sleep(0.1)
            server.send_signal(signal.SIGTERM)
            assert next(states).status == health_pb2.HealthCheckResponse.NOT_SERVING
            with pytest.raises(grpc.RpcError) as refused:
                stub.Embed(slow_request())
            assert len(accepted.result(timeout=20).items) == 1
            states.cancel()
        assert server.wait(timeout=20) == 0
        log = server.stderr.read() if server.stderr else ""

    error: Any = refused.value
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert "max_items = 2048" in log
    assert "everything that was acknowledged is on disk" in log
    assert not (tmp_path / "ready").exists()


def test_a_refusal_to_start_is_one_line_and_exit_code_2(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "attar.server",
        "nowhere.attar",
        "--port=0",
        "--metrics-port=off",
        "--http-port=off",
    ]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("attar: ")
    assert "nowhere.attar" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_running_server_has_not_imported_torch(bundle_path: Path, tmp_path: Path) -> None:
    program = f"""
import asyncio, sys
from pathlib import Path
from attar.server.app import running
from attar.server.settings import Settings

async def main():
    places = dict(bundles=({str(bundle_path)!r},), data_dir={str(tmp_path)!r})
    async with running(Settings(**places, port=0, metrics_port=None, http_port=None)):
        heavy = {{"torch", "lightning", "transformers", "onnx"}} & sys.modules.keys()
        assert not heavy, heavy

if __name__ == "__main__":
    asyncio.run(main())
"""
    script = tmp_path / "floor.py"
    script.write_text(program, "utf-8")
    subprocess.run([sys.executable, str(script)], check=True, timeout=60)
