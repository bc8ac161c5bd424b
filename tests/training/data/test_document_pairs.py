"""A folder means the same to adapting, distilling and exporting: pairs by a rule."""

from pathlib import Path

import pytest

from attar.errors import AttarError
from attar.training.adaptation.pair_split import documents_of, make_pairs
from attar.training.data.corpus import read_corpus
from attar.training.data.document_pairs import read_pairs
from attar.training.run_data import corpus

WORDS = "it is read with care and closed again by the one who opened it"


def handbook(folder: Path) -> Path:
    for chapter in range(6):
        sections = (f"## Part {n} of it\n\nIn {chapter}.{n} {WORDS}.\n\n" for n in range(2))
        text = f"# Chapter {chapter} of all\n\n" + "".join(sections)
        (folder / f"{chapter}.md").write_text(text, "utf-8")
    return folder


def test_a_folder_gives_the_pairs_that_adapting_makes(tmp_path: Path) -> None:
    folder = handbook(tmp_path)
    parts = corpus(str(folder), what="distill")
    adapted = make_pairs(documents_of(str(folder)), None, seed=0)
    every = {(p.name, p.summary, p.body) for p in (*adapted.train, *adapted.split.held_out)}
    assert {(p.name, p.summary, p.body) for p in (*parts.train, *parts.held_out)} == every
    assert ("3.md#2", "Chapter 3 of all: Part 1 of it", f"In 3.1 {WORDS}.") in every
    (line, *_) = read_pairs(folder).lines(held_out=1)
    assert line.startswith(f"{folder}: 12 pairs that title_and_body makes of 12 sections; 11 train")


def test_a_folder_of_single_sentences_is_read_as_texts(tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text(f"Sentence {number} {WORDS}.", "utf-8")
    assert read_pairs(tmp_path) == read_corpus(tmp_path)


def test_a_path_that_is_nothing_is_refused_as_for_a_file(tmp_path: Path) -> None:
    with pytest.raises(AttarError, match=r"there is no file or folder .*nowhere"):
        read_pairs(tmp_path / "nowhere")
