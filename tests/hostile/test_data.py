"""What is read is what is there, and what is not read is refused by file and reason."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from attar.errors import AttarError
from attar.training.data.corpus import read_corpus
from attar.training.data.documents import read_documents
from attar.training.data.source import Rows
from attar.training.reading import read
from benchmarks.hostile.data import CASES, DOCUMENTS, TEXTS, Case, Reads


def laid(case: Case, folder: Path) -> Path:
    folder.mkdir()
    made = case.make(folder)
    return made if isinstance(made, Path) else folder


def every(items: Rows | None) -> torch.Tensor:
    return torch.zeros(0) if items is None else items[torch.arange(len(items))]


def check_left(case: Reads, passed_over: Mapping[str, int], message: str) -> None:
    assert passed_over == case.passed_over
    for words in case.notes:
        assert words in message


@pytest.mark.parametrize("case", [c for c in CASES if isinstance(c.outcome, Reads)], ids=str)
def test_what_is_read_is_what_is_there(case: Case, tmp_path: Path) -> None:
    assert isinstance(case.outcome, Reads)
    source = read(str(laid(case, tmp_path / "x")), **case.options)

    train, test = every(source.train), every(source.test)
    assert (len(train), len(test)) == (case.outcome.train, case.outcome.test)
    if case.outcome.shape is not None:
        assert train.shape[1:] == case.outcome.shape
    first = train[0].flatten()[: len(case.outcome.first)].tolist()
    assert first == pytest.approx(case.outcome.first, abs=1e-6)
    first = test[:1].flatten()[: len(case.outcome.first_test)].tolist()
    assert first == pytest.approx(case.outcome.first_test, abs=1e-6)
    summary = source.summary
    assert summary is not None
    assert (summary.train, summary.test) == (len(train), len(test))
    assert summary.shape == train.shape[1:]
    assert summary.classes == case.outcome.classes
    assert (source.train_labels is not None) == bool(case.outcome.classes)
    check_left(case.outcome, summary.passed_over, "\n".join(summary.lines()))


@pytest.mark.parametrize("case", [c for c in CASES if not isinstance(c.outcome, Reads)], ids=str)
def test_what_is_not_read_is_refused_by_its_name_and_why(case: Case, tmp_path: Path) -> None:
    path = laid(case, tmp_path / "x")
    with pytest.raises(AttarError) as refused:
        read(str(path), **case.options)  # no item is needed for it
    check_refusal(case, str(refused.value))


def test_what_is_shipped_says_that_a_folder_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for said in (False, True):
        summary = read("wine").summary
        assert summary is not None
        assert ("what is called so in this folder is ./wine" in "\n".join(summary.lines())) is said
        (tmp_path / "wine").mkdir(exist_ok=True)


@pytest.mark.parametrize("case", [c for c in TEXTS if isinstance(c.outcome, Reads)], ids=str)
def test_texts_are_read_as_they_are_there(case: Case, tmp_path: Path) -> None:
    assert isinstance(case.outcome, Reads)
    corpus = read_corpus(laid(case, tmp_path / "x"), **case.options)
    assert len(corpus.pairs) == case.outcome.train
    assert all(pair.summary.strip() and pair.body.strip() for pair in corpus.pairs)
    check_left(case.outcome, corpus.passed_over, "\n".join(corpus.lines(held_out=1)))


@pytest.mark.parametrize("case", [c for c in TEXTS if not isinstance(c.outcome, Reads)], ids=str)
def test_texts_that_are_not_read_are_refused_by_line_and_why(case: Case, tmp_path: Path) -> None:
    path = laid(case, tmp_path / "x")
    with pytest.raises(AttarError) as refused:
        read_corpus(path, **case.options)
    check_refusal(case, str(refused.value))


@pytest.mark.parametrize("case", [c for c in DOCUMENTS if isinstance(c.outcome, Reads)], ids=str)
def test_documents_are_read_as_they_are_there(case: Case, tmp_path: Path) -> None:
    assert isinstance(case.outcome, Reads)
    documents = read_documents(laid(case, tmp_path / "x"), **case.options)
    assert len(documents) == case.outcome.train
    assert all(document.text.strip() and document.group for document in documents)
    assert len({document.name for document in documents}) == len(documents)
    check_left(case.outcome, documents.passed_over, "\n".join(documents.lines()))


@pytest.mark.parametrize(
    "case", [c for c in DOCUMENTS if not isinstance(c.outcome, Reads)], ids=str
)
def test_documents_that_are_not_read_are_refused_by_file_and_why(
    case: Case, tmp_path: Path
) -> None:
    path = laid(case, tmp_path / "x")
    with pytest.raises(AttarError) as refused:
        read_documents(path, **case.options)
    check_refusal(case, str(refused.value))


def check_refusal(case: Case, message: str) -> None:
    assert not isinstance(case.outcome, Reads)
    for words in case.outcome:
        assert words in message
    assert len(message.splitlines()) == 1
