"""Each rule makes the pairs that its docstring says, the same each time, and none twice."""

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.training.data.documents import Document
from attar.training.data.pair_rules import (
    QUERY_WORDS,
    REST_WORDS,
    RULES,
    Rule,
    default_rule,
    first_sentence_and_rest,
    inverse_cloze,
    keyword_query,
    neighbouring_passages,
    summary_and_rest,
    title_and_body,
    two_dropouts,
)
from attar.training.data.pairs import Pair
from attar.training.data.passages import word_count

REST = "Water boils at one hundred degrees at the level of the sea."
MORE = "On a mountain it boils earlier, since the air weighs less there."


def document(text: str, title: str = "", name: str = "d") -> Document:
    return Document(name, "group", title, text)


def texts(pairs: Sequence[Pair]) -> list[tuple[str, str]]:
    return [(pair.summary, pair.body) for pair in pairs]


words = st.sampled_from(["sun", "Moon", "star.", "the", "a", "light", "night.", "\n\n", "one"])
corpora = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(words, max_size=3), st.lists(words, max_size=60)),
    max_size=8,
).map(
    lambda rows: [
        Document(str(number), group, " ".join(title), " ".join(text))
        for number, (group, title, text) in enumerate(rows)
    ]
)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@given(corpora)
def test_every_pair_has_two_texts_a_group_and_a_name_that_is_unique(
    rule: Rule, documents: list[Document]
) -> None:
    pairs = rule(documents)
    assert pairs == rule(iter(documents))
    for attribute in ("name", "summary", "body"):
        assert len({getattr(pair, attribute) for pair in pairs}) == len(pairs)
    group_of = {document.name: document.group for document in documents}
    for pair in pairs:
        assert pair.package == group_of[pair.name.partition("#")[0]]
        assert word_count(pair.summary) >= QUERY_WORDS[0]
        assert word_count(pair.body) >= REST_WORDS


def test_a_title_is_paired_with_the_text_without_it() -> None:
    documents = [
        document(f"{REST}\n\n{MORE}", "Why water boils", "a"),
        document("why Water boils " + MORE, "Why water boils early", "b"),
        document(f"Boiling water {REST}", "Boiling water", "c"),
        document(MORE, "", "d"),
    ]
    assert texts(title_and_body(documents)) == [
        ("Why water boils", f"{REST} {MORE}"),
        ("Why water boils early", f"why Water boils {MORE}"),
        ("Boiling water", REST),
    ]


def test_a_first_paragraph_is_paired_with_the_others() -> None:
    assert texts(summary_and_rest([document(f"A summary.\n\n{REST}\n\n{MORE}")])) == [
        ("A summary.", f"{REST} {MORE}")
    ]
    assert summary_and_rest([document(REST)]) == ()


def test_a_first_sentence_is_paired_with_the_others() -> None:
    assert texts(first_sentence_and_rest([document(f"{REST} {MORE}")])) == [(REST, MORE)]
    assert first_sentence_and_rest([document(REST)]) == ()


def test_passages_that_follow_each_other_are_pairs_once() -> None:
    rows = [f"Sentence {word} has these eight words in it." for word in ("a", "b", "c", "d", "e")]
    pairs = neighbouring_passages([document(" ".join(rows))], words=16)
    assert texts(pairs) == [(rows[0], rows[1]), (rows[2], rows[3])]


def test_a_sentence_is_taken_out_of_nine_passages_of_ten() -> None:
    parts = ("Part one of {0} is here.", "Part two of {0} is there.", "Then {0} has an end.")
    documents = [document(" ".join(parts).format(i), name=str(i)) for i in range(400)]
    pairs = inverse_cloze(documents)
    assert len(pairs) == 400
    taken = [pair for pair in pairs if pair.summary not in pair.body]
    assert 0.85 < len(taken) / 400 < 0.95
    for pair in taken:
        together = sorted((pair.summary + " " + pair.body).split())
        assert together == sorted(documents[int(pair.name.partition("#")[0])].text.split())
    assert {pair.summary.split()[0] for pair in taken} == {"Part", "Then"}


def test_a_passage_is_its_own_pair() -> None:
    assert texts(two_dropouts([document(f"{REST}\n\n{MORE}")], words=12)) == [
        (REST, REST),
        (MORE, MORE),
    ]


def test_keywords_are_those_of_class_based_tf_idf() -> None:
    bodies = [
        "the cat and the cat and the dog saw the moon",
        "the dog and the fish and the fish saw the sun",
        "the moon and the sun and the cat saw the fish",
    ]
    pairs = keyword_query([document(body, name=str(i)) for i, body in enumerate(bodies)])
    every = " ".join(bodies).split()
    for pair in pairs:
        own = pair.body.split()
        weight = {
            word: own.count(word) / len(own) * math.log(1 + 11 / every.count(word))
            for word in set(own)
        }
        assert pair.summary.split() == sorted(weight, key=lambda w: (-weight[w], w))[:5]
    assert pairs[0].summary.startswith("cat")


@pytest.mark.parametrize(
    ("documents", "rule"),
    [
        ([document(REST, "Why water boils")], title_and_body),
        ([document(f"A summary.\n\n{REST}")], summary_and_rest),
        ([document(f"{REST} {MORE} {REST}")], inverse_cloze),
        ([document(REST)], two_dropouts),
    ],
    ids=["titles", "paragraphs", "sentences", "one sentence"],
)
def test_the_rule_by_default_fits_the_documents(documents: list[Document], rule: Rule) -> None:
    assert default_rule(documents) is rule


def test_no_documents_have_no_rule() -> None:
    with pytest.raises(InvalidInput, match="there are no documents; a rule needs at least one"):
        default_rule([])
