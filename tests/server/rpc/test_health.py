"""Health and reflection: what orchestrators and tools ask before they call anything."""

import asyncio
import contextlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from tritonclient.grpc.aio import InferenceServerClient

from attar.server.app import running
from attar.server.rpc import reflection
from attar.server.rpc.methods import SERVICE_NAMES
from benchmarks.support.bundles import tiny_tensor_bundle
from benchmarks.support.servers import free_port, serving, settings

STATES = health_pb2.HealthCheckResponse


async def states(channel: grpc.aio.Channel, names: Iterable[str]) -> list[int]:
    health: Any = health_pb2_grpc.HealthStub(channel)
    asked = [health.Check(health_pb2.HealthCheckRequest(service=name)) for name in names]
    return [answer.status for answer in await asyncio.gather(*asked)]


async def test_the_whole_each_service_and_each_model_have_a_state(
    bundle_path: Path, tmp_path: Path
) -> None:
    image = tiny_tensor_bundle(tmp_path / "image.attar")
    names = ("", *SERVICE_NAMES, "tiny", "tiny-image")
    async with running(settings(bundle_path, image, data_dir=tmp_path / "data")) as port:
        address = f"127.0.0.1:{port}"
        async with grpc.aio.insecure_channel(address) as channel:
            assert set(await states(channel, names)) == {STATES.SERVING}
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await states(channel, ["none"])
            async with InferenceServerClient(address) as triton:
                health: Any = health_pb2_grpc.HealthStub(channel)
                watch = health.Watch(health_pb2.HealthCheckRequest(service="tiny-image"))
                seen = [(await watch.read()).status]
                await triton.unload_model("tiny-image")
                seen.append((await watch.read()).status)
                await triton.load_model("tiny-image")
                seen.append((await watch.read()).status)

    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    assert seen == [STATES.SERVING, STATES.SERVICE_UNKNOWN, STATES.SERVING]


async def test_a_watcher_gets_the_end_after_another_has_left(
    bundle_path: Path, tmp_path: Path
) -> None:
    port = free_port()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        health: Any = health_pb2_grpc.HealthStub(channel)
        async with running(settings(bundle_path, data_dir=tmp_path, port=port)):
            leaves, stays = (health.Watch(health_pb2.HealthCheckRequest()) for _ in range(2))
            for watch in (leaves, stays):
                assert (await watch.read()).status == STATES.SERVING
            leaves.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await leaves.wait_for_connection()
            ending = asyncio.ensure_future(stays.read())  # begun later, it finds the call over
        last = await ending
        assert await stays.read() is grpc.aio.EOF

    assert last.status == STATES.NOT_SERVING
    assert await stays.code() is grpc.StatusCode.OK


@pytest.mark.parametrize("name", [reflection.V1, reflection.V1ALPHA])
def test_reflection_knows_every_service_under_both_of_its_names(
    name: str, bundle_path: Path, tmp_path: Path
) -> None:
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(
            file_containing_symbol="inference.GRPCInferenceService"
        ),
        reflection_pb2.ServerReflectionRequest(file_by_filename="attar/v1/options.proto"),
    ]
    with (
        serving(settings(bundle_path, data_dir=tmp_path)) as target,
        grpc.insecure_channel(target) as channel,
    ):
        ask = channel.stream_stream(
            f"/{name}/ServerReflectionInfo",
            request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
            response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
        )
        listed, described, options = ask(iter(asked))

    found = {service.name for service in listed.list_services_response.service}
    file = FileDescriptorProto.FromString(
        described.file_descriptor_response.file_descriptor_proto[0]
    )
    assert {*SERVICE_NAMES, "grpc.health.v1.Health", reflection.V1, reflection.V1ALPHA} <= found
    assert "ModelInfer" in {method.name for method in file.service[0].method}
    file = FileDescriptorProto.FromString(options.file_descriptor_response.file_descriptor_proto[0])
    assert {extension.name for extension in file.extension} == {"scope", "owner_only"}


async def test_a_name_that_is_none_is_not_kept_by_those_who_watch(
    bundle_path: Path, tmp_path: Path
) -> None:
    ask = health_pb2.HealthCheckRequest(service="a" * 257)
    async with (
        running(settings(bundle_path, data_dir=tmp_path / "data")) as port,
        grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel,
    ):
        health: Any = health_pb2_grpc.HealthStub(channel)
        with pytest.raises(grpc.aio.AioRpcError, match="257 characters, more than 256"):
            await health.Check(ask)
        with pytest.raises(grpc.aio.AioRpcError, match="257 characters, more than 256"):
            await health.Watch(ask).read()
