"""KServe v2 over gRPC: Triton's own clients, unchanged, against a real server."""

import queue
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2
from tritonclient.utils import InferenceServerException, deserialize_bytes_tensor

import attar
from attar.errors import ShapeError
from attar.server import kserve
from benchmarks.support.bundles import tiny_bundle, tiny_tensor_bundle
from benchmarks.support.servers import serving, settings

SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
MAX_ITEMS = 40
WORDS = ["the cat sat", "", "a longer text about the sun and the rain", "dog"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = {"query": "query: ", "passage": "passage: "}
    return tiny_bundle(
        tmp_path_factory.mktemp("kserve") / "tiny.attar", dims=(8, 16), prompts=prompts
    )


@pytest.fixture(scope="module")
def target(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("kserve-server")
    image = tiny_tensor_bundle(folder / "image.attar")
    with serving(settings(bundle, image, data_dir=folder / "data", max_items=MAX_ITEMS)) as address:
        yield address


@pytest.fixture
def client(target: str) -> Iterator[Any]:
    with triton.InferenceServerClient(target) as client:
        yield client


def text(*values: str | bytes, shape: tuple[int, ...] | None = None) -> Any:
    data = [value if isinstance(value, bytes) else value.encode() for value in values]
    tensor = triton.InferInput("text", shape or (len(data),), "BYTES")
    tensor.set_data_from_numpy(np.array(data, np.object_).reshape(shape or (len(data),)))
    return tensor


def image(array: NDArray[Any], datatype: str = "FP32") -> Any:
    tensor = triton.InferInput("image", array.shape, datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def refused(error: pytest.ExceptionInfo[InferenceServerException]) -> tuple[str, str]:
    return error.value.status().removeprefix("StatusCode."), error.value.message()


def test_the_server_and_its_models_say_what_they_are(client: Any) -> None:
    server = client.get_server_metadata()
    model = client.get_model_metadata("tiny", as_json=True)
    config = client.get_model_config("tiny-image").config

    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("tiny")
    assert client.is_model_ready("tiny", "1")
    assert not client.is_model_ready("tiny", "2")
    assert not client.is_model_ready("none")
    assert (server.name, "statistics" in server.extensions) == ("attar", True)
    assert model["versions"] == ["1"]
    assert model["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": ["-1", "1"]}]
    assert [(one["name"], one["datatype"], one["shape"]) for one in model["outputs"]] == [
        ("embedding", "FP32", ["-1", "16"]),
        ("input_tokens", "INT32", ["-1"]),
        ("truncated", "BOOL", ["-1"]),
        ("status", "INT32", ["-1"]),
    ]
    assert config.max_batch_size == MAX_ITEMS
    assert [(one.name, list(one.dims)) for one in config.input] == [("image", [1, 8, 8])]
    assert config.HasField("dynamic_batching")
    with pytest.raises(InferenceServerException, match="no model 'none'; this server has tiny"):
        client.get_model_metadata("none")
    with pytest.raises(InferenceServerException, match="tiny has no version '2'"):
        client.get_model_config("tiny", "2")


@pytest.mark.parametrize("shape", [(4,), (4, 1)])
def test_texts_become_the_runtimes_numbers(
    client: Any, bundle: Path, shape: tuple[int, ...]
) -> None:
    local = attar.load(bundle, threads=1).embed(WORDS, truncation="truncate")

    found = client.infer("tiny", [text(*WORDS, shape=shape)], request_id="mine")
    answer = found.get_response()

    np.testing.assert_allclose(found.as_numpy("embedding"), local.vectors, atol=1e-6)
    assert found.as_numpy("input_tokens").tolist() == local.tokens.tolist()
    assert found.as_numpy("truncated").tolist() == local.truncated.tolist()
    assert found.as_numpy("status").tolist() == [0] * 4
    assert (answer.id, answer.model_name, answer.model_version) == ("mine", "tiny", "1")
    assert answer.parameters["fingerprint"].string_param == local.fingerprint


@pytest.mark.parametrize(
    ("dims", "encoding", "role"),
    list(product((8, 16), ("f32", "f16", "int8", "binary"), ("query", "passage"))),
)
def test_parameters_choose_dimensions_encoding_and_role(
    client: Any, bundle: Path, dims: int, encoding: Any, role: Any
) -> None:
    local = attar.load(bundle, threads=1).embed(WORDS, dims=dims, encoding=encoding, role=role)

    chosen = {"dimensions": dims, "encoding": encoding, "role": role}
    found = client.infer("tiny", [text(*WORDS)], parameters=chosen).as_numpy("embedding")

    assert (found.dtype, found.shape) == (local.vectors.dtype, local.vectors.shape)
    np.testing.assert_allclose(
        found.astype(float), local.vectors.astype(float), atol=1 if encoding == "int8" else 1e-3
    )


def test_a_tensor_model_takes_its_own_input(client: Any, target: str) -> None:
    images = np.random.default_rng(0).normal(size=(3, 1, 8, 8)).astype(np.float32)

    found = client.infer("tiny-image", [image(images)])

    with attar.Client(target) as ours:
        expected = ours.embed(images, model="tiny-image").vectors
    np.testing.assert_allclose(found.as_numpy("embedding"), expected, atol=1e-6)
    assert found.as_numpy("status").tolist() == [0, 0, 0]
    assert found.as_numpy("input_tokens") is None


def test_only_requested_outputs_come_in_the_requested_order(client: Any) -> None:
    wanted = [triton.InferRequestedOutput(name) for name in ("truncated", "input_tokens")]

    found = client.infer("tiny", [text("cat", "dog " * 99)], outputs=wanted).get_response()

    assert [output.name for output in found.outputs] == ["truncated", "input_tokens"]
    assert found.raw_output_contents[0] == b"\x00\x01"


def test_a_bad_item_fails_alone_and_its_status_says_so(client: Any) -> None:
    three = [text("the cat", b"\xff\xfe", "sun")]

    found = client.infer("tiny", three)
    alone = client.infer("tiny", [text("the cat", "sun")]).as_numpy("embedding")

    assert found.as_numpy("status").tolist() == [0, grpc.StatusCode.INVALID_ARGUMENT.value[0], 0]
    np.testing.assert_allclose(found.as_numpy("embedding")[[0, 2]], alone, atol=1e-6)
    assert not found.as_numpy("embedding")[1].any()
    with pytest.raises(InferenceServerException, match="item 1 has half of a surrogate") as error:
        client.infer("tiny", three, outputs=[triton.InferRequestedOutput("embedding")])
    assert refused(error)[0] == "INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException, match="item 0 has half of a surrogate"):
        client.infer("tiny", [text(b"\xff")])


@pytest.mark.parametrize("cut", [True, "truncate", False, "error"])
def test_truncation_is_chosen_by_word_or_by_flag(client: Any, *, cut: bool | str) -> None:
    parameters = {"truncate": cut}
    long = text("sun", "cat " * 99)

    found = client.infer("tiny", [long], parameters=parameters)

    if cut in (True, "truncate"):
        assert found.as_numpy("truncated").tolist() == [False, True]
    else:
        assert found.as_numpy("status").tolist() == [0, 3]


def test_priority_and_timeout_are_tritons(client: Any) -> None:
    for level in range(3):
        assert client.infer("tiny", [text("cat")], priority=level, timeout=10_000_000)
    assert client.infer("tiny", [text("cat")], timeout=0)
    with pytest.raises(InferenceServerException, match="from 0 to 2") as error:
        client.infer("tiny", [text("cat")], priority=3)
    assert refused(error)[0] == "INVALID_ARGUMENT"
    with pytest.raises(InferenceServerException) as late:
        client.infer("tiny", [text("cat")], timeout=1)
    assert refused(late)[0] == "DEADLINE_EXCEEDED"


def tensors(*, name: str = "text", datatype: str = "BYTES", shape: Any = (1,)) -> Any:
    return [
        service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape)
    ]


CAT = b"\x03\x00\x00\x00cat"
TWO_FLOATS = np.zeros(64, "<f4").tobytes()


@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"model_name": "none"}, "NOT_FOUND", "no model 'none'"),
        ({"model_version": "9"}, "NOT_FOUND", "no version '9'"),
        ({"inputs": []}, "INVALID_ARGUMENT", "raw_input_contents are 1, and inputs 0"),
        ({"inputs": [], "raw_input_contents": []}, "INVALID_ARGUMENT", "inputs are none"),
        ({"inputs": tensors(name="words")}, "INVALID_ARGUMENT", "tiny takes one, 'text'"),
        ({"inputs": tensors(datatype="BF16")}, "INVALID_ARGUMENT", "known datatypes are"),
        (
            {"inputs": tensors(datatype="INT8"), "raw_input_contents": [b"\0"]},
            "INVALID_ARGUMENT",
            "text is INT8; tiny takes BYTES",
        ),
        ({"inputs": tensors(shape=())}, "INVALID_ARGUMENT", "1 to 8 axes"),
        ({"inputs": tensors(shape=(-1,))}, "INVALID_ARGUMENT", "1 to 8 axes"),
        ({"inputs": tensors(shape=(2**40,))}, "INVALID_ARGUMENT", "than a message holds"),
        ({"inputs": tensors(shape=(2,))}, "INVALID_ARGUMENT", "ends within element 1 of 2"),
        ({"raw_input_contents": [CAT + b"\0"]}, "INVALID_ARGUMENT", "1 bytes after the 1 elem"),
        ({"raw_input_contents": [b"\xff" * 4]}, "INVALID_ARGUMENT", "ends within element 0 of 1"),
        ({"raw_input_contents": [CAT, CAT]}, "INVALID_ARGUMENT", "give one for each"),
        (
            {"inputs": tensors(shape=(1, 1, 1))},
            "INVALID_ARGUMENT",
            r"shape \[1, 1, 1\]; tiny takes \[-1, 1\]",
        ),
        (
            {"inputs": tensors(shape=(41,)), "raw_input_contents": [CAT * 41]},
            "INVALID_ARGUMENT",
            "1 to 40 items",
        ),
        (
            {
                "model_name": "tiny-image",
                "inputs": tensors(name="image", datatype="FP32", shape=(1, 8, 8)),
                "raw_input_contents": [TWO_FLOATS],
            },
            "INVALID_ARGUMENT",
            r"tiny-image takes \[-1, 1, 8, 8\]",
        ),
        (
            {
                "model_name": "tiny-image",
                "inputs": tensors(name="image", datatype="FP32", shape=(1, 1, 8, 8)),
                "raw_input_contents": [TWO_FLOATS[:-1]],
            },
            "INVALID_ARGUMENT",
            "255 bytes of data; FP32 of shape .* takes 256",
        ),
        (
            {
                "model_name": "tiny-image",
                "inputs": tensors(name="image", datatype="FP64", shape=(1, 1, 8, 8)),
                "raw_input_contents": [TWO_FLOATS * 2],
            },
            "INVALID_ARGUMENT",
            "image is FP64; tiny-image takes FP32",
        ),
    ],
)
def test_a_wrong_request_has_one_status_and_says_what_is_wrong(
    target: str, changes: dict[str, Any], code: str, message: str
) -> None:
    fields = {"model_name": "tiny", "inputs": tensors(), "raw_input_contents": [CAT]}
    request = service_pb2.ModelInferRequest(**{**fields, **changes})

    with grpc.insecure_channel(target) as channel, pytest.raises(grpc.RpcError) as error:
        call(channel, "ModelInfer", request)

    failure: Any = error.value
    assert failure.code().name == code, failure.details()
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(failure.details())


