"""A bad folder is refused in one line that names its fault; nothing is written and nothing runs."""

from pathlib import Path

import pytest

from .bad_folders import CASES, Case, attempt


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_folder_is_told_and_nothing_is_written(case: Case, tmp_path: Path) -> None:
    outcome = attempt(case, tmp_path)
    assert outcome.status == 2
    assert case.words in outcome.message
    assert outcome.message.startswith("attar: ")
    assert len(outcome.message.splitlines()) == 1
    assert outcome.written == ()
