"""A request that two readers may divide differently is refused, and its connection ends."""

from pathlib import Path

import pytest

from benchmarks.attacks.framing import ATTACKS
from benchmarks.attacks.ground import Attack


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_no_request_is_divided_in_two_ways(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