def call(channel: grpc.Channel, name: str, request: Any) -> Any:
    method = SERVICE.methods_by_name[name]
    answer = getattr(service_pb2, method.output_type.name)
    send = channel.unary_unary(
        f"/{SERVICE.full_name}/{name}",
        request_serializer=type(request).SerializeToString,
        response_deserializer=answer.FromString,
    )
    return send(request)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("dimensions", 7, "dimensions is 7; tiny was trained for [8, 16]"),
        ("dimensions", "8", "dimensions is '8'; it is a whole number"),
        ("dimensions", True, "dimensions is True; it is a whole number"),
        ("dimensions", -1, "dimensions is -1"),
        ("encoding", "f64", "encoding is 'f64'; expected one of f32, f16, int8, binary"),
        ("encoding", 1, "encoding is 1; expected one of"),
        ("role", "reader", "must be one of passage, query"),
        ("truncate", 1, "truncate is 1; expected one of truncate, error"),
        ("dimension", 8, "no parameter 'dimension'; known are dimensions, encoding"),
    ],
)
def test_a_wrong_parameter_is_named(client: Any, name: str, value: Any, reason: str) -> None:
    with pytest.raises(InferenceServerException) as error:
        client.infer("tiny", [text("cat")], parameters={name: value})

    code, message = refused(error)
    assert code == "INVALID_ARGUMENT"
    assert reason in message


