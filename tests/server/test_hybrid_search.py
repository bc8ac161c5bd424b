"""Keyword and hybrid search through a real server: BM25 of a text index, fused with embeddings."""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar import Client, InvalidInput
from attar.client import calls
from attar.values import SearchResults, TextIndex
from benchmarks.support.bundles import tiny_bundle, tiny_cross_encoder
from benchmarks.support.servers import serving, settings

TEXTS = [
    "the cat sat on the mat",
    "the dog ran",
    "rain and sun",
    "the blue cat",
    "red sky and a red sun over the red mat",
    "a cat, the CAT, the cat",
    "",
]
PLAIN = TextIndex(language="none")
ENGLISH = TextIndex()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hybrid")


@pytest.fixture(scope="module")
def client(data: Path) -> Iterator[Client]:
    bundles = (
        tiny_bundle(data / "tiny.attar"),
        tiny_cross_encoder(data / "reranker.attar", max_length=32),
    )
    with serving(settings(*bundles, data_dir=data / "data")) as target, Client(target) as connected:
        fill(connected, "docs", PLAIN)
        connected.create_collection("dense", model="tiny")
        connected.upsert("dense", [1], ["the cat"])
        yield connected


def fill(client: Client, name: str, text_index: TextIndex) -> None:
    client.create_collection(name, model="tiny", text_index=text_index)
    payloads = [{"text": text, "n": n} for n, text in enumerate(TEXTS)]
    client.upsert(name, range(len(TEXTS)), TEXTS, payloads=payloads)


def bm25(query: str, texts: Sequence[str], *, k1: float = 1.2, b: float = 0.75) -> dict[int, float]:
    """BM25 with the IDF of Lucene, written out: the scores of the texts that have a word."""
    counts = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    lengths = [sum(count.values()) for count in counts]
    mean = sum(lengths) / len([length for length in lengths if length])
    scores: dict[int, float] = {}
    for word in set(re.findall(r"\w+", query.lower())):
        having = sum(word in count for count in counts)
        idf = math.log(1 + (len(counts) - having + 0.5) / (having + 0.5))
        for index, count in enumerate(counts):
            if frequency := count[word]:
                norm = k1 * (1 - b + b * lengths[index] / mean)
                gain = idf * frequency * (k1 + 1) / (frequency + norm)
                scores[index] = scores.get(index, 0.0) + gain
    return scores


@pytest.mark.parametrize("query", ["cat", "the red cat", "sun mat", "RAIN", "zebra"])
def test_a_keyword_search_ranks_by_bm25(client: Client, query: str) -> None:
    expected = bm25(query, [text for text in TEXTS if text])
    hits = client.search("docs", [query], mode="keyword")[0]
    assert {hit.id for hit in hits} == expected.keys()
    found = [hit.score for hit in hits]
    assert found == sorted(found, reverse=True)
    for hit in hits:
        assert hit.score == pytest.approx(expected[int(hit.id)], rel=1e-5)
        assert hit.payload["text"] == TEXTS[int(hit.id)]


def test_a_hybrid_search_fuses_the_ranks_of_both_and_explains_each_score(client: Client) -> None:
    dense = client.search("docs", ["the red cat"], limit=50)[0]
    keyword = client.search("docs", ["the red cat"], limit=50, mode="keyword")[0]
    hits = client.search("docs", ["the red cat"], limit=50, mode="hybrid")[0]
    assert {hit.id for hit in hits} == {hit.id for hit in dense}
    for hit in hits:
        expected: dict[str, float] = {}
        for name, ranking in (("similarity", dense), ("keyword", keyword)):
            for rank, ranked in enumerate(ranking, 1):
                if ranked.id == hit.id:
                    expected |= {name: ranked.score, f"{name}_rank": rank}
        assert hit.parts == pytest.approx(expected)
        ranks = [value for name, value in hit.parts.items() if name.endswith("_rank")]
        assert hit.score == pytest.approx(sum(1 / (60 + rank) for rank in ranks))
        assert hit.payload["text"] == TEXTS[int(hit.id)]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    assert dense[0].parts == keyword[0].parts == {}


