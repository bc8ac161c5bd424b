"""A search by another model is answered in the right space, or refused."""

from pathlib import Path

import pytest

from benchmarks.attacks.asymmetric import ATTACKS
from benchmarks.attacks.ground import Attack

from ..support.attacks import named


@pytest.mark.parametrize(
    "attack", named(ATTACKS, slow=["2,048 searches by another model in one call"])
)
def test_a_search_by_another_model_is_right_or_refused(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
