"""Logs: what programs and people need to know of a call, and nothing of what it carried."""

import asyncio
import contextlib
import json
import logging
import socket
import sys
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import trustme

from attar import AttarError, Client, wire
from attar.errors import Overloaded
from attar.server.admission import Admission
from attar.server.observability import logs
from attar.server.observability.metrics import Metrics
from attar.server.request_context import Phase, RequestContext
from attar.server.security.access import Access
from attar.v1 import embedding_pb2, item_pb2
from benchmarks.support.servers import free_port, process

NEEDLE = "xyzzyplugh"


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def of_call(records: list[dict[str, Any]], request_id: str) -> dict[str, Any]:
    """Give the record that tells of a call."""
    (found,) = [one for one in records if one.get("request_id") == request_id]
    return found


def test_every_call_is_logged_and_its_content_is_not(bundle_path: Path, tmp_path: Path) -> None:
    arguments = [str(bundle_path), "--port=0", "--metrics-port=off", "--threads=1"]
    arguments += (f"--data-dir={tmp_path / 'data'}", "--log-format=json", "--log-level=debug")
    good = embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=[NEEDLE, "the cat"]))
    rpc = "/attar.v1.Embedding/Embed"
    arguments += (f"--http-port={(web := free_port())}",)
    with process(*arguments, ready_file=tmp_path / "ready") as (server, port):
        for name, body in bad_bodies().items():
            answer = httpx.post(
                f"http://127.0.0.1:{web}/{PATHS.get(name, 'v1/embeddings')}",
                content=body,
                headers={"x-request-id": name, "content-type": "application/json"},
            )
            assert answer.status_code in (400, 404)
            assert answer.headers["x-request-id"] == name
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            embed: Any = channel.unary_unary(rpc)
            embed(good.SerializeToString(), metadata=[("x-request-id", "good")])
            for name, message in bad_requests().items():
                with pytest.raises(grpc.RpcError):
                    embed(message, metadata=[("x-request-id", name)])
        with Client(f"127.0.0.1:{port}") as client:
            client.create_collection("docs")
            client.upsert("docs", [1], [NEEDLE], payloads=[{"about": NEEDLE}])
            client.search("docs", [NEEDLE], filter={"about": NEEDLE})
            with pytest.raises(AttarError):
                client.upsert("docs", [2, 3], [NEEDLE, NEEDLE * 9], truncation="error")
            found = client.embed([NEEDLE, NEEDLE * 9], truncation="error", partial=True)
        server.terminate()
        assert server.wait(timeout=20) == 0
        text = server.stderr.read() if server.stderr else ""

    records = lines(text)
    line = of_call(records, "good")
    assert (line["rpc"], line["outcome"], line["items"]) == (rpc[1:], "OK", 2)
    assert line["tokens"] > 4
    assert {"seconds", "queue_s", "tokenize_s", "infer_s"} <= line.keys()
    for name in (*bad_requests(), *bad_bodies()):
        assert of_call(records, name)["outcome"] in ("INVALID_ARGUMENT", "NOT_FOUND")
    for name, field in FIELDS.items():
        assert of_call(records, name).get("field", "") == field
    assert found.errors[1] is not None
    assert NEEDLE not in text.casefold()


PATHS = {"no-parameter": "v2/models/tiny/infer"}
FIELDS = {  # what each of them names in the log: never a word of the caller's
    "tensor": "model",
    "dims": "dims",
    "encoding": "encoding",
    "too-long": "texts",
    "not-json": "",
    "no-input": "input",
    "no-format": "model",
    "no-field": "",
    "no-parameter": "parameters",
}


