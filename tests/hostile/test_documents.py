"""Documents cost what they hold: no small file takes hours or gigabytes to read."""

from pathlib import Path

import pytest

from attar.errors import InvalidInput
from attar.training.data.corpus import read_corpus
from benchmarks.hostile.documents import CASES, Case, Reading, huge, lay, readings, repeated


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Reading]:
    folder = tmp_path_factory.mktemp("documents")
    lay(folder)
    each, _ = readings(folder)
    return {reading.what: reading for reading in each}


@pytest.mark.parametrize("case", CASES, ids=str)
def test_costly_documents_are_read_or_refused_within_limits(
    case: Case, read: dict[str, Reading]
) -> None:
    outcome = read[case.what].outcome
    if isinstance(case.outcome, int):
        assert outcome == case.outcome
    else:
        assert case.outcome in str(outcome)


def test_a_corpus_has_the_same_limits(tmp_path: Path) -> None:
    huge(tmp_path)
    with pytest.raises(InvalidInput, match=r"b\.md has 1,073,741,824 bytes, and a document may"):
        read_corpus(tmp_path)
    repeated(tmp_path)
    with pytest.raises(InvalidInput, match=r"a\.parquet becomes more than 268,435,456 bytes"):
        read_corpus(tmp_path / "a.parquet")
    (tmp_path / "b.md").write_bytes(b"o\0n\0e\0")
    with pytest.raises(InvalidInput, match=r"b\.md has a NUL at character 1"):
        read_corpus(tmp_path)
