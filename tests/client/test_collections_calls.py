"""Collections over gRPC: what the calls promise, from the client through the server to the disk."""

import asyncio
import dataclasses
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from attar import AsyncClient, Client
from attar.client import calls
from attar.errors import AlreadyExists, InputTooLong, InvalidInput, LimitReached, NotFound
from attar.values import Point, SearchResults
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import serving, settings

TEXTS = ["the cat", "a dog ran", "the sun", "rain", "blue sky", "red sun", "the cat sat", "a dog"]


@pytest.fixture(scope="module")
def client(bundle_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    chosen = settings(
        bundle_path,
        data_dir=tmp_path_factory.mktemp("data"),
        max_collections=4,
        max_payload_bytes=500,
    )
    with serving(chosen) as target, Client(target) as client:
        client.create_collection("notes")
        payloads = [{"n": i, "day": f"2026-0{i + 1}-01", "odd": i % 2 == 1} for i in range(8)]
        client.upsert("notes", range(8), TEXTS, payloads=payloads)
        yield client


def ids(results: SearchResults) -> list[list[object]]:
    return [[hit.id for hit in hits] for hits in results.hits]


def vectors(points: Sequence[Point]) -> NDArray[np.float32]:
    return np.array([point.vector for point in points], np.float32)


def test_a_point_is_a_query_and_does_not_find_itself(client: Client) -> None:
    by_text = client.search("notes", [TEXTS[0]], limit=8, role="passage")
    by_id = client.search("notes", ids=[0, 5], limit=7)

    assert ids(by_text)[0][0] == 0
    assert ids(by_id)[0] == ids(by_text)[0][1:]
    assert sorted(map(str, ids(by_id)[1])) == list("0123467")
    rest = client.search("notes", ids=[0], limit=3, offset=2, filter={"n": {"lt": 7}})
    assert ids(rest)[0] == [one for one in ids(by_id)[0] if one != 7][2:5]


def test_a_point_that_is_not_there_fails_alone(client: Client) -> None:
    found = client.search("notes", ids=[0, 99, 1], limit=1, partial=True)

    assert [len(hits) for hits in found.hits] == [1, 0, 1]
    assert [type(error) for error in found.errors] == [type(None), NotFound, type(None)]
    with pytest.raises(NotFound, match="no point 99 in collection notes"):
        client.search("notes", ids=[99])


def test_pages_of_hits_are_one_list(client: Client) -> None:
    whole = client.search("notes", ["sun"], limit=8)[0]
    pages = [client.search("notes", ["sun"], limit=3, offset=start)[0] for start in (0, 3, 6)]

    assert [hit for page in pages for hit in page] == list(whole)


def test_different_searches_go_in_one_call_and_fail_alone(client: Client) -> None:
    searches = [
        calls.search("notes", ["sun"], limit=2),
        calls.search("nowhere", ["sun"]),
        calls.search("notes", ids=[3], filter={"$not": {"odd": True}}, limit=8),
        calls.search("notes", ["sun", "cat"], filter={"day": {"gte": "2026-07-01"}}, exact=True),
    ]

    found = client.search_batch(searches, partial=True)

    assert isinstance(found[1], NotFound)
    good = [one for one in found if isinstance(one, SearchResults)]
    assert [[len(hits) for hits in one.hits] for one in good] == [[2], [4], [2, 2]]
    for one, search in zip(good, (searches[0], *searches[2:]), strict=True):
        assert one == client._send(search)
    with pytest.raises(NotFound, match="no collection 'nowhere'"):
        client.search_batch(searches)


def test_a_scroll_sees_every_point_once(client: Client) -> None:
    seen: list[Point] = []
    cursor = ""
    while True:
        page = client.scroll("notes", limit=3, cursor=cursor, with_vectors=True)
        seen += page.points
        if not (cursor := page.cursor):
            break

    assert [point.id for point in seen] == list(range(8))
    expected = client.embed(TEXTS).vectors
    np.testing.assert_allclose(vectors(seen), expected, atol=1e-6)
    some = client.scroll("notes", filter={"odd": True})
    assert [point.payload["n"] for point in some.points] == [1, 3, 5, 7]
    assert (some.cursor, some.points[0].vector) == ("", None)


def test_points_are_deleted_by_a_filter(client: Client) -> None:
    client.create_collection("less")
    client.upsert("less", range(8), TEXTS, payloads=[{"n": i} for i in range(8)])
    client.delete_points("less", filter={"$any": [{"n": {"lt": 2}}, {"n": 7}]})

    assert [point.id for point in client.scroll("less").points] == [2, 3, 4, 5, 6]
    with pytest.raises(InvalidInput, match="filter is empty"):
        client.delete_points("less", filter={})
    client.delete_collection("less")


def test_an_item_that_fails_leaves_no_half_write(client: Client) -> None:
    """One write has everything that could be embedded, or with all_or_nothing everything."""
    client.create_collection("some")
    texts = ["the cat", "cat " * 500, "the sun"]
    given = {"truncation": "error", "payloads": [{"n": i} for i in range(3)]}

    with pytest.raises(InputTooLong):
        client.upsert("some", [1, 2, 3], texts, all_or_nothing=True, **given)  # type: ignore[arg-type]
    assert client.count("some") == 0

    done = client.upsert("some", [1, 2, 3], texts, partial=True, **given)  # type: ignore[arg-type]
    assert [type(error) for error in done.errors] == [type(None), InputTooLong, type(None)]
    stored = client.scroll("some", with_vectors=True).points
    assert [(point.id, point.payload) for point in stored] == [(1, {"n": 0}), (3, {"n": 2})]
    expected = client.embed(["the cat", "the sun"]).vectors
    np.testing.assert_allclose(vectors(stored), expected, atol=1e-6)

    # What cannot be stored is refused before anything is: no point, and no embedding, is written.
    with pytest.raises(InvalidInput, match="give each point once"):
        client.upsert("some", [4, 4], ["the cat", "the sun"])
    with pytest.raises(InvalidInput, match="payloads"):
        client.upsert("some", [5, 6], ["the cat", "the sun"], payloads=[{}, {"a": "x" * 600}])
    assert client.count("some") == 2
    client.delete_collection("some")


def test_a_snapshot_restores_what_was_there(client: Client) -> None:
    kept = client.snapshot("notes")
    assert client.snapshots("notes") == (kept,)
    assert abs(kept.created_s - time.time()) < 60

    copy = client.restore("notes", kept.id, to="copy")

    assert copy == dataclasses.replace(client.collection("notes"), name="copy")
    assert ids(client.search("copy", ["sun"])) == ids(client.search("notes", ["sun"]))
    with pytest.raises(AlreadyExists):
        client.restore("notes", kept.id)
    client.delete_points("copy", [1])
    client.restore("notes", kept.id, to="copy", replace=True)
    assert client.count("copy") == 8
    client.delete_collection("copy")
    client.delete_snapshot("notes", kept.id)
    assert client.snapshots("notes") == ()


def test_a_collection_says_how_it_quantises_and_what_is_indexed(client: Client) -> None:
    made = client.create_collection("packed", quantization="binary")
    client.upsert("packed", [1], ["the cat"])

    assert (made.quantization, made.indexed) == ("binary", 0)
    assert client.optimize("packed").points == 1
    assert client.search("packed", ["the cat"], role="passage")[0][0].score == pytest.approx(1)
    client.delete_collection("packed")


def test_there_are_only_so_many_collections(client: Client) -> None:
    there = len(client.collections())
    for number in range(4 - there):
        client.create_collection(f"more-{number}")
    with pytest.raises(LimitReached, match="4 collections are there, the limit"):
        client.create_collection("too-many")
    for number in range(4 - there):
        client.delete_collection(f"more-{number}")
    limits = client.info().limits
    assert (limits["max_collections"], limits["max_payload_bytes"]) == (4, 500)


def test_vectors_of_the_models_whole_width_are_cut_to_the_collections(
    tmp_path: Path,
) -> None:
    bundle = tiny_bundle(tmp_path / "wide.attar", dims=(8, 16))
    with serving(settings(bundle, data_dir=tmp_path / "data")) as target, Client(target) as client:
        client.create_collection("narrow", dims=8)
        whole, cut = client.embed(TEXTS), client.embed(TEXTS, dims=8)
        client.upsert("narrow", range(8), vectors=whole)

        found = client.search("narrow", vectors=whole, limit=8)

        assert ids(found) == ids(client.search("narrow", TEXTS, limit=8, role="passage"))
        (stored,) = client.retrieve("narrow", [3], with_vectors=True)
        assert stored.vector is not None
        np.testing.assert_allclose(stored.vector, cut.vectors[3], atol=1e-6)


async def test_both_clients_have_the_same_calls(client: Client) -> None:
    async with AsyncClient(str(client._target)) as other:
        page, count = await asyncio.gather(other.scroll("notes", limit=2), other.count("notes"))
    assert ([point.id for point in page.points], count) == ([0, 1], 8)
