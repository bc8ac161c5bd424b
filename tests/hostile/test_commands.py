"""A bad input to any command is reported with its value and the fix; no file is left behind."""

from pathlib import Path

import pytest

from attar.cli.app import app
from benchmarks.hostile.commands import CASES, Case, attempt


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_command_has_status_2_its_words_and_leaves_nothing(
    case: Case, tmp_path: Path
) -> None:
    outcome = attempt(case, tmp_path / "x")

    assert outcome.status == 2, outcome
    for text in case.refusal:
        assert text in outcome.message
    assert outcome.message.startswith(("attar: ", "Usage: ", "usage: "))
    assert "Traceback" not in outcome.message
    assert outcome.written == ()


def test_every_command_has_a_row() -> None:
    rows = {case.command.split()[0] for case in CASES}
    commands = {command.name or command.callback.__name__ for command in app.registered_commands}  # type: ignore[union-attr]
    assert commands - rows == {"import"}  # of which benchmarks/hostile/folders.py has the list
