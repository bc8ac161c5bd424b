"""Attacks on what a write belongs to: two honest callers, and a moment between them."""

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

import attar
from attar import Client
from attar.bundle import Bundle
from attar.client import calls
from attar.errors import NotFound
from attar.v1 import collections_pb2
from attar.values import Point

from ..support.bundles import tiny_bundle
from .ground import Attack, Attacked, Outcome, attacked

POINTS: Final = 300
TRIES: Final = 4
SWAP_S: Final = 120.0
TEXTS: Final = [f"the cat {' '.join(str(i))}" for i in range(POINTS)]


class Spaces:
    """A server of two models of the same width, and every text in both of their spaces."""

    def __init__(self, server: Attacked, bundles: dict[str, Path]) -> None:
        """Embed the texts by `attar.load`."""
        self.server = server
        embedded = {
            name: attar.load(path, threads=1).embed(TEXTS) for name, path in bundles.items()
        }
        self.vectors = {name: one.vectors for name, one in embedded.items()}
        self.names = {one.fingerprint: name for name, one in embedded.items()}

    def foreign(self, client: Client, name: str) -> int:
        """Count the points of a collection that are not what its space makes of their texts."""
        points: list[Point] = []
        cursor, wrong = "", 0
        while True:
            page = client.scroll(name, limit=1000, cursor=cursor, with_vectors=True)
            points += page.points
            if not (cursor := page.cursor):
                break
        expected = self.vectors[self.names[client.collection(name).fingerprint]]
        for point in points:
            right = point.vector is not None and np.allclose(
                point.vector, expected[int(point.id)], atol=1e-5
            )
            wrong += not right
        return wrong

    def foreign_hits(self, response: Any) -> int:
        """Count the hits that an answer has in the first collection's space, which had no point."""
        if not isinstance(response, collections_pb2.SearchResponse):
            return 0
        hits = sum(len(result.hits) for result in response.results)
        return hits if self.names[response.fingerprint] == "one" else 0


@contextmanager
def two_spaces(folder: Path) -> Iterator[tuple[Spaces, Client]]:
    """Serve two models whose embeddings are as wide as each other, in small runs."""
    one, two = (
        tiny_bundle(folder / f"{name}.attar", name=name, seed=seed)
        for seed, name in enumerate(("one", "two"))
    )
    with (
        attacked(folder, two, "--max-batch-tokens", 16, bundle=one) as server,
        Client(server.server.target) as client,
    ):
        yield Spaces(server, {"one": one, "two": two}), client


