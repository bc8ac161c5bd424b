"""A bundle is hostile until it was tried, where it can do no harm."""

from pathlib import Path

import pytest

from benchmarks.attacks.bundles import ATTACKS
from benchmarks.attacks.ground import Attack

from ..support.attacks import named


@pytest.mark.parametrize("attack", named(ATTACKS, slow=["zip bombs, pipes and crowds"]))
def test_a_hostile_bundle_harms_nobody_else(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
