"""A fault harms nobody but who caused it: the most telling ones, done to a server in a process."""

from pathlib import Path

import pytest

from benchmarks.faults import load, models
from benchmarks.faults.seen import Seen


def unharmed(seen: Seen) -> bool:
    return (seen.wrong, seen.lost) == (0, 0)


def test_a_poison_text_fails_alone_among_hundreds(tmp_path: Path) -> None:
    seen = load.poison(tmp_path, requests=300)

    assert unharmed(seen), seen
    assert seen.answered == 299


@pytest.mark.parametrize("fault", [load.cancelled, load.hurried])
def test_callers_who_leave_or_hurry_disturb_nobody(fault: load.Many, tmp_path: Path) -> None:
    seen = fault(tmp_path, requests=300)

    assert unharmed(seen), seen
    assert 150 < seen.answered < 300


def test_overload_is_refused_in_words_and_bounded(tmp_path: Path) -> None:
    seen = load.overloaded(tmp_path, seconds=2.0)

    assert unharmed(seen), seen
    assert 0 < seen.answered < seen.requests


def test_a_burst_after_a_pause_is_answered_or_refused_in_words(tmp_path: Path) -> None:
    seen = load.paused(tmp_path, requests=1200)

    assert unharmed(seen), seen
    assert seen.answered > 0


def test_sigterm_under_load_loses_nothing_that_was_accepted(tmp_path: Path) -> None:
    seen = load.terminated(tmp_path)

    assert unharmed(seen), seen
    assert seen.answered > 0


def test_a_model_is_swapped_under_load_without_one_failed_request(tmp_path: Path) -> None:
    seen = models.swapped(tmp_path, swaps=2)

    assert unharmed(seen), seen
    assert seen.answered == seen.requests
