"""HTTP, as the clients that people already have speak it, against a real server."""

import asyncio
import base64
import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
from numpy.typing import NDArray
from pydantic import BaseModel

import attar
from attar.errors import InvalidInput
from attar.server.app import running
from attar.server.rest.routes import ROUTES
from attar.server.rest.schemas import EmbeddingsResponse, Error, OpenAIError
from benchmarks.support.bundles import tiny_bundle, tiny_tensor_bundle
from benchmarks.support.servers import free_port, serving, settings

MAX_ITEMS = 40
MAX_BYTES = 64 * 1024
WORDS = ["the cat sat", "", "a text about the sun and the rain", "dog"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prompts = {"query": "query: ", "passage": "passage: "}
    folder = tmp_path_factory.mktemp("http")
    return tiny_bundle(folder / "tiny.attar", dims=(8, 16), prompts=prompts, max_length=32)


@pytest.fixture(scope="module")
def url(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("http-server")
    image = tiny_tensor_bundle(folder / "image.attar")
    port = free_port()
    chosen = settings(
        bundle,
        image,
        data_dir=folder / "data",
        http_port=port,
        max_items=MAX_ITEMS,
        max_message_bytes=MAX_BYTES,
        http_read_timeout_s=1.0,
        max_http_connections=8,
    )
    with serving(chosen):
        yield f"http://127.0.0.1:{port}"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as client:
        yield client


@pytest.fixture
def web(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as web:
        yield web


def vectors(response: Any) -> NDArray[np.float32]:
    return np.array([one.embedding for one in response.data], np.float32)


def test_openais_client_gets_the_runtimes_numbers(client: openai.OpenAI, bundle: Path) -> None:
    local = attar.load(bundle, threads=1).embed(WORDS)

    by_default = client.embeddings.create(model="tiny", input=WORDS)
    as_floats = client.embeddings.create(model="tiny", input=WORDS, encoding_format="float")

    np.testing.assert_allclose(vectors(by_default), local.vectors, atol=1e-6)
    np.testing.assert_allclose(vectors(as_floats), local.vectors, atol=1e-6)
    assert [one.index for one in by_default.data] == [0, 1, 2, 3]
    assert by_default.usage.prompt_tokens == by_default.usage.total_tokens == local.tokens.sum()
    assert (by_default.model, by_default.object) == ("tiny", "list")
    assert by_default.model_extra == {"fingerprint": local.fingerprint}


def test_base64_is_little_endian_float32(web: httpx.Client, bundle: Path) -> None:
    asked = {"model": "tiny", "input": "cat", "encoding_format": "base64"}
    (row,) = web.post("/v1/embeddings", json=asked).json()["data"]

    found = np.frombuffer(base64.b64decode(row["embedding"]), "<f4")

    np.testing.assert_allclose(found, attar.load(bundle, threads=1).embed(["cat"])[0], atol=1e-6)


async def test_the_asynchronous_client_too(url: str, bundle: Path) -> None:
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client:
        calls = [client.embeddings.create(model="tiny", input=word) for word in WORDS * 3]
        answers = await asyncio.gather(*calls)

    expected = attar.load(bundle, threads=1).embed(WORDS * 3).vectors
    np.testing.assert_allclose([vectors(one)[0] for one in answers], expected, atol=1e-6)


def test_token_ids_are_taken_as_they_are(client: openai.OpenAI, bundle: Path) -> None:
    encoder = attar.load(bundle, threads=1)
    ids = [row.arrays[0].tolist() for row in encoder.prepare(["the cat", "dog"], role="passage")]

    texts = client.embeddings.create(model="tiny", input=["the cat", "dog"])
    several = client.embeddings.create(model="tiny", input=ids)
    one = client.embeddings.create(model="tiny", input=ids[1])

    np.testing.assert_allclose(vectors(several), vectors(texts), atol=1e-6)
    np.testing.assert_allclose(vectors(one), vectors(texts)[1:], atol=1e-6)
    assert one.usage.prompt_tokens == len(ids[1])


def test_dimensions_role_truncation_and_priority_are_chosen(
    client: openai.OpenAI, bundle: Path
) -> None:
    local = attar.load(bundle, threads=1).embed(["cat " * 99], dims=8, role="query")

    found = client.embeddings.create(
        model="tiny",
        input="cat " * 99,
        dimensions=8,
        user="me",
        extra_body={"role": "query", "truncate": True, "priority": "bulk"},
    )

    np.testing.assert_allclose(vectors(found), local.vectors, atol=1e-6)
    assert found.data[0].model_extra == {"truncated": True}


def test_models_are_listed_and_described(client: openai.OpenAI, bundle: Path) -> None:
    listed = client.models.list().data
    one = client.models.retrieve("tiny")

    assert [model.id for model in listed] == ["tiny", "tiny-image"]
    assert (one.id, one.object, one.owned_by) == ("tiny", "model", "attar")
    assert one.model_extra is not None
    assert one.model_extra["dimensions"] == [8, 16]
    assert one.model_extra["fingerprint"] == attar.load(bundle).fingerprint
    with pytest.raises(openai.NotFoundError) as error:
        client.models.retrieve("none")
    assert error.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("changes", "param", "message"),
    [
        ({"model": None}, "model", "model is missing"),
        ({"model": 7}, "model", "model is 7; give the name of a model"),
        ({"input": None}, "input", "input is missing; give text, or a list"),
        ({"input": {}}, "input", "input is an object"),
        ({"input": []}, "input", "input has 0 items; a request takes 1 to 40"),
        ({"input": ["a"] * 41}, "input", "input has 41 items"),
        ({"input": ["a", 1]}, "input", "neither text nor token ids"),
        ({"input": [[1], []]}, "input", "neither text nor token ids"),
        ({"input": [True]}, "input", "neither text nor token ids"),
        ({"input": [[1.5]]}, "input", "neither text nor token ids"),
        ({"input": [[10**6]]}, "input", "item 0 "),
        ({"input": [[-1]]}, "input", "item 0 "),
        ({"input": "cat " * 99}, "input", "item 0 has .* tokens and the encoder takes 32"),
        ({"dimensions": 7}, "dimensions", r"dimensions is 7; tiny was trained for \[8, 16\]"),
        ({"dimensions": "8"}, "dimensions", 'dimensions is "8"'),
        ({"dimensions": True}, "dimensions", "dimensions is true"),
        ({"dimensions": -8}, "dimensions", "dimensions is -8"),
        ({"encoding_format": "hex"}, "encoding_format", "expected one of float, base64"),
        ({"role": "reader"}, "role", "must be one of passage, query"),
        ({"truncate": "yes"}, "truncate", "give true or false"),
        ({"priority": 1}, "priority", "expected one of interactive, bulk"),
        ({"inputs": "cat"}, "inputs", "no field 'inputs'; known are model, input"),
        ({"model": "tiny-image"}, "model", "takes tensors; got texts"),
    ],
)
def test_a_wrong_field_is_400_and_named(
    web: httpx.Client, changes: dict[str, Any], param: str | None, message: str
) -> None:
    answer = web.post("/v1/embeddings", json={"model": "tiny", "input": "cat", **changes})

    error = answer.json()["error"]
    assert (answer.status_code, error["param"]) == (400, param), error
    assert error["type"] == "invalid_request_error"
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(error["message"])


def test_an_unknown_model_is_404_in_openais_words(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="no model 'none'; this server has") as error:
        client.embeddings.create(model="none", input="cat")

    assert (error.value.code, error.value.type) == ("model_not_found", "invalid_request_error")


BAD_BODIES = (
    b"",
    b"{",
    b"[]",
    b'"text"',
    b"\xff\xfe{\x00}\x00",
    b'{"model": "tiny", "input": NaN}',
    b'{"model": "tiny", "input": "\\ud800"}',
    b'{"model": "\\udfff", "input": "a"}',
    b'{"a":' * 5000 + b"1" + b"}" * 5000,
    b'{"model": "tiny", "input": [' + b"9" * 5000 + b"]}",
)


@pytest.mark.parametrize("body", BAD_BODIES)
@pytest.mark.parametrize("path", ["/v1/embeddings", "/v2/models/tiny/infer"])
def test_what_is_not_json_is_400(web: httpx.Client, path: str, body: bytes) -> None:
    answer = web.post(path, content=body, headers={"content-type": "application/json"})

    assert (answer.status_code, "error" in answer.json()) == (400, True), answer.text


def test_a_body_is_refused_by_type_encoding_and_size(web: httpx.Client) -> None:
    good = json.dumps({"model": "tiny", "input": "cat"}).encode()
    kind = {"content-type": "application/json"}

    def chunks() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * 8192

    def code(content: Any, headers: dict[str, str]) -> int:
        return web.post("/v1/embeddings", content=content, headers=headers).status_code

    assert code(good, {"content-type": "application/json; charset=utf-8"}) == 200
    assert code(good, {}) == 415
    assert code(good, {"content-type": "text/plain"}) == 415
    assert code(good, {**kind, "content-encoding": "gzip"}) == 415
    assert code(good + b" " * MAX_BYTES, kind) == 413
    assert code(chunks(), kind) == 413
    assert code(good, kind) == 200


def test_unknown_paths_and_methods_are_errors_in_each_apis_form(
    web: httpx.Client,
) -> None:
    missing, wrong, v2 = web.get("/v1/none"), web.get("/v1/embeddings"), web.get("/v2/none")

    assert (missing.status_code, missing.json()["error"]["type"]) == (404, "invalid_request_error")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert (v2.status_code, v2.json()) == (
        404,
        {"error": "no route /v2/none; GET /openapi.json lists them"},
    )


def test_a_request_id_is_echoed_or_made(web: httpx.Client) -> None:
    mine = web.get("/v1/models", headers={"x-request-id": "abc-1"})
    bad = web.get("/v1/models/none", headers={"x-request-id": "of more\twords"})

    assert mine.headers["x-request-id"] == "abc-1"
    assert len(bad.headers["x-request-id"]) == 32


def test_the_answer_says_where_the_time_went(web: httpx.Client) -> None:
    answer = web.post("/v1/embeddings", json={"model": "tiny", "input": "cat"})

    assert [part.split(";")[0] for part in answer.headers["server-timing"].split(", ")] == [
        *("queue", "tokenize", "infer"),
    ]


def test_probes_say_what_is_so(web: httpx.Client) -> None:
    paths = ("/livez", "/readyz", "/health", "/v2/health/live", "/v2/health/ready")

    assert {web.get(path).status_code for path in paths} == {200}
    assert web.get("/v2/models/tiny/ready").json() == {"name": "tiny", "ready": True}
    assert web.get("/v2/models/none/ready").status_code == 404


def test_kserve_describes_server_and_models(web: httpx.Client) -> None:
    assert web.get("/v2").json()["name"] == "attar"
    document = web.get("/v2/models/tiny-image/versions/1").json()
    assert document["inputs"] == [{"name": "image", "datatype": "FP32", "shape": [-1, 1, 8, 8]}]
    assert web.get("/v2/models/tiny/config").json()["max_batch_size"] == MAX_ITEMS
    assert web.get("/v2/models/tiny/versions/9").status_code == 404
    index = web.post("/v2/repository/index", json={"ready": True}).json()
    assert [one["name"] for one in index] == ["tiny", "tiny-image"]
    before = web.get("/v2/models/tiny/stats").json()["model_stats"][0]["inference_count"]
    web.post("/v2/models/tiny/infer", json=text_input("cat", "sun"))
    after = web.get("/v2/models/stats").json()["model_stats"][0]["inference_count"]
    assert after - before == 2


def text_input(*values: str, **more: Any) -> dict[str, Any]:
    tensor = {"name": "text", "shape": [len(values)], "datatype": "BYTES", "data": list(values)}
    return {"inputs": [tensor], **more}


def test_kserve_answers_in_json(web: httpx.Client, bundle: Path) -> None:
    local = attar.load(bundle, threads=1).embed(["cat", "sun"], dims=8)

    answer = web.post(
        "/v2/models/tiny/infer",
        json=text_input(
            "cat",
            "sun",
            id="mine",
            parameters={"dimensions": 8},
            outputs=[{"name": "embedding"}, {"name": "status"}],
        ),
    ).json()

    embedding, status = answer["outputs"]
    found = np.reshape(embedding["data"], embedding["shape"])
    np.testing.assert_allclose(found, local.vectors, atol=1e-6)
    assert (answer["id"], answer["model_version"], status["data"]) == ("mine", "1", [0, 0])
    assert answer["parameters"]["fingerprint"] == local.fingerprint


def test_kserve_takes_nested_numbers(web: httpx.Client) -> None:
    images = np.random.default_rng(0).normal(size=(2, 1, 8, 8)).astype(np.float32)
    tensor = {"name": "image", "shape": [2, 1, 8, 8], "datatype": "FP32", "data": images.tolist()}
    flat = {**tensor, "data": images.reshape(-1).tolist()}

    nested, plain = (
        web.post("/v2/models/tiny-image/infer", json={"inputs": [one]}).json()["outputs"]
        for one in (tensor, flat)
    )

    assert nested == plain
    assert nested[0]["shape"] == [2, 16]


def binary(front: dict[str, Any], behind: bytes) -> tuple[bytes, dict[str, str]]:
    text = json.dumps(front).encode()
    return text + behind, {"inference-header-content-length": str(len(text))}


def test_kserve_takes_and_gives_bytes_behind_the_json(web: httpx.Client, bundle: Path) -> None:
    raw = b"\x03\0\0\0cat\x03\0\0\0sun"
    tensor = {
        "name": "text",
        "shape": [2],
        "datatype": "BYTES",
        "parameters": {"binary_data_size": len(raw)},
    }
    outputs = [{"name": "embedding", "parameters": {"binary_data": True}}, {"name": "status"}]
    body, headers = binary({"inputs": [tensor], "outputs": outputs}, raw)

    answer = web.post("/v2/models/tiny/infer", content=body, headers=headers)

    length = int(answer.headers["inference-header-content-length"])
    document = json.loads(answer.content[:length])
    found = np.frombuffer(answer.content[length:], "<f4").reshape(2, 16)
    expected = attar.load(bundle, threads=1).embed(["cat", "sun"]).vectors
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert document["outputs"][0]["parameters"] == {"binary_data_size": 128}
    assert document["outputs"][1]["data"] == [0, 0]


CAT = {"name": "text", "shape": [1], "datatype": "BYTES"}


@pytest.mark.parametrize(
    ("front", "behind", "message"),
    [
        ({}, b"", "inputs is missing"),
        ({"inputs": [7]}, b"", r"inputs\[0\] is 7; give a list of objects"),
        ({"inputs": [{"name": "text"}]}, b"", r"inputs\[0\].shape is missing"),
        ({"inputs": [{"name": "text", "shape": [1]}]}, b"", r"inputs\[0\].datatype is missing"),
        ({"inputs": [CAT]}, b"", "data of 'text' is missing"),
        ({"inputs": [{**CAT, "data": [1]}]}, b"", "not text throughout"),
        ({"inputs": [{**CAT, "data": ["a", "b"]}]}, b"", "2 values; shape"),
        (
            {"inputs": [{**CAT, "parameters": {"x": 1}}]},
            b"",
            "no field 'x'; known are binary_data_size",
        ),
        ({"inputs": [{**CAT, "parameters": {"binary_data_size": 9}}]}, b"123", "3 bytes are left"),
        ({"inputs": [{**CAT, "parameters": {"binary_data_size": -1}}]}, b"123", "is -1"),
        ({"inputs": [{**CAT, "data": ["a"]}]}, b"123", "3 bytes behind the JSON belong to no"),
        (
            {"inputs": [{**CAT, "data": ["a"]}], "outputs": 7},
            b"",
            "outputs is 7; give a list of objects",
        ),
        ({"inputs": [{**CAT, "data": ["a"]}], "id": 7}, b"", "id is 7; give text"),
        (
            {"inputs": [{**CAT, "data": ["a"]}], "parameters": []},
            b"",
            r"parameters is \[\]; give an object",
        ),
        (
            {"inputs": [{**CAT, "data": ["a"]}], "parameters": {"role": []}},
            b"",
            r"parameters\[role\] is an array, which is no number",
        ),
    ],
)
def test_a_wrong_inference_is_400_and_says_why(
    web: httpx.Client, front: dict[str, Any], behind: bytes, message: str
) -> None:
    body, headers = binary(front, behind)

    answer = web.post("/v2/models/tiny/infer", content=body, headers=headers)

    assert answer.status_code == 400
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(answer.json()["error"])


@pytest.mark.parametrize("length", ["-1", "1e3", "999999", "", "٣"])
def test_a_wrong_header_length_is_400(web: httpx.Client, length: str) -> None:
    headers = {"inference-header-content-length": length.encode()}
    answer = web.post("/v2/models/tiny/infer", content=b"{}", headers=headers)  # type: ignore[arg-type]

    assert answer.status_code == 400


class Sources(HTMLParser):
    """Everything that a page would load, run or lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.targets: set[str] = set()
        self.ids: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        self.targets |= {found[name] or "" for name in ("src", "href") if name in found}
        self.ids |= {f"#{found['id']}"} if "id" in found else set()


def test_the_page_needs_nothing_from_elsewhere_and_names_every_route(web: httpx.Client) -> None:
    described = web.get("/openapi.json").json()
    answer = web.get("/docs")
    page = Sources(answer.text)

    assert described["openapi"] == "3.1.0"
    assert all(path in answer.text for path in described["paths"])
    assert page.targets <= {"openapi.json"} | page.ids
    assert not page.tags & {"script", "link", "img", "iframe"}
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    references = set(_references(described))
    schemas = described["components"]["schemas"]
    assert references == {f"#/components/schemas/{name}" for name in schemas}


def test_answers_are_what_the_page_says(web: httpx.Client) -> None:
    schemas = {route.name: route.response for route in ROUTES if route.response is not None}
    del schemas["POST /predict"]  # no model here predicts: test_text_embeddings_inference.py
    embeddings = {"model": "tiny", "input": ["cat", "sun"]}
    bodies = {route: text_input("cat") for route in schemas if route.endswith("/infer")}
    bodies |= {"POST /v1/embeddings": embeddings, "POST /v2/repository/index": {}}
    documents = {"model": "tiny", "query": "cat", "documents": ["cat", "sun"], "top_n": 1}
    for route in ("POST /v1/rerank", "POST /v2/rerank"):
        bodies[route] = {**documents, "return_documents": True}
    bodies["POST /rerank"] = {"model": "tiny", "query": "cat", "texts": ["cat", "sun"]}
    bodies["POST /v2/embed"] = {"model": "tiny", "texts": ["cat", "sun"]}
    bodies["POST /embed"] = {"model": "tiny", "inputs": ["cat", "sun"]}
    answers = {}
    for route in schemas:
        method, path = route.split()
        path = path.format(model="tiny", version="1")
        answers[route] = web.request(method, path, json=bodies.get(route))
    packed = web.post("/v1/embeddings", json={**embeddings, "encoding_format": "base64"})

    assert {route.name for route in ROUTES} - schemas.keys() == {
        "POST /predict",
        "POST /v2/repository/models/{model}/load",
        "POST /v2/repository/models/{model}/unload",
    }
    for name, schema in schemas.items():
        assert issubclass(schema, BaseModel)
        schema.model_validate_json(answers[name].content)
    EmbeddingsResponse.model_validate_json(packed.content)
    OpenAIError.model_validate_json(web.get("/v1/models/none").content)
    Error.model_validate_json(web.get("/v2/models/none").content)


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (value["$ref"] for _ in range("$ref" in value))
        for one in value.values():
            yield from _references(one)
    elif isinstance(value, list):
        for one in value:
            yield from _references(one)


@dataclass
class Raw:
    """A connection on which bytes are sent as they are."""

    connection: socket.socket

    def read(self) -> bytes:
        """All until it is closed, which a reset is too."""
        found = b""
        try:
            while data := self.connection.recv(65536):
                found += data
        except ConnectionResetError:
            pass
        return found


@pytest.fixture
def raw(url: str) -> Iterator[Raw]:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        yield Raw(connection)


@pytest.mark.parametrize("drip", [b"", b"GET /livez HTTP/1.1\r\n", b"x-a: 1\r\n"])
def test_a_head_that_never_ends_is_cut_off(raw: Raw, drip: bytes) -> None:
    start = time.monotonic()
    if drip.startswith(b"x"):
        raw.connection.sendall(b"GET /livez HTTP/1.1\r\n")
        for _ in range(8):  # for longer than http_read_timeout_s, never idle for so long
            time.sleep(0.2)
            try:
                raw.connection.sendall(drip)
            except OSError:
                break
    else:
        raw.connection.sendall(drip)

    assert raw.read() == b""
    assert time.monotonic() - start < 10


def test_a_body_that_never_ends_is_408(raw: Raw) -> None:
    raw.connection.sendall(
        b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        b"connection: close\r\ncontent-length: 99\r\n\r\n{"
    )

    assert b"408 Request Timeout" in raw.read()


def test_a_second_head_has_its_time_too(raw: Raw) -> None:
    raw.connection.sendall(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n")
    time.sleep(0.3)
    raw.connection.sendall(b"GET /livez HT")

    assert raw.read().count(b"HTTP/1.1 200") == 1


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /liv ez HTTP/1.1\r\nhost: localhost\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: x\r\n\r\n",
        b"POST /v1/embeddings HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1, 2\r\n\r\n",
    ],
)
def test_what_is_not_http_is_400_and_closed(raw: Raw, request_: bytes) -> None:
    raw.connection.sendall(request_)

    assert raw.read().startswith(b"HTTP/1.1 400 Bad Request")


def test_a_head_without_end_is_cut_off_by_its_size(raw: Raw) -> None:
    sent = 0
    with contextlib.suppress(OSError):
        for _ in range(1000):
            raw.connection.sendall(b"GET /livez HTTP/1.1\r\nx: " if sent == 0 else b"y" * 65536)
            sent += 65536
            time.sleep(0.001)

    assert sent < 100 * 65536
    assert b"200" not in raw.read()


def test_connections_beyond_the_limit_get_503_and_are_closed(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    held = [socket.create_connection((host, int(port)), timeout=20) for _ in range(12)]
    time.sleep(0.2)
    answers = []
    for connection in held:
        connection.setblocking(False)
        try:
            answers.append(connection.recv(100))
        except BlockingIOError:
            answers.append(b"open")
        connection.close()

    assert 1 <= answers.count(b"open") <= 8
    assert all(one == b"open" or one.startswith(b"HTTP/1.1 503") for one in answers)
    time.sleep(0.2)
    assert httpx.get(f"{url}/livez").status_code == 200


async def test_a_taken_port_is_reported(bundle: Path, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InvalidInput, match=f"cannot listen on 127.0.0.1:{port} for HTTP"):
            async with running(settings(bundle, data_dir=tmp_path, http_port=port)):
                pass


def test_the_log_names_a_free_port(
    bundle: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "attar.server")
    with serving(settings(bundle, data_dir=tmp_path, http_port=0, metrics_port=0)):
        document = "\n".join(caplog.messages)
        for name, path in (("HTTP", "livez"), ("metrics", "metrics")):
            found = re.search(rf"^{name} on (127\.0\.0\.1:\d+)$", document, re.MULTILINE)
            assert found is not None, document
            assert httpx.get(f"http://{found[1]}/{path}").status_code == 200