def test_what_a_client_asks_of_other_servers_is_refused_by_name(client: Any) -> None:
    shared = triton.InferInput("text", (1,), "BYTES")
    shared.set_shared_memory("region", 8)
    asked = triton.InferRequestedOutput("embedding", class_count=3)
    for inputs, options, message in (
        ([text("cat")], {"sequence_id": 7}, "sequence_id is given, and models here keep no state"),
        ([shared], {}, "there is no shared memory, so send the contents"),
        ([text("cat")], {"outputs": [asked]}, "parameters of the output are classification"),
        ([text("cat")], {"outputs": [triton.InferRequestedOutput("x")]}, "has no output 'x'"),
    ):
        with pytest.raises(InferenceServerException, match=message):
            client.infer("tiny", inputs, **options)
    for ask in (
        client.get_system_shared_memory_status,
        client.get_cuda_shared_memory_status,
        client.get_trace_settings,
        client.get_log_settings,
    ):
        with pytest.raises(InferenceServerException) as error:
            ask()
        assert refused(error)[0] == "UNIMPLEMENTED"


@pytest.mark.parametrize(
    ("datatype", "value", "fits"),
    [
        ("INT8", 127, True),
        ("INT8", 128, False),
        ("INT16", -(2**15), True),
        ("UINT8", 255, True),
        ("UINT8", 256, False),
        ("UINT32", 2**32, False),
        ("UINT64", 2**64 - 1, True),
    ],
)
def test_a_number_that_its_datatype_cannot_hold_is_refused(
    datatype: str,
    value: int,
    fits: bool,
) -> None:
    info = kserve.TensorInfo(name="x", datatype=datatype, shape=(1, 1))
    numbers = np.array([value], np.uint64 if datatype.startswith("U") else np.int64)

    if fits:
        assert kserve.from_numbers(info, numbers).array.tolist() == [[value]]
    else:
        with pytest.raises(ShapeError, match=f"not all {datatype}"):
            kserve.from_numbers(info, numbers)


