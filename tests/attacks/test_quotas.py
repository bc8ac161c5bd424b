"""Quotas hold, whatever protocol, worker or process counts."""

from pathlib import Path

import pytest

from benchmarks.attacks.ground import Attack
from benchmarks.attacks.quotas import ATTACKS


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_key_gets_what_it_may_use_and_no_more(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
