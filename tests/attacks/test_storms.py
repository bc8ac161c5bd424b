"""Requests without number leave nothing behind, and hold nobody else up."""

from pathlib import Path

import pytest

from benchmarks.attacks.ground import Attack
from benchmarks.attacks.storms import ATTACKS


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_storm_ends_and_leaves_nothing(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
