"""A browser is not a caller."""

from pathlib import Path

import pytest

from benchmarks.attacks.browser import ATTACKS, foreign_page, plain_form, rebound_name
from benchmarks.attacks.ground import Attack

IN_HOSTILE = (foreign_page, rebound_name, plain_form)
"""benchmarks/hostile/http.py has these as rows of one server, PAGES, and kserve.py the types."""


@pytest.mark.parametrize(
    "attack",
    [attack for attack in ATTACKS if attack.run not in IN_HOSTILE],
    ids=lambda attack: attack.name,
)
def test_a_page_of_another_site_neither_reads_nor_changes(attack: Attack, tmp_path: Path) -> None:
    outcome = attack.run(tmp_path)

    assert outcome.held, outcome.note
