"""Attacks as the parameters of a test."""

from collections.abc import Collection, Sequence
from typing import Any

import pytest

from benchmarks.attacks.ground import Attack


def named(attacks: Sequence[Attack], *, slow: Collection[str] = ()) -> list[Any]:
    """Give each attack as a parameter of its name; those of the names in `slow` are marked so."""
    assert {*slow} <= {attack.name for attack in attacks}
    return [
        pytest.param(attack, id=attack.name, marks=[pytest.mark.slow] * (attack.name in slow))
        for attack in attacks
    ]
