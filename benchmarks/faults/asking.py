"""Asking: requests over a real channel, each answer held to `attar.load`'s of the same bundle."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import numpy as np
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status

from attar import wire
from attar.client.call import retry_after
from attar.errors import BackendError
from attar.v1 import embedding_pb2, embedding_pb2_grpc, item_pb2

from .ground import POISON, Server, Truth
from .seen import Seen

DEADLINE_S: Final = 100.0  # what has no answer then is lost
TOLERANCE: Final = 1e-5
_SHOWN: Final = 3


@dataclass(slots=True)
class Judged:
    """What became of the requests of one fault."""

    requests: int = 0
    answered: int = 0
    refused: Counter[str] = field(default_factory=Counter)  # as they should be, by status
    spaces: Counter[str] = field(default_factory=Counter)  # answers by fingerprint
    wrong: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    took: list[float] = field(default_factory=list)  # seconds of each answer

    def seen(self, note: str) -> Seen:
        """Sum up; the first things that went wrong are in the note."""
        worst = [*self.lost[:_SHOWN], *self.wrong[:_SHOWN]]
        return Seen(
            requests=self.requests,
            answered=self.answered,
            wrong=len(self.wrong),
            lost=len(self.lost),
            note="; ".join([note, *(f"! {one[:200]}" for one in worst)]),
        )

    def check(
        self, response: embedding_pb2.EmbedResponse, texts: Sequence[str], truth: Truth
    ) -> None:
        """Judge an answer: every row in the one space that the answer names."""
        expected = truth.get(response.fingerprint)
        if expected is None or len(response.items) != len(texts):
            self.wrong.append(f"{len(response.items)} items of space {response.fingerprint!r}")
            return
        found = wire.from_tensor(response.embeddings)
        for text, item, row in zip(texts, response.items, found, strict=True):
            if item.HasField("error"):
                if POISON not in text or reason(item.error) != BackendError.reason:
                    self.wrong.append(f"item: {item.error.message}")
                    return
                self.refused[BackendError.reason] += 1
            elif POISON in text or not np.allclose(row, expected[text], rtol=0, atol=TOLERANCE):
                self.wrong.append(f"other numbers for {text!r}")
                return
        self.spaces[response.fingerprint] += 1
        self.answered += all(POISON not in text for text in texts)

    def failure(self, error: grpc.aio.AioRpcError, allowed: Collection[str]) -> None:
        """Judge a failed call: one of the `allowed` statuses, with attar's own details."""
        code, status = error.code().name, status_of(error)
        what = f"{code}: {error.details()}"
        typed = status is not None and reason(status) != ""
        unreached = code == "UNAVAILABLE" and "onnection refused" in (error.details() or "")
        own = code == "DEADLINE_EXCEEDED"  # the client's own word will do
        if code not in allowed:
            (self.lost if own or (code == "UNAVAILABLE" and not typed) else self.wrong).append(what)
        elif code == "RESOURCE_EXHAUSTED" and (status is None or retry_after(status) is None):
            self.wrong.append(f"{what}, without RetryInfo")
        elif typed or own:
            self.refused[code] += 1
        elif unreached:
            self.refused["no server"] += 1
        else:
            self.lost.append(what)


def status_of(error: grpc.RpcError) -> Status | None:
    """The whole status of a failed call; None where the transport made it."""
    failure: Any = error
    for key, value in failure.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            return Status.FromString(value)
    return None


def reason(status: Status) -> str:
    """Attar's word for what is wrong; empty where the status has none."""
    info = ErrorInfo()
    return next((info.reason for detail in status.details if detail.Unpack(info)), "")


@asynccontextmanager
async def channel(server: Server) -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel that asks again soon, and takes answers of any size."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(server.target, options=options) as one:
        yield one


def request(texts: Sequence[str], **options: Any) -> embedding_pb2.EmbedRequest:
    """Ask for the embeddings of texts."""
    return embedding_pb2.EmbedRequest(texts=item_pb2.Texts(values=texts), **options)


async def ask(
    to: grpc.aio.Channel,
    texts: Sequence[str],
    truth: Truth,
    judged: Judged,
    *,
    model: str = "",
    allowed: Collection[str] = (),
    timeout_s: float = DEADLINE_S,
) -> bool:
    """Send one request and judge what comes back; tell whether it was answered."""
    judged.requests += 1
    start = time.perf_counter()
    try:
        stub = embedding_pb2_grpc.EmbeddingStub(to)
        answer = await stub.Embed(request(texts, model=model), timeout=timeout_s)
    except grpc.aio.AioRpcError as error:
        judged.failure(error, allowed)
        return False
    judged.took.append(time.perf_counter() - start)
    judged.check(answer, texts, truth)
    return True


async def settled(server: Server, *, timeout_s: float = 10.0) -> bool:
    """Wait until nothing is in flight in the server; tell whether it came to that."""
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        if (await asyncio.to_thread(server.metrics))["attar_in_flight"] == 0:
            return True
        await asyncio.sleep(0.1)
    return False


def milliseconds(seconds: Sequence[float], percentile: float) -> str:
    """A percentile in words."""
    return f"{np.percentile(seconds, percentile) * 1e3:.0f} ms" if seconds else "none"
