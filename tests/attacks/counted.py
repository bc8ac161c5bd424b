"""Attacks on what is made before it is counted."""

from pathlib import Path
from typing import Final

import httpx

from .ground import Attack, Attacked, Outcome, attacked

ITEMS: Final = 150_000_000


def shape_without_bytes(folder: Path) -> Outcome:
    """Ask by 116 bytes of KServe's REST for an array of 150 million texts."""
    with attacked(folder) as server:
        code, error = _shape(server)
        return server.outcome(held=code == 400, note=f"{code} {error}")


def _shape(server: Attacked) -> tuple[int, str]:
    head = b'{"inputs":[{"name":"text","shape":[%d],"datatype":"BYTES","parameters":' % ITEMS
    head += b'{"binary_data_size":4}}]}'
    response = httpx.post(
        f"http://127.0.0.1:{server.server.http_port}/v2/models/tiny/infer",
        content=head + bytes(4),
        headers={
            "content-type": "application/octet-stream",
            "inference-header-content-length": str(len(head)),
        },
        timeout=60,
    )
    return response.status_code, str(response.json()["error"])


ATTACKS: Final = (Attack("a shape without bytes", shape_without_bytes),)