@pytest.mark.parametrize(
    ("info", "contents", "values"),
    [
        (("text", "BYTES", (2,)), {"bytes_contents": [b"cat", b"sun"]}, None),
        (("image", "FP32", (1, 1, 8, 8)), {"fp32_contents": [0.5] * 64}, None),
        (("image", "FP32", (1, 1, 8, 8)), {"fp32_contents": [0.5] * 63}, "63 values"),
        (("image", "FP32", (1, 1, 8, 8)), {"fp64_contents": [0.5] * 64}, "travel in fp32_contents"),
        (("image", "FP16", (1, 1, 8, 8)), {"fp32_contents": [0.5] * 64}, "travel raw"),
        (
            ("image", "INT8", (1, 1, 8, 8)),
            {"int_contents": [300] * 64},
            "image is INT8; tiny-image takes FP32",
        ),
    ],
)
def test_typed_contents_are_read_too(
    target: str, info: tuple[str, str, Any], contents: dict[str, Any], values: str | None
) -> None:
    name, datatype, shape = info
    request = service_pb2.ModelInferRequest(
        model_name="tiny" if name == "text" else "tiny-image",
        inputs=tensors(name=name, datatype=datatype, shape=shape),
    )
    for field, content in contents.items():
        getattr(request.inputs[0].contents, field).extend(content)

    with grpc.insecure_channel(target) as channel:
        if values is None:
            answer = call(channel, "ModelInfer", request)
            assert answer.outputs[0].shape == [shape[0], 16]
        else:
            with pytest.raises(grpc.RpcError, match=values):
                call(channel, "ModelInfer", request)


async def test_a_stream_keeps_order_and_outlives_bad_requests(target: str) -> None:
    async def requests() -> AsyncIterator[dict[str, Any]]:
        for i in range(20):
            name = "none" if i % 4 == 1 else "tiny"
            texts = [b"\xff" if i % 4 == 2 else b"cat", b"sun"]
            yield {"model_name": name, "inputs": [text(*texts)], "request_id": str(i)}

    async with triton_aio.InferenceServerClient(target) as client:
        answers = [answer async for answer in client.stream_infer(requests())]

    assert len(answers) == 20
    for i, (result, error) in enumerate(answers):
        if i % 4 == 1:
            assert "no model 'none'" in error.message()
        else:
            assert error is None
            assert result.get_response().id == str(i)
            assert result.as_numpy("status").tolist() == [3 if i % 4 == 2 else 0, 0]


def test_a_streams_error_carries_its_requests_id(target: str) -> None:
    requests = [
        service_pb2.ModelInferRequest(model_name="none", id="a"),
        service_pb2.ModelInferRequest(
            model_name="tiny", id="b", inputs=tensors(), raw_input_contents=[CAT]
        ),
    ]
    with grpc.insecure_channel(target) as channel:
        stream = channel.stream_stream(
            f"/{SERVICE.full_name}/ModelStreamInfer",
            request_serializer=service_pb2.ModelInferRequest.SerializeToString,
            response_deserializer=service_pb2.ModelStreamInferResponse.FromString,
        )
        bad, good = stream(iter(requests))

    assert (bad.infer_response.id, good.infer_response.id) == ("a", "b")
    assert bad.infer_response.parameters["status"].int64_param == 5
    assert not good.error_message