def _meanwhile(folder: Path, call: calls.Call[Any], change: Callable[[Client], None]) -> Outcome:
    """Send a call again and again while its collection changes, until one was refused for that."""
    outcomes = Counter[str]()
    wrong = 0
    with (
        two_spaces(folder) as (spaces, client),
        grpc.insecure_channel(spaces.server.server.target) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        grpc.channel_ready_future(channel).result(10)
        send: Any = channel.unary_unary(call.rpc)  # the client itself would send it again
        for _ in range(TRIES):
            with suppress(NotFound):
                client.delete_collection("n")
            client.create_collection("n", model="one")
            changed = pool.submit(change, client)
            while True:
                outcome, answer = _send(send, call)
                outcomes[outcome] += 1
                wrong += spaces.foreign_hits(answer)
                if changed.done():
                    break
            changed.result()
            wrong += spaces.foreign(client, "n")
            if outcomes["ABORTED"]:
                break
        return spaces.server.outcome(
            held=not wrong, note=f"{dict(outcomes)}; {wrong} points of another space"
        )


def _send(send: Any, call: calls.Call[Any]) -> tuple[str, Any]:
    try:
        answer = send(call.request.SerializeToString(), timeout=60)
    except grpc.RpcError as error:
        failure: Any = error
        return str(failure.code().name), None
    return "OK", call.response.FromString(answer)


def upsert_into_the_next(folder: Path) -> Outcome:
    """Delete a collection and make it again for another space while an upsert embeds for it."""

    def change(client: Client) -> None:
        client.delete_collection("n")
        client.create_collection("n", model="two")

    return _meanwhile(folder, calls.upsert("n", range(POINTS), TEXTS), change)


def search_across_spaces(folder: Path) -> Outcome:
    """Do the same while a search embeds: its hits must not be scored across spaces."""

    def change(client: Client) -> None:
        client.delete_collection("n")
        client.create_collection("n", model="two")
        client.upsert("n", range(20), TEXTS[:20])

    return _meanwhile(folder, calls.search("n", TEXTS, limit=5), change)


def restore_under_an_upsert(folder: Path) -> Outcome:
    """Restore a snapshot of another space over a collection while an upsert embeds for it."""
    kept: list[str] = []

    def change(client: Client) -> None:
        if not kept:
            client.create_collection("other", model="two")
            client.upsert("other", range(20), TEXTS[:20])
            kept.append(client.snapshot("other").id)
        client.restore("other", kept[0], to="n", replace=True)

    return _meanwhile(folder, calls.upsert("n", range(POINTS), TEXTS), change)


def put_in_turn(target: str, path: Path, bundles: Sequence[Path]) -> None:
    """Put bundles of one name into a watched folder, each in the place of the one before.

    The next comes when the one before is served.
    """
    with Client(target) as client:
        for bundle in bundles:
            before, after = path.with_name(".before"), path.with_name(".after")
            shutil.copytree(bundle, after)
            path.rename(before)
            after.rename(path)
            shutil.rmtree(before)
            fingerprint = Bundle.open(bundle).manifest.fingerprint
            ends = time.monotonic() + SWAP_S
            while fingerprint not in {model.fingerprint for model in client.info().models}:
                if time.monotonic() > ends:
                    raise TimeoutError(f"{bundle.name} is not served {SWAP_S:g} s after it came")
                time.sleep(0.05)


def swapped_model(folder: Path) -> Outcome:
    """Swap the model of a collection for one of another space, while upserts and searches embed."""
    one, two = (tiny_bundle(folder / f"{seed}", name="one", seed=seed) for seed in (1, 2))
    models = folder / "models"
    models.mkdir()
    shutil.copytree(one, models / "one.attar")
    honest = tiny_bundle(folder / "honest.attar", name="honest")
    arguments = ("--model-repository", models, "--watch-s", 0.2, "--max-batch-tokens", 16)
    outcomes, wrong = Counter[str](), 0
    with (
        attacked(folder, *arguments, bundle=honest) as server,
        Client(server.server.target) as client,
        grpc.insecure_channel(server.server.target) as channel,
        ThreadPoolExecutor(1) as pool,
    ):
        spaces = Spaces(server, {"one": one, "two": two})
        client.create_collection("n", model="one")
        client.upsert("n", range(POINTS), TEXTS)
        turns = [two, one]
        swapping = pool.submit(put_in_turn, server.server.target, models / "one.attar", turns)
        search, upsert = calls.search("n", TEXTS[:50]), calls.upsert("n", range(POINTS), TEXTS)
        while not swapping.done():
            for call in (upsert, search):
                outcome, answer = _send(channel.unary_unary(call.rpc), call)
                outcomes[outcome] += 1
                wrong += _misplaced(answer)
        swapping.result()
        wrong += spaces.foreign(client, "n")
        return server.outcome(
            held=not wrong and outcomes["OK"] > 0 and len(outcomes) > 1,
            note=f"{dict(outcomes)} while swapped {len(turns)} times; {wrong} points or hits of"
            " another space",
        )


def _misplaced(answer: Any) -> int:
    """Count the texts whose best hit is no point of the same text: its vector would be equal."""
    if not isinstance(answer, collections_pb2.SearchResponse):
        return 0
    return sum(hits.hits[0].score < 0.999 for hits in answer.results)


ATTACKS: Final = (
    Attack("an upsert while its collection is made again", upsert_into_the_next),
    Attack("a search while its collection is made again", search_across_spaces),
    Attack("an upsert while a snapshot is restored over its collection", restore_under_an_upsert),
    Attack("upserts and searches while their model is swapped for another", swapped_model),
)
