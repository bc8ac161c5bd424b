"""A write goes where it was meant to go, or nowhere."""

from pathlib import Path

import pytest

from benchmarks.attacks.ground import Attack
from benchmarks.attacks.identity import ATTACKS


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_what_is_meant_for_a_collection_never_reaches_another(
    attack: Attack, tmp_path: Path
) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
