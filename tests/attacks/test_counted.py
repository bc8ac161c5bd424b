"""Nothing is made before it is counted."""

from pathlib import Path

import pytest

from benchmarks.attacks.counted import ATTACKS
from benchmarks.attacks.ground import Attack

from ..support.attacks import named


@pytest.mark.parametrize("attack", named(ATTACKS, slow=["the largest requests, many at once"]))
def test_what_a_request_asks_for_is_counted_before_it_is_made(
    attack: Attack, tmp_path: Path
) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
