"""Pairs are split by their names alone, and read from a file whose bad lines are named."""

import json
from collections.abc import Sequence
from pathlib import Path
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from attar.errors import InvalidInput
from attar.inputs import Role
from attar.training.data.corpus import read_corpus
from attar.training.data.pairs import Pair, Split, split
from attar.training.probes.summaries import SummaryRetrieval

names = st.lists(st.text(min_size=1, max_size=8), min_size=3, max_size=30, unique=True)


def pair(name: str) -> Pair:
    return Pair(name, "made", f"summary of {name}", f"body of {name}")


@given(names, st.integers(1, 2), st.integers(0, 5))
def test_a_split_parts_the_pairs_and_keeps_their_order(
    drawn: list[str], held_out: int, seed: int
) -> None:
    pairs = [pair(name) for name in drawn]
    parts = split(pairs, held_out=held_out, seed=seed)
    assert len(parts.held_out) == held_out
    assert not set(parts.held_out) & set(parts.train)
    assert set(parts.held_out) | set(parts.train) == set(pairs)
    for side in (parts.train, parts.held_out):
        assert list(side) == sorted(side, key=pairs.index)


@given(names, st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_split_depends_on_names_alone(drawn: list[str], seed: int, random: Random) -> None:
    pairs = [pair(name) for name in drawn]
    others = [Pair(name, "other", "another summary", "another body") for name in drawn]
    random.shuffle(others)
    one, other = split(pairs, held_out=2, seed=seed), split(others, held_out=2, seed=seed)
    assert {p.name for p in one.held_out} == {p.name for p in other.held_out}


@given(names, st.integers(1, 2), st.integers(0, 5))
def test_one_pair_more_moves_at_most_one_other(drawn: list[str], held_out: int, seed: int) -> None:
    *before, added = drawn
    small = split(
        [pair(name) for name in before], held_out=min(held_out, len(before) - 1), seed=seed
    )
    large = split([pair(name) for name in drawn], held_out=len(small.held_out), seed=seed)
    moved = set(small.held_out) - set(large.held_out)
    assert len(moved) <= 1
    assert set(large.held_out) - set(small.held_out) <= {pair(added)}


def test_another_seed_holds_out_others() -> None:
    pairs = [pair(str(i)) for i in range(100)]
    assert split(pairs, held_out=20, seed=0) != split(pairs, held_out=20, seed=1)


@pytest.mark.parametrize("held_out", [0, 3, 4, -1])
def test_a_split_with_an_empty_side_is_refused(held_out: int) -> None:
    with pytest.raises(InvalidInput, match=rf"held_out must be in \[1, 2\].*; got {held_out}"):
        split([pair(str(i)) for i in range(3)], held_out=held_out)


def test_the_task_asks_for_held_out_summaries_among_all_bodies() -> None:
    parts = Split(train=(pair("a"), pair("b")), held_out=(pair("c"),))
    task = SummaryRetrieval.of(parts)
    assert task.queries == ("summary of c",)
    assert task.documents == ("body of c", "body of a", "body of b")
    assert SummaryRetrieval.of(parts, most=2).documents == ("body of c", "body of a")
    assert SummaryRetrieval.of(parts, most=1).documents == ("body of c",)


def test_an_embedder_is_called_with_roles_and_scored() -> None:
    parts = Split(train=(pair("a"), pair("b")), held_out=(pair("c"), pair("d")))
    task = SummaryRetrieval.of(parts)

    def by_name(texts: Sequence[str], role: Role) -> NDArray[np.float64]:
        assert texts == {"query": task.queries, "passage": task.documents}[role]
        return np.eye(4)[["abcd".index(text[-1]) for text in texts]]

    assert task(by_name) == pytest.approx(
        {"recall_at_1": 1.0, "recall_at_10": 1.0, "mrr": 1.0, "rankme": 4.0}, rel=1e-3
    )


LINE = {"name": "a", "summary": "short", "body": "long"}


def write(path: Path, *lines: object) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    return path


def test_a_file_of_lines_is_read_in_order(tmp_path: Path) -> None:
    second = {**LINE, "name": "b", "package": "p", "note": "kept out"}
    path = write(tmp_path / "pairs.jsonl", json.dumps(second), json.dumps(LINE))
    assert read_corpus(path).pairs == (
        Pair("b", "p", "short", "long"),
        Pair("a", "", "short", "long"),
    )


def test_a_line_ends_at_a_newline_and_nowhere_else(tmp_path: Path) -> None:
    line = {**LINE, "body": "one\u2028two\x0bthree\x85four"}
    path = write(tmp_path / "pairs.jsonl", json.dumps(line, ensure_ascii=False))
    assert read_corpus(path).pairs[0].body == "one\u2028two\x0bthree\x85four"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "Expecting property name"),
        ("[1]", "an array and no object: write each of its objects in a line"),
        ("3", "3 is no object"),
        ('"text"', '"text" is no object'),
        (json.dumps({"name": "b", "summary": "s"}), "body is missing; a pair is an object of"),
        (json.dumps({**LINE, "name": "b", "summary": " "}), "summary is blank"),
        ('{"name": "b", "summary": "s", "body": "b", "body": "c"}', "the key 'body' occurs twice"),
        ('{"name": "b", "summary": "\\ud800", "body": "b"}', "surrogates not allowed"),
        (json.dumps({**LINE, "name": 3}), "not all of .* are strings"),
        (json.dumps({**LINE, "name": ["b"]}), "not all of .* are strings"),
        (json.dumps({**LINE, "summary": None}), "not all of .* are strings"),
        (json.dumps({**LINE, "name": "b", "package": 1}), "not all of .* are strings"),
        (json.dumps(LINE), "the name 'a' occurs twice; names must be unique"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "pairs.jsonl", json.dumps(LINE), line)
    with pytest.raises(InvalidInput, match=rf"pairs.jsonl, line 2: .*({message})"):
        read_corpus(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read pairs from .*nowhere.jsonl"):
        read_corpus(tmp_path / "nowhere.jsonl")
    (tmp_path / "latin.jsonl").write_bytes(b'{"name": "caf\xe9"}')
    with pytest.raises(InvalidInput, match=r"cannot read pairs from .*latin.jsonl: 'utf-8'"):
        read_corpus(tmp_path / "latin.jsonl")
