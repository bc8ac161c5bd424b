"""What a call asks of collections is counted before it is made, and one caller leaves room."""

from pathlib import Path

import pytest

from benchmarks.attacks.collections import ATTACKS
from benchmarks.attacks.ground import Attack

from ..support.attacks import named


@pytest.mark.parametrize("attack", named(ATTACKS, slow=["searches of callers who left"]))
def test_a_call_of_collections_is_bounded(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