def test_alpha_weighs_the_scores_from_keywords_alone_to_embeddings_alone(client: Client) -> None:
    dense = client.search("docs", ["the red cat"], limit=50)[0]
    keyword = client.search("docs", ["the red cat"], limit=50, mode="keyword")[0]
    by_alpha = {
        alpha: client.search("docs", ["the red cat"], limit=50, mode="hybrid", alpha=alpha)[0]
        for alpha in (0.0, 0.25, 1.0)
    }
    assert by_alpha[1.0][0].id == dense[0].id
    assert [hit.id for hit in by_alpha[0.0]][: len(keyword) - 1] == [hit.id for hit in keyword[:-1]]
    spread = {name: [hit.score for hit in hits] for name, hits in (("d", dense), ("k", keyword))}

    def scaled(score: float | None, name: str) -> float:
        low, high = min(spread[name]), max(spread[name])
        return 0.0 if score is None else (score - low) / (high - low)

    for hit in by_alpha[0.25]:
        both = scaled(hit.parts.get("similarity"), "d"), scaled(hit.parts.get("keyword"), "k")
        assert hit.score == pytest.approx(0.25 * both[0] + 0.75 * both[1], abs=1e-6)


@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_filters_pages_thresholds_and_batches_are_as_in_any_search(
    client: Client, mode: Any
) -> None:
    search: dict[str, Any] = {"mode": mode, "filter": {"n": {"gte": 1}}}
    both = client.search("docs", ["the cat", "the sun"], limit=20, **search)
    assert 0 not in {hit.id for hits in both.hits for hit in hits}
    assert client.search("docs", ["the sun"], limit=20, **search)[0] == both.hits[1]
    page = client.search("docs", ["the cat"], limit=2, offset=1, with_payload=False, **search)[0]
    assert [(hit.id, hit.score) for hit in page] == [(hit.id, hit.score) for hit in both[0][1:3]]
    assert [hit.payload for hit in page] == [{}, {}]
    lowest = both[0][1].score
    found = client.search("docs", ["the cat"], limit=20, score_threshold=lowest, **search)[0]
    assert [hit.id for hit in found] == [hit.id for hit in both[0] if hit.score >= lowest]
    (batched,) = client.search_batch([calls.search("docs", ["the sun"], limit=20, **search)])
    assert isinstance(batched, SearchResults)
    assert batched.hits[0] == both.hits[1]


def test_a_reranked_hybrid_search_has_every_score_among_the_parts(client: Client) -> None:
    fused = client.search("docs", ["the cat"], limit=3, mode="hybrid")[0]
    hits = client.search(
        "docs", ["the cat"], limit=3, mode="hybrid", rerank="reranker", candidates=3
    )[0]
    assert {hit.id for hit in hits} == {hit.id for hit in fused}
    by_id = {hit.id: hit for hit in fused}
    for hit in hits:
        before = by_id[hit.id]
        expected = {**before.parts, "fusion": before.score, "rerank": hit.score}
        assert hit.parts == pytest.approx(expected)
    hits = client.search("docs", ["the cat"], limit=2, mode="keyword", rerank="reranker")[0]
    assert hits[0].parts.keys() == {"keyword", "rerank"}


def test_a_language_takes_words_by_their_stems_and_leaves_its_stop_words_out(
    client: Client,
) -> None:
    fill(client, "english", ENGLISH)
    try:
        assert client.collection("english").text_index == ENGLISH
        stems = client.search("english", ["cats raining"], mode="keyword")[0]
        assert {hit.id for hit in stems} == {0, 2, 3, 5}
        assert client.search("english", ["the on a"], mode="keyword")[0] == ()
        assert client.search("docs", ["cats raining"], mode="keyword")[0] == ()
    finally:
        client.delete_collection("english")