def test_a_handshake_that_fails_adds_no_plain_line_to_json(
    bundle_path: Path, tmp_path: Path
) -> None:
    made = trustme.CA().issue_cert("127.0.0.1")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    made.cert_chain_pems[0].write_to_path(str(cert))
    made.private_key_pem.write_to_path(str(key))
    arguments = [str(bundle_path), "--port=0", "--metrics-port=off", "--threads=1"]
    arguments += (f"--data-dir={tmp_path / 'data'}", "--log-format=json")
    arguments += (f"--tls-cert={cert}", f"--tls-key={key}")
    with process(*arguments, ready_file=tmp_path / "ready") as (server, port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            while plain.recv(4096):
                pass
        server.terminate()
        assert server.wait(timeout=20) == 0
        text = server.stderr.read() if server.stderr else ""

    assert "on disk" in lines(text)[-1]["message"]


def bad_requests() -> dict[str, bytes]:
    """Requests that quote the needle and fail, each by another fault."""
    texts = item_pb2.Texts(values=[NEEDLE])
    return {
        "not-protobuf": b"\xff" + NEEDLE.encode(),
        "tensor": embedding_pb2.EmbedRequest(
            tensor=wire.to_tensor(np.frombuffer(NEEDLE.encode() * 4, np.float32)[None])
        ).SerializeToString(),
        "model": embedding_pb2.EmbedRequest(texts=texts, model="none").SerializeToString(),
        "dims": embedding_pb2.EmbedRequest(texts=texts, dims=3).SerializeToString(),
        "encoding": embedding_pb2.EmbedRequest(texts=texts, encoding=99).SerializeToString(),  # type: ignore[arg-type]
        "too-long": embedding_pb2.EmbedRequest(
            texts=item_pb2.Texts(values=[NEEDLE] * 5000)
        ).SerializeToString(),
    }


def bad_bodies() -> dict[str, bytes]:
    """The same by HTTP."""
    return {
        "not-json": b"{" + NEEDLE.encode(),
        "no-model": json.dumps({"model": "none", "input": NEEDLE}).encode(),
        "no-input": json.dumps({"model": "tiny", "input": {NEEDLE: NEEDLE}}).encode(),
        "no-format": json.dumps({"input": NEEDLE, "encoding_format": NEEDLE}).encode(),
        "no-field": json.dumps({"model": "tiny", "input": "a", NEEDLE: 1}).encode(),
        "no-parameter": json.dumps({"inputs": [], "parameters": {NEEDLE: 1}}).encode(),
    }


@pytest.fixture(params=[logs.Text, logs.Json])
def formatter(request: pytest.FixtureRequest) -> logging.Formatter:
    made: logging.Formatter = request.param()
    return made


def record(**extra: Any) -> logging.LogRecord:
    return logging.makeLogRecord({"name": "attar", "levelname": "ERROR", "msg": "it fell", **extra})


def test_an_exceptions_words_are_in_no_log(formatter: logging.Formatter) -> None:
    try:
        try:
            raise KeyError(NEEDLE)
        except KeyError as error:
            raise ValueError(NEEDLE) from error
    except ValueError:
        text = formatter.format(record(exc_info=sys.exc_info()))

    assert "ValueError from KeyError" in text
    assert "test_logs.py" in text
    assert NEEDLE not in text.replace("raise KeyError(NEEDLE)", "")


async def test_an_error_that_no_task_receives_is_logged_without_its_message(
    caplog: pytest.LogCaptureFixture,
) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(logs.wordless)

    def fall() -> None:
        raise RuntimeError(NEEDLE)

    loop.call_soon(fall)
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    (line,) = caplog.records
    assert NEEDLE not in logs.Json().format(line)
    assert json.loads(logs.Json().format(line))["exception"].startswith("RuntimeError")


@pytest.fixture
def ended(caplog: pytest.LogCaptureFixture) -> Any:
    """Give what is logged of a call that ends so."""
    caplog.set_level(logging.DEBUG, "attar.server.calls")

    def end(outcome: str) -> logging.LogRecord:
        call = RequestContext(rpc="a/B", request_id="r7", key="reader")
        call.begin(2)
        call.spent(5, Phase("queue", 1.0, 1.25), Phase("infer", 2.0, 3.0), Phase("infer", 3.0, 3.5))
        logs.ended(call, outcome, "" if outcome == "OK" else "BACKEND", 2.0)
        return caplog.records[-1]

    return end


def test_a_call_is_logged_with_its_cost(ended: Any) -> None:
    line = json.loads(logs.Json().format(ended("INTERNAL")))

    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "info",
        "logger": "attar.server.calls",
        "message": "call",
        "request_id": "r7",
        "rpc": "a/B",
        "outcome": "INTERNAL",
        "reason": "BACKEND",
        "key": "reader",
        "items": 2,
        "tokens": 5,
        "seconds": 2.0,
        "queue_s": 0.25,
        "infer_s": 1.5,
    }


def test_calls_refused_for_lack_of_room_are_logged_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "attar.server")

    async def crowd() -> None:
        door = Admission(
            Access(), Metrics(), max_concurrent_requests=1, max_streams=1, max_untaken_bytes=1
        )
        for _ in range(50):
            call = door.open("a/B", {})
            with (
                contextlib.suppress(Overloaded),
                door.admitted(call, scope="infer", headers={}, peer="p"),
            ):
                raise Overloaded("no room; retry later")

    asyncio.run(crowd())
    (line,) = caplog.records
    assert line.getMessage() == "calls refused since the last line like this: 1 OVERLOADED"


def test_people_read_the_same_of_a_call(ended: Any) -> None:
    text = logs.Text().format(ended("OK"))

    assert text.endswith(
        "DEBUG call request_id=r7 rpc=a/B outcome=OK key=reader items=2 tokens=5 seconds=2.0 "
        "queue_s=0.25 infer_s=1.5"
    )
