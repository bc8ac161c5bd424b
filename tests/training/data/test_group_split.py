"""Whole groups are held out, by their names, and no text is on both sides."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.training.data.documents import Document, Documents
from attar.training.data.group_split import SEEN, split_documents, split_pairs, unseen
from attar.training.data.pairs import Pair

texts = st.sampled_from([f"text {number}" for number in range(12)])
rows = st.lists(st.tuples(st.sampled_from("abcdef"), texts, texts), min_size=2, max_size=40)


def corpus(drawn: list[tuple[str, str, str]]) -> Documents:
    documents = (
        Document(str(number), group, title, text)
        for number, (group, title, text) in enumerate(drawn)
    )
    return Documents("corpus", tuple(documents), "rows")


def pairs_of(drawn: list[tuple[str, str, str]]) -> list[Pair]:
    return [Pair(str(number), *row) for number, row in enumerate(drawn)]


@given(rows, st.data(), st.integers(0, 3))
def test_no_group_and_no_text_of_documents_is_on_both_sides(
    drawn: list[tuple[str, str, str]], data: st.DataObject, seed: int
) -> None:
    documents = corpus(drawn)
    held_out = data.draw(st.integers(1, len(drawn) - 1))
    try:
        parts = split_documents(documents, held_out=held_out, seed=seed)
    except InvalidInput:
        assume(False)
    for attribute in ("name", "group", "text"):
        train, test = (
            {getattr(document, attribute) for document in side}
            for side in (parts.train, parts.held_out)
        )
        assert not train & test
    left = parts.held_out.passed_over.get(SEEN, 0)
    assert len(parts.train) + len(parts.held_out) + left == len(drawn)


@given(rows, st.data(), st.integers(0, 3))
def test_no_group_and_no_text_of_pairs_is_on_both_sides(
    drawn: list[tuple[str, str, str]], data: st.DataObject, seed: int
) -> None:
    held_out = data.draw(st.integers(1, len(drawn) - 1))
    try:
        parts = split_pairs(pairs_of(drawn), held_out=held_out, seed=seed)
    except InvalidInput:
        assume(False)
    assert not {p.package for p in parts.train} & {p.package for p in parts.held_out}
    sides = [
        {t for p in side for t in (p.summary, p.body)} for side in (parts.train, parts.held_out)
    ]
    assert not sides[0] & sides[1]
    assert unseen(parts.held_out, parts.train) == parts.held_out


@given(st.dictionaries(st.text(max_size=4), st.integers(1, 9), min_size=2), st.integers(0, 3))
def test_at_most_so_many_are_held_out_or_the_smallest_group(
    sizes: dict[str, int], seed: int
) -> None:
    drawn = [(group, "", f"{group} {i}") for group, size in sizes.items() for i in range(size)]
    held_out = max(1, len(drawn) // 4)
    parts = split_documents(corpus(drawn), held_out=held_out, seed=seed)
    assert len(parts.train)
    assert 1 <= len(parts.held_out) <= max(held_out, min(sizes.values()))
    backwards = split_documents(corpus(drawn[::-1]), held_out=held_out, seed=seed)
    groups = {document.group for document in parts.held_out}
    if held_out >= min(sizes.values()):
        assert {document.group for document in backwards.held_out} == groups


def test_another_seed_holds_out_others() -> None:
    documents = corpus([(str(i), "", f"text {i}") for i in range(100)])
    first, second = (split_documents(documents, held_out=20, seed=seed) for seed in (0, 1))
    assert len(first.held_out) == len(second.held_out) == 20
    assert first != second


@pytest.mark.parametrize(
    ("drawn", "held_out", "message"),
    [
        ([("a", "", "one"), ("a", "", "two")], 1, "needs two, and there are 1; give more files"),
        ([("a", "", "one"), ("b", "", "two")], 2, r"held_out must be in \[1, 1\].*; got 2"),
        ([("a", "", "one"), ("b", "", "one")], 1, "every text that was held out is in training"),
    ],
)
def test_a_split_with_an_empty_side_is_refused(
    drawn: list[tuple[str, str, str]], held_out: int, message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        split_documents(corpus(drawn), held_out=held_out)
    with pytest.raises(InvalidInput, match=message):
        split_pairs(pairs_of(drawn), held_out=held_out)
