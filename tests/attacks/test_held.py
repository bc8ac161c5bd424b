"""What a caller does not take, say or finish holds nobody else up."""

from pathlib import Path
from typing import Final

import pytest

from benchmarks.attacks.ground import Attack
from benchmarks.attacks.held import ATTACKS

# One of each kind; python -m benchmarks.attacks runs them all.
RUN: Final = (
    "silent streams",
    "silent streams of nine connections",
    "2,000 connections to gRPC without a call",
    "600 connections to gRPC of 400 descriptors",
    "answers not taken",
    "answers over HTTP not taken",
    "calls with half a message",
    "health without a message",
    "64 messages of 16 MB but 1 bytes, eight callers",
)


@pytest.mark.parametrize(
    "attack", [attack for attack in ATTACKS if attack.name in RUN], ids=lambda attack: attack.name
)
def test_what_one_caller_holds_is_bounded_and_ends(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
