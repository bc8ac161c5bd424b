"""SIGTERM under load: what was accepted is answered, and the rest is refused with a reason."""

import http.client
import json
import signal
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import grpc
from google.rpc.status_pb2 import Status

from attar import Unavailable
from attar.client.call import error_from
from attar.v1 import embedding_pb2, item_pb2
from benchmarks.support.servers import free_port, process

CALLERS = 4  # of each protocol


class Caller(threading.Thread):
    """Calls one after another until the server is gone; keeps how each call ended."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target
        self.answered: list[str] = []
        self.refused: list[str] = []
        self.lost: list[str] = []


class WebCaller(Caller):
    """By HTTP, on a connection that it keeps."""

    def run(self) -> None:
        body = json.dumps({"model": "tiny", "input": ["the cat sat on the mat"] * 16})
        connection = http.client.HTTPConnection(self.target)
        while not (self.refused or self.lost):
            name = uuid.uuid4().hex
            headers = {"x-request-id": name, "content-type": "application/json"}
            try:
                connection.request("POST", "/v1/embeddings", body, headers)
                answer = connection.getresponse()
                answer.read()
            except ConnectionRefusedError:
                self.refused.append(name)
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{name}: {error!r}")
            else:
                {200: self.answered, 503: self.refused}.get(answer.status, self.lost).append(name)
        connection.close()


class GrpcCaller(Caller):
    """By gRPC, on a channel of its own."""

    def run(self) -> None:
        texts = item_pb2.Texts(values=["the cat sat on the mat"] * 16)
        message = embedding_pb2.EmbedRequest(texts=texts).SerializeToString()
        with grpc.insecure_channel(self.target) as channel:
            embed: Any = channel.unary_unary("/attar.v1.Embedding/Embed")
            while not (self.refused or self.lost):
                name = uuid.uuid4().hex
                try:
                    embed(message, metadata=[("x-request-id", name)], timeout=30)
                    self.answered.append(name)
                except grpc.RpcError as error:
                    self.tell(name, error)

    def tell(self, name: str, error: Any) -> None:
        """Keep a call that never got in apart from one that the server let fall."""
        trailers = dict(error.trailing_metadata() or ())
        status = trailers.get("grpc-status-details-bin")
        if status is not None:
            assert isinstance(error_from(Status.FromString(status)), Unavailable)
            self.refused.append(name)
        elif "failed to connect" in error.details():
            self.refused.append(name)
        else:
            self.lost.append(f"{name}: {error.details()}")


def test_a_stop_under_load_loses_nothing_that_was_accepted(
    bundle_path: Path, tmp_path: Path
) -> None:
    arguments = [str(bundle_path), "--port=0", "--metrics-port=off", "--threads=1"]
    arguments += (f"--data-dir={tmp_path / 'data'}", "--log-format=json", "--log-level=debug")
    web = free_port()
    arguments += (f"--http-port={web}",)
    with process(*arguments, ready_file=tmp_path / "ready") as (server, port):
        written: list[str] = []
        reader = threading.Thread(target=lambda: written.extend(server.stderr or ()))
        reader.start()
        callers: list[Caller] = [GrpcCaller(f"127.0.0.1:{port}") for _ in range(CALLERS)]
        callers += [WebCaller(f"127.0.0.1:{web}") for _ in range(CALLERS)]
        for caller in callers:
            caller.start()
        while min(len(caller.answered) for caller in callers) < 3:
            time.sleep(0.01)
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=30) == 0
        for caller in callers:
            caller.join()
        reader.join()

    lines = [json.loads(line) for line in written]
    ended = {one["request_id"]: one["outcome"] for one in lines if "request_id" in one}
    answered = {name for caller in callers for name in caller.answered}
    assert [name for caller in callers for name in caller.lost] == []
    assert answered == {name for name, outcome in ended.items() if outcome == "OK"}
    assert set(ended.values()) <= {"OK", "UNAVAILABLE"}
    assert "on disk" in lines[-1]["message"]
