"""Send bent messages by every protocol and say what became of them: right code, wrong, or none.

python benchmarks/fuzz.py [--messages 20000] [--out FILE]
"""

import argparse
import asyncio
import importlib.metadata
import json
import logging
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[1]))

from attar import Client
from attar.host import describe
from tests import fuzz
from tests.bad_inputs import world
from tests.servers import free_port

RESULTS: Final = Path(__file__).parent / "results" / "fuzz.json"
HEADS: Final = 200
HEADS_S: Final = 10.0
READ_TIMEOUT_S: Final = 2.0
HUGE: Final = 100


def main() -> None:
    """Write one row for each kind of message."""
    parser = argparse.ArgumentParser(description="Send bent messages by every protocol.")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)  # a server that warns of every bad message tells nothing here
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="attar-fuzz-") as folder:
        limits = {"http_port": port, "http_read_timeout_s": READ_TIMEOUT_S}
        with world(Path(folder), **limits) as (target, _):
            sent = send(target, port, arguments.messages, arguments.seed)
            rows = asyncio.run(sent)
            with Client(target) as client:
                good = client.embed(["the cat"], model="tiny").vectors.any()
    result = {
        "command": " ".join(["python", *sys.argv]),
        "machine": describe(),
        "versions": {
            name: importlib.metadata.version(name)
            for name in ("attar", "grpcio", "protobuf", "starlette", "uvicorn", "h11")
        },
        "serves_afterwards": bool(good),
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    print(json.dumps(result, indent=2))
    if any(row["wrong"] or row["lost"] for row in rows):
        sys.exit("some messages had a wrong answer, or none")


async def send(target: str, port: int, messages: int, seed: int) -> list[dict[str, Any]]:
    """Send half of the messages over gRPC, and the other half over HTTP, as bodies and as bytes."""
    url = f"http://127.0.0.1:{port}"
    half, rest = messages // 2, messages - messages // 2
    return [
        (await fuzz.send_grpc(target, half, seed=seed)).row("bent messages over gRPC"),
        (await fuzz.send_bodies(url, rest // 2, seed=seed)).row("bent bodies over HTTP"),
        (await fuzz.send_raw("127.0.0.1", port, rest - rest // 2, seed=seed)).row(
            "bent requests over HTTP"
        ),
        (await fuzz.hold_heads("127.0.0.1", port, HEADS, seconds=HEADS_S)).row("slow heads"),
        (await fuzz.send_huge(target, url, HUGE)).row("huge messages"),
    ]


if __name__ == "__main__":
    main()