def test_a_point_that_is_written_over_or_deleted_is_found_by_its_words_no_more(
    client: Client,
) -> None:
    fill(client, "changing", PLAIN)
    try:
        client.upsert("changing", [3], ["a zebra"], payloads=[{"text": "a zebra"}])
        client.delete_points("changing", [0])
        found = client.search("changing", ["blue zebra mat"], mode="keyword")[0]
        assert {hit.id for hit in found} == {3, 4}
        left = ["a zebra" if n == 3 else text for n, text in enumerate(TEXTS)]
        expected = bm25("blue zebra mat", [text for text in left[1:] if text])
        scores = {hit.id: hit.score for hit in found}
        assert scores == pytest.approx({n + 1: score for n, score in expected.items()}, rel=1e-5)
    finally:
        client.delete_collection("changing")


def test_vectors_that_were_embedded_before_are_found_by_the_text_of_their_payload(
    client: Client,
) -> None:
    client.create_collection("ready", model="tiny", text_index=TextIndex("body", "none"))
    try:
        embedded = client.embed(["anything"], model="tiny")
        client.upsert("ready", [1], vectors=embedded, payloads=[{"body": "a zebra"}])
        assert client.search("ready", ["zebra"], mode="keyword")[0][0].id == 1
    finally:
        client.delete_collection("ready")


@pytest.mark.parametrize("payload", [{}, {"text": 3}, {"text": ["a"]}, {"body": "a"}])
def test_a_point_without_a_text_is_refused_and_nothing_is_written(
    client: Client, payload: dict[str, Any]
) -> None:
    payloads = [{"text": "fine"}, payload]
    with pytest.raises(InvalidInput, match=r"payloads\[1\] has no text at 'text'"):
        client.upsert("docs", [100, 101], ["fine", "not"], payloads=payloads)
    assert client.retrieve("docs", [100, 101]) == ()


@pytest.mark.parametrize(
    ("search", "match"),
    [
        ({"collection": "dense", "mode": "keyword"}, "has no text index.*mode dense"),
        ({"collection": "dense", "mode": "hybrid"}, "has no text index.*upsert"),
        ({"mode": "sparse"}, "mode is 'sparse'; expected one of dense, keyword, hybrid"),
        ({"mode": "hybrid", "alpha": 1.5}, "alpha is 1.5; give a weight from 0 to 1"),
        ({"mode": "hybrid", "alpha": math.nan}, "alpha is nan"),
        ({"mode": "keyword", "alpha": 0.5}, "alpha is 0.5, and a keyword search fuses nothing"),
        ({"mode": "keyword", "model": "tiny"}, "a keyword search embeds nothing"),
        ({"mode": "keyword", "items": ["word " * 4000]}, r"texts\[0\] has 20000 bytes.*16384"),
        ({"mode": "hybrid", "items": None, "ids": [1]}, "a hybrid search ranks.*words"),
        (
            {
                "mode": "keyword",
                "items": None,
                "vectors": np.ones((1, 8), np.float32),
                "fingerprint": "x",
            },
            "a keyword search ranks points by the words",
        ),
    ],
)
def test_what_cannot_be_searched_by_words_is_refused_with_the_way_out(
    client: Client, search: dict[str, Any], match: str
) -> None:
    chosen: dict[str, Any] = {"collection": "docs", "items": ["the cat"], **search}
    with pytest.raises(InvalidInput, match=match):
        client.search(chosen.pop("collection"), chosen.pop("items"), **chosen)


def test_an_unknown_language_is_refused_and_no_collection_is_made(client: Client) -> None:
    unknown: Any = "klingon"
    with pytest.raises(InvalidInput, match=r"klingon.*expected one of none, arabic"):
        client.create_collection("k", model="tiny", text_index=TextIndex(language=unknown))
    assert "k" not in {collection.name for collection in client.collections()}
    assert client.collection("dense").text_index is None