def test_the_threaded_client_streams_too(client: Any) -> None:
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    for i in range(5):
        client.async_stream_infer(
            "tiny", [text("cat")], request_id=str(i), enable_empty_final_response=True
        )
    found = [answers.get(timeout=20) for _ in range(5)]
    client.stop_stream()

    assert [error for _, error in found] == [None] * 5
    last = found[-1][0].get_response()
    assert (last.id, last.parameters["triton_final_response"].bool_param) == ("4", True)


def test_statistics_count_calls_items_and_runs(client: Any) -> None:
    before = client.get_inference_statistics("tiny").model_stats[0]
    for _ in range(3):
        client.infer("tiny", [text("cat", "sun")])
    with pytest.raises(InferenceServerException):
        client.infer("tiny", [text(b"\xff")])
    after = client.get_inference_statistics("tiny", "1").model_stats[0]
    named = [one.name for one in client.get_inference_statistics().model_stats]

    assert after.inference_count - before.inference_count == 6
    assert after.execution_count - before.execution_count == 3
    assert after.inference_stats.success.count - before.inference_stats.success.count == 4
    assert after.inference_stats.compute_infer.ns > before.inference_stats.compute_infer.ns
    computed = after.inference_stats
    counts = {one.count for one in (computed.compute_input, computed.compute_output)}
    assert counts == {computed.compute_infer.count}  # perf_analyzer insists on it
    assert sum(one.compute_infer.count for one in after.batch_stats) == after.execution_count
    assert named == ["tiny", "tiny-image"]
    with pytest.raises(InferenceServerException, match="no model 'none'"):
        client.get_inference_statistics("none")


async def test_models_are_unloaded_and_loaded_again(bundle: Path, tmp_path: Path) -> None:
    with serving(settings(bundle, data_dir=tmp_path / "data")) as target:
        async with triton_aio.InferenceServerClient(target) as client:
            await client.unload_model("tiny")
            index = await client.get_model_repository_index()
            gone = await client.is_model_ready("tiny")
            with pytest.raises(InferenceServerException) as error:
                await client.infer("tiny", [text("cat")])
            await client.load_model("tiny")
            found = await client.infer("tiny", [text("cat")])
            with pytest.raises(InferenceServerException, match="a bundle is loaded as it was"):
                await client.load_model("tiny", config="{}")

    assert [(one.name, one.version, one.state) for one in index.models] == [
        ("tiny", "1", "UNAVAILABLE")
    ]
    assert not gone
    assert refused(error)[0] == "NOT_FOUND"
    assert found.as_numpy("embedding").shape == (1, 16)


@given(st.lists(st.binary(max_size=20), min_size=1, max_size=9))
def test_bytes_are_written_by_triton_and_read_by_us(values: list[bytes]) -> None:
    raw = text(*values)._get_content() or b"\0\0\0\0" * len(values)
    info = kserve.TensorInfo(name="text", datatype="BYTES", shape=(len(values),))

    assert kserve.from_raw(info, raw).array.tolist() == values
    assert deserialize_bytes_tensor(raw).tolist() == values


@given(st.sampled_from(sorted(kserve.DATATYPES)), st.data())
def test_numbers_survive_the_way_there_and_back(datatype: str, data: st.DataObject) -> None:
    dtype = np.dtype(kserve.DATATYPES[datatype])
    shape = tuple(data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=3)))
    bits = data.draw(st.binary(min_size=(n := int(np.prod(shape)) * dtype.itemsize), max_size=n))
    info = kserve.TensorInfo(name="x", datatype=datatype, shape=shape)

    tensor = kserve.from_raw(info, bits)

    assert (tensor.array.dtype, tensor.array.shape) == (dtype, shape)
    if datatype != "BOOL":
        assert kserve.to_raw(tensor) == bits
    if not datatype.startswith("FP"):
        again = kserve.from_values(info, tensor.array.reshape(-1).tolist())
        assert again.array.tolist() == tensor.array.tolist()
    with pytest.raises(ShapeError):
        kserve.from_raw(info, bits + b"\0")


@pytest.mark.parametrize(
    ("datatype", "values"),
    [("INT32", [1.5]), ("INT8", [128]), ("UINT8", [-1]), ("BOOL", [1]), ("FP32", ["1"]),
     ("INT64", [True]), ("FP32", [[1.0], [1.0, 2.0]]), ("INT64", [2**70]), ("FP32", [None])],
)  # fmt: skip
def test_a_number_is_never_bent_to_fit(datatype: str, values: list[Any]) -> None:
    info = kserve.TensorInfo(name="x", datatype=datatype, shape=(1,))

    with pytest.raises(ShapeError, match=f"values of x are not all {datatype}"):
        kserve.from_values(info, values)
