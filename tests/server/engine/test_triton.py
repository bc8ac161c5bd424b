"""Triton as an engine: our host's step, its graph. The peers speak real gRPC, on free ports."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnxruntime as ort
import pytest
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

import attar
from attar import Client
from attar.errors import NotFound, NotSupported, SpaceMismatch, Unavailable
from benchmarks.support.bundles import tiny_bundle, tiny_tensor_bundle
from benchmarks.support.servers import free_port, serving, settings

MOST = 4  # rows that the stand-in takes at a time


class StandIn(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """What Triton's ONNX Runtime backend makes of NAME_graph, as far as the engine asks."""

    def __init__(self, bundle: Path) -> None:
        """Run the bundle's reference."""
        self.manifest = attar.Bundle.open(bundle).manifest
        self.session = ort.InferenceSession(
            bundle / self.manifest.variant(self.manifest.reference).file,
            providers=["CPUExecutionProvider"],
        )
        self.rows: list[int] = []

    def ModelMetadata(self, request: Any, context: Any) -> Any:
        if request.name != f"{self.manifest.name}_graph":
            context.abort(grpc.StatusCode.NOT_FOUND, f"unknown model {request.name}")
        inputs = [{"name": spec.name, "datatype": "INT64"} for spec in self.manifest.inputs]
        return service_pb2.ModelMetadataResponse(name=request.name, inputs=inputs)

    def ModelConfig(self, request: Any, context: Any) -> Any:
        config = model_config_pb2.ModelConfig(name=request.name, max_batch_size=MOST)
        return service_pb2.ModelConfigResponse(config=config)

    def ModelInfer(self, request: Any, context: Any) -> Any:
        feed = {
            tensor.name: np.frombuffer(raw, np.int64).reshape(tensor.shape)
            for tensor, raw in zip(request.inputs, request.raw_input_contents, strict=True)
        }
        (vectors,) = self.session.run(["embedding"], feed)
        self.rows.append(len(vectors))
        output = {"name": "embedding", "datatype": "FP32", "shape": vectors.shape}
        return service_pb2.ModelInferResponse(
            outputs=[output], raw_output_contents=[vectors.tobytes()]
        )


@contextmanager
def standing_in(bundle: Path, *, port: int = 0) -> Iterator[tuple[StandIn, str]]:
    """Serve a text bundle's graph; gives the servicer and its address."""
    servicer = StandIn(bundle)
    server = grpc.server(ThreadPoolExecutor(2))
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    try:
        yield servicer, f"127.0.0.1:{port}"
    finally:
        server.stop(0).wait()


def wait_for(true: Callable[[], bool]) -> None:
    """Wait for what is about to be true."""
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_texts_are_prepared_here_and_run_there(bundle_path: Path, tmp_path: Path) -> None:
    texts = ["the cat", "", "a dog ran on the mat", "sun", "rain", "cat " * 99]
    local = attar.load(bundle_path, threads=1, variant="fp32").embed(texts)
    with standing_in(bundle_path) as (peer, url):
        chosen = settings(bundle_path, data_dir=tmp_path, triton=url)
        with serving(chosen) as address, Client(address) as client:
            peer.rows.clear()
            found = client.embed(texts)
            assert max(peer.rows) <= MOST
            assert sum(peer.rows) == len(texts)
            assert found.truncated.tolist() == local.truncated.tolist()
            np.testing.assert_allclose(found.vectors, local.vectors, atol=1e-6)
            assert found.fingerprint == local.fingerprint


def test_a_server_of_ours_can_be_the_engine_of_another(tmp_path: Path) -> None:
    bundle = tiny_tensor_bundle(tmp_path / "image.attar")
    images = np.random.default_rng(0).random((5, 1, 8, 8), np.float32)
    local = attar.load(bundle).embed(images)
    with serving(settings(bundle, data_dir=tmp_path / "a")) as url:
        chosen = settings(bundle, data_dir=tmp_path / "b", triton=url)
        with serving(chosen) as address, Client(address) as client:
            np.testing.assert_allclose(client.embed(images).vectors, local.vectors, atol=1e-6)


def test_another_model_s_weights_are_refused_at_start(bundle_path: Path, tmp_path: Path) -> None:
    other = tiny_bundle(tmp_path / "other.attar", seed=9)
    with standing_in(other) as (_, url):
        chosen = settings(bundle_path, data_dir=tmp_path, triton=url)
        with pytest.raises(SpaceMismatch, match="embeds into another space"), serving(chosen):
            pass


def test_a_server_that_lacks_the_model_or_is_absent_is_reported_at_start(
    bundle_path: Path, tmp_path: Path
) -> None:
    named = tiny_bundle(tmp_path / "named.attar", name="named")
    with standing_in(bundle_path) as (_, url):
        chosen = settings(named, data_dir=tmp_path, triton=url)
        with pytest.raises(NotFound, match="unknown model named_graph"), serving(chosen):
            pass
        chosen = settings(bundle_path, data_dir=tmp_path, triton=url)
        with serving(chosen) as address, Client(address) as client:
            with pytest.raises(NotSupported, match="not variant int8"):
                client.set_variant("tiny", "int8")
            assert client.embed(["sun"]).variant == "fp32"
    nobody = settings(bundle_path, data_dir=tmp_path, triton=f"127.0.0.1:{free_port()}")
    with pytest.raises(Unavailable, match="model tiny_graph at"), serving(nobody):
        pass


def test_while_triton_is_away_callers_get_a_retry_error_and_the_model_is_not_ready(
    bundle_path: Path, tmp_path: Path
) -> None:
    port = free_port()
    with standing_in(bundle_path, port=port) as (_, url):
        chosen = settings(bundle_path, data_dir=tmp_path, triton=url, heartbeat_s=0.2)
        outliving = ExitStack()
        client = outliving.enter_context(Client(outliving.enter_context(serving(chosen))))
    with outliving:
        with pytest.raises(Unavailable, match="model tiny_graph: failed to connect"):
            client.embed(["sun"], deadline_s=1.0)
        wait_for(lambda: not client.info().models[0].ready)
        with standing_in(bundle_path, port=port):
            wait_for(lambda: client.info().models[0].ready)
            assert len(client.embed(["sun"])) == 1
