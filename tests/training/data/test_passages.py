"""Passages cover a text by whole sentences, and none has too many words."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.training.data.passages import (
    passage_spans,
    passages,
    sentence_spans,
    sentences,
    word_count,
)

prose = st.lists(
    st.sampled_from(["one", "Two", "e.g.", "stop.", "why?", ".", "\n\n", "\n", "文字。", "x" * 70]),
    max_size=60,
).map(" ".join)


@given(st.one_of(prose, st.text(max_size=200)), st.integers(1, 12), st.data())
def test_passages_cover_a_text_and_are_short(text: str, words: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, words - 1))
    spans = passage_spans(text, words=words, overlap=overlap)
    covered = {index for start, end in spans for index in range(start, end)}
    assert all(index in covered or letter.isspace() for index, letter in enumerate(text))
    for start, end in spans:
        assert 1 <= word_count(text[start:end]) <= words
    for (first, end), (second, later) in pairwise(spans):
        assert first < second
        assert end < later
        assert word_count(text[second:end]) <= overlap if second < end else True


@given(st.one_of(prose, st.text(max_size=200)), st.integers(1, 12))
def test_without_overlap_each_character_is_in_one_passage(text: str, words: int) -> None:
    spans = passage_spans(text, words=words)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    joined = "".join(text[start:end] for start, end in spans)
    assert "".join(joined.split()) == "".join(text.split())


@given(st.one_of(prose, st.text(max_size=200)))
def test_sentences_are_in_order_without_white_space_around(text: str) -> None:
    spans = sentence_spans(text)
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))
    assert all(text[start:end] == text[start:end].strip() != "" for start, end in spans)
    joined = "".join(text[start:end] for start, end in spans)
    assert "".join(joined.split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It rains. We stay.", ("It rains.", "We stay.")),
        ("Use e.g. Fig. 3 of J. Smith. It helps.", ("Use e.g. Fig. 3 of J. Smith.", "It helps.")),
        ("pi is 3.14 or so", ("pi is 3.14 or so",)),
        ('He said "stop." Then left', ('He said "stop."', "Then left")),
        ("in a slipstream . an experiment", ("in a slipstream .", "an experiment")),
        ("attar.load runs it", ("attar.load runs it",)),
        ("see etc. and so on", ("see etc. and so on",)),
        ("Heading\n\nsmall letters", ("Heading", "small letters")),
        ("你好。再见！", ("你好。", "再见！")),
        ("", ()),
        (" \n\n ", ()),
    ],
)
def test_sentences_end_where_a_reader_ends_them(text: str, expected: tuple[str, ...]) -> None:
    assert sentences(text) == expected


def test_a_passage_begins_with_the_last_sentences_of_the_one_before() -> None:
    text = "One two three. Four five. Six seven. Eight nine ten."
    assert passages(text, words=5) == ("One two three. Four five.", "Six seven. Eight nine ten.")
    assert passages(text, words=5, overlap=2) == (
        "One two three. Four five.",
        "Four five. Six seven.",
        "Six seven. Eight nine ten.",
    )


def test_a_long_line_without_blanks_is_cut() -> None:
    assert [len(p) for p in passages("x" * 70, words=1)] == [32, 32, 6]
    assert passages("文" * 5, words=2) == ("文文", "文文", "文")
    assert len(passages("word " * 200_000, words=100)) == 2_000


@pytest.mark.parametrize(("words", "overlap"), [(0, 0), (3, 3), (3, -1)])
def test_sizes_that_make_no_progress_are_refused(words: int, overlap: int) -> None:
    with pytest.raises(InvalidInput, match=rf"got {words} and {overlap}"):
        passage_spans("text", words=words, overlap=overlap)
