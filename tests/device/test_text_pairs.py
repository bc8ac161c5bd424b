"""Pairs of texts: token ids as transformers makes them, each pair judged by itself."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

import attar
from attar.errors import BundleRefused, InputTooLong, InvalidInput, NotSupported
from attar.inputs import TextPair
from attar.runtime import Encoder
from attar.text_pairs import PairInput, longest_first
from benchmarks.support.bundles import pair_tokenizer_json, tiny_bundle, tiny_cross_encoder

LENGTH = 16
DOCUMENTS = ["the dog ran", "the cat sat on the mat", "", "the cat"]
WORDS = st.lists(st.sampled_from(["the", "cat", "dog", "x", "sat?"]), max_size=14).map(" ".join)


@pytest.fixture(scope="module")
def cross_encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return attar.load(tiny_cross_encoder(tmp_path_factory.mktemp("pairs") / "x"), threads=1)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return attar.load(tiny_bundle(tmp_path_factory.mktemp("encoder") / "x"), threads=1)


def host(max_length: int = LENGTH, side: str | None = None) -> PairInput:
    return PairInput(
        pair_tokenizer_json(), max_length=max_length, segments=True, truncation_side=side
    )


@pytest.mark.parametrize("side", ["right", "left"])
@given(query=WORDS, document=WORDS, room=st.integers(2, 12))
def test_a_pair_is_cut_as_the_tokenizers_library_cuts_it(
    side: str, query: str, document: str, room: int
) -> None:
    library = Tokenizer.from_str(pair_tokenizer_json().decode())
    library.enable_truncation(room + 3, strategy="longest_first", direction=side)
    (row,) = host(room + 3, side).prepare(
        [TextPair(query, document)], role="passage", truncation="truncate"
    )
    theirs = library.encode(query, document)
    assert [row.arrays[0].tolist(), row.arrays[2].tolist()] == [theirs.ids, theirs.type_ids]
    assert row.truncated == bool(theirs.overflowing)
    assert row.tokens == len(theirs.ids)


@given(a=st.integers(0, 40), b=st.integers(0, 40), room=st.integers(2, 30))
def test_the_longer_text_is_cut_first_and_no_room_is_left_over(a: int, b: int, room: int) -> None:
    cut = longest_first(a, b, room)
    assert sum(cut) == min(a + b, room)
    assert cut[0] <= a
    assert cut[1] <= b
    assert cut[0] == a or cut[0] >= cut[1] - 1
    assert cut[1] == b or cut[1] >= cut[0] - 1


def test_documents_are_ranked_by_their_scores_and_equal_ones_by_their_order(
    cross_encoder: Encoder,
) -> None:
    ranking = cross_encoder.rank("the cat", DOCUMENTS)
    counts = np.array([1, 3, 0, 2])  # equal pairs of tokens; "the" twice in the second
    expected = 1 / (1 + np.exp(2.0 - counts))
    assert ranking.indices.tolist() == [1, 3, 0, 2]
    np.testing.assert_allclose(ranking.scores, expected[ranking.indices], rtol=1e-6)
    assert ranking.tokens.tolist() == [8, 11, 5, 7]
    assert ranking.scorer == "cross-encoder"
    same = cross_encoder.rank("the cat", ["rain", "sun", "rain"])
    assert same.indices.tolist() == [0, 1, 2]


def test_a_score_does_not_depend_on_the_other_documents(cross_encoder: Encoder) -> None:
    together = cross_encoder.rank("the cat", DOCUMENTS)
    scores = dict(zip(together.indices.tolist(), together.scores.tolist(), strict=True))
    for index, document in enumerate(DOCUMENTS):
        assert cross_encoder.rank("the cat", [document]).scores.tolist() == [scores[index]]


def test_the_best_are_the_first_of_all(cross_encoder: Encoder) -> None:
    assert cross_encoder.rank("the cat", DOCUMENTS, top_n=2).indices.tolist() == [1, 3]
    assert len(cross_encoder.rank("the cat", DOCUMENTS, top_n=9)) == len(DOCUMENTS)
    assert len(cross_encoder.rank("the cat", [])) == 0


def test_a_long_pair_is_cut_and_flagged_or_refused_by_its_index(cross_encoder: Encoder) -> None:
    documents = ["the cat", "dog " * LENGTH]
    assert cross_encoder.rank("the", documents).truncated.tolist() == [False, True]
    with pytest.raises(InputTooLong, match="item 1 has more than 18 tokens and the cross-enc"):
        cross_encoder.rank("the", ["the cat", "dog " * LENGTH], truncation="error")


def test_an_encoder_ranks_by_cosine_and_says_so(encoder: Encoder) -> None:
    ranking = encoder.rank("the cat", DOCUMENTS)
    vectors = encoder.embed(DOCUMENTS).vectors
    cosines = vectors @ encoder.embed(["the cat"], role="query").vectors[0]
    assert ranking.scorer == "cosine"
    assert ranking.indices.tolist() == np.argsort(-cosines).tolist()
    np.testing.assert_allclose(ranking.scores, np.sort(cosines)[::-1], rtol=1e-6)


def test_a_cross_encoder_refuses_by_its_name_to_embed(cross_encoder: Encoder) -> None:
    with pytest.raises(NotSupported, match="reranker is a cross-encoder: it scores a query"):
        cross_encoder.embed(["the cat"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"query": 3, "documents": []}, "query must be a string; got int"),
        ({"query": "a", "documents": "b"}, "items must be a list; got str"),
        ({"query": "a", "documents": [1]}, "item 0 must be a string; got int 1"),
        ({"query": "a", "documents": [], "top_n": 0}, "top_n is 0; give a whole number from 1"),
        ({"query": "a", "documents": [], "top_n": True}, "top_n is True"),
        ({"query": "a", "documents": [], "truncation": "x"}, "truncation must be one of"),
    ],
)
def test_a_bad_argument_is_named(
    cross_encoder: Encoder, arguments: dict[str, object], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        cross_encoder.rank(**arguments)  # type: ignore[arg-type]


def test_what_is_no_pair_is_named(cross_encoder: Encoder) -> None:
    with pytest.raises(InvalidInput, match="item 0 must be a pair of a query and a document"):
        cross_encoder.prepare(["the cat"])


def test_a_tokenizer_without_room_for_two_texts_is_refused() -> None:
    with pytest.raises(BundleRefused, match="max_length 4 leaves no room for two texts besides 3"):
        host(4)


def test_a_cross_encoder_bundle_may_be_packed_and_opened_again(
    cross_encoder: Encoder, tmp_path: Path
) -> None:
    packed = attar.Bundle.pack(cross_encoder.bundle.path, tmp_path / "x.zip")
    again = attar.load(packed, threads=1)
    assert again.rank("the cat", DOCUMENTS).indices.tolist() == [1, 3, 0, 2]
