"""A graph reads nothing outside its file, and computes no more than that holds."""

from pathlib import Path

import pytest

from benchmarks.attacks.graphs import ATTACKS
from benchmarks.attacks.ground import Attack

HERE = (*ATTACKS[:2], ATTACKS[-1])  # tests/hostile has what the others come to


@pytest.mark.parametrize("attack", HERE, ids=lambda attack: attack.name)
def test_a_hostile_graph_is_refused_before_it_does_anything(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
