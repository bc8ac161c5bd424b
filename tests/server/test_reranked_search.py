"""Search with a reranker, in one call: the points that are most similar, ranked by their texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attar import Client, InvalidInput, NotFound
from attar.client import calls
from attar.values import SearchResults
from benchmarks.support.bundles import tiny_bundle, tiny_cross_encoder
from benchmarks.support.servers import serving, settings

TEXTS = [
    "the cat sat on the mat",
    "the dog ran",
    "rain and sun",
    "the blue cat",
    "red sky",
    "a cat, the cat, the cat",
]
MAX_ITEMS = 40


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    folder = tmp_path_factory.mktemp("reranked")
    bundles = (
        tiny_bundle(folder / "tiny.attar"),
        tiny_cross_encoder(folder / "reranker.attar", max_length=32),
    )
    chosen = settings(
        *bundles, data_dir=folder / "data", max_items=MAX_ITEMS, max_search_limit=MAX_ITEMS
    )
    with serving(chosen) as target, Client(target) as connected:
        connected.create_collection("docs", model="tiny")
        payloads = [{"text": text, "n": n} for n, text in enumerate(TEXTS)]
        connected.upsert("docs", range(len(TEXTS)), TEXTS, payloads=payloads)
        connected.create_collection("silent", model="tiny")
        connected.upsert("silent", [1], ["the cat"])
        yield connected


def test_hits_are_in_the_order_of_the_reranker_and_say_what_made_their_scores(
    client: Client,
) -> None:
    by_hand = client.rerank("the cat", TEXTS, model="reranker")
    plain = client.search("docs", ["the cat"], limit=len(TEXTS))[0]
    hits = client.search("docs", ["the cat"], limit=3, rerank="reranker")[0]
    assert [hit.id for hit in hits] == [result.index for result in by_hand.results[:3]]
    similarities = {hit.id: hit.score for hit in plain}
    for hit, result in zip(hits, by_hand.results, strict=False):
        assert hit.score == hit.parts["rerank"] == pytest.approx(result.score)
        assert hit.parts["similarity"] == pytest.approx(similarities[hit.id])
        assert hit.payload["text"] == TEXTS[int(hit.id)]
    assert [hit.id for hit in hits] != [hit.id for hit in plain[:3]]
    assert plain[0].parts == {}


def test_only_the_candidates_are_ranked_anew(client: Client) -> None:
    plain = client.search("docs", ["the cat"], limit=2)[0]
    hits = client.search("docs", ["the cat"], limit=2, rerank="reranker", candidates=2)[0]
    assert {hit.id for hit in hits} == {hit.id for hit in plain}


def test_pages_filters_and_several_queries_are_as_in_any_search(client: Client) -> None:
    search: dict[str, Any] = {"rerank": "reranker", "filter": {"n": {"gte": 1}}}
    both = client.search("docs", ["the cat", "rain"], limit=4, **search)
    alone = [client.search("docs", [text], limit=4, **search)[0] for text in ("the cat", "rain")]
    assert [list(hits) for hits in both.hits] == [list(hits) for hits in alone]
    assert 0 not in {hit.id for hits in both.hits for hit in hits}
    second = client.search("docs", ["the cat"], limit=2, offset=2, with_payload=False, **search)[0]
    assert [hit.id for hit in second] == [hit.id for hit in both[0][2:4]]
    assert [hit.payload for hit in second] == [{}, {}]
    (batched,) = client.search_batch([calls.search("docs", ["rain"], limit=4, **search)])
    assert isinstance(batched, SearchResults)
    assert batched.hits[0] == both.hits[1]


def test_an_encoder_may_rank_anew_by_cosine(client: Client) -> None:
    hits = client.search("docs", ["the cat"], limit=2, rerank="tiny")[0]
    assert hits[0].score == pytest.approx(hits[0].parts["similarity"], abs=1e-5)


def test_a_point_without_a_text_is_named(client: Client) -> None:
    with pytest.raises(InvalidInput, match="point 1 has no text at 'text' of its payload"):
        client.search("silent", ["the cat"], rerank="reranker")
    with pytest.raises(InvalidInput, match="point 0 has no text at 'n'"):
        client.search("docs", ["the cat"], rerank="reranker", rerank_field="n", filter={"n": 0})


def test_what_stands_at_the_limit_is_ranked_and_one_more_refused(client: Client) -> None:
    queries = ["the cat"] * 4
    at = client.search("docs", queries, limit=1, rerank="reranker", candidates=MAX_ITEMS // 4)
    assert len(at) == len(queries)
    words = f"candidates are 11 for each of 4 queries, more than max_items, {MAX_ITEMS}"
    with pytest.raises(InvalidInput, match=words):
        client.search("docs", queries, limit=1, rerank="reranker", candidates=MAX_ITEMS // 4 + 1)


def test_what_cannot_be_ranked_anew_is_refused_before_any_work(client: Client) -> None:
    vectors = client.embed(["the cat"], model="tiny")
    with pytest.raises(InvalidInput, match="rerank ranks points by the texts of the queries"):
        client.search("docs", vectors=vectors, rerank="reranker")
    with pytest.raises(NotFound, match="no model 'huge'"):
        client.search("docs", ["the cat"], rerank="huge")
    with pytest.raises(InvalidInput, match="nothing is ranked anew; name a model"):
        client.search("docs", ["the cat"], candidates=3)


def test_an_empty_collection_has_nothing_to_rank(client: Client, tmp_path: Path) -> None:
    client.create_collection("empty", model="tiny")
    assert client.search("empty", ["the cat"], rerank="reranker")[0] == ()
