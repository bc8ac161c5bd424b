"""Names of heads reach nothing but heads."""

from pathlib import Path

import pytest

from benchmarks.attacks.ground import Attack
from benchmarks.attacks.heads import ATTACKS


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_a_name_of_no_head_is_refused(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
