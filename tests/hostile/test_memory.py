"""A burst of very large requests leaves a server no larger than it was."""

import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psutil

from attar import Client
from benchmarks.support.bundles import tiny_tensor_bundle
from benchmarks.support.servers import free_port, process

SHAPE = (3, 64, 64)
ITEMS = 80
AT_ONCE = 4
DEADLINE_S = 60  # a trim comes within seconds; the machine may be busy


def test_memory_returns_to_within_a_tenth_after_a_burst(tmp_path: Path) -> None:
    bundle = tiny_tensor_bundle(tmp_path / "image.attar", shape=SHAPE)
    web = free_port()
    arguments = [str(bundle), "--port=0", "--metrics-port=off", f"--http-port={web}", "--threads=1"]
    arguments += [f"--data-dir={tmp_path / 'data'}"]
    with process(*arguments, ready_file=tmp_path / "ready") as (server, port):
        resident = psutil.Process(server.pid).memory_info
        burst(web, port, items=1)
        before = most = resident().rss
        with ThreadPoolExecutor(1) as pool:
            sent = pool.submit(burst, web, port, items=ITEMS)
            while not sent.done():
                most = max(most, resident().rss)
                time.sleep(0.01)
            sent.result()
        after = resident().rss
        deadline = time.monotonic() + DEADLINE_S
        while after > before * 1.1 and time.monotonic() < deadline:
            time.sleep(0.2)
            after = resident().rss

    assert most > before * 1.1  # it was a burst
    assert after <= before * 1.1


def burst(web: int, port: int, *, items: int) -> None:
    """Embed images as JSON's numbers and as gRPC's bytes, several calls at once."""
    images = np.full((items, *SHAPE), 0.5, np.float32)
    values = images.reshape(-1).tolist()
    tensor = {"name": "image", "shape": images.shape, "datatype": "FP32", "data": values}
    body = json.dumps({"inputs": [tensor]}).encode()

    def by_http() -> int:
        url = f"http://127.0.0.1:{web}/v2/models/tiny-image/infer"
        headers = {"content-type": "application/json"}
        while True:
            answer = httpx.post(url, content=body, headers=headers, timeout=DEADLINE_S)
            if answer.status_code != 429:  # several are more than max_working_bytes has room for
                return answer.status_code
            time.sleep(int(answer.headers["retry-after-ms"]) / 1000)

    def by_grpc() -> int:
        with Client(f"127.0.0.1:{port}") as client:
            return len(client.embed(images, deadline_s=DEADLINE_S))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = [pool.submit(call) for call in (by_http, by_grpc) for _ in range(AT_ONCE)]
        assert {one.result() for one in answers} == {200, items}
