"""What stands at a limit is answered, and what goes one beyond is refused by the limit's name."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from attar.server.settings import Settings
from attar.v1 import info_pb2
from benchmarks.hostile.limits import ELSEWHERE, MAX_LENGTH, ROWS, VALUES, Row, World, world

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("limits")) as found:
        yield found


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_limit_is_met_and_not_passed(row: Row, served: World) -> None:
    assert row.send(served, row.at) == ""

    refusal = row.send(served, row.beyond)
    assert row.refusal in refusal, refusal
    assert str(VALUES.get(row.limit, MAX_LENGTH)) in refusal


def test_every_limit_that_info_tells_has_a_row_or_a_test_elsewhere() -> None:
    names = {field.name for field in info_pb2.Limits.DESCRIPTOR.fields}
    rows = {row.limit for row in ROWS} - {"max_length"}  # which ModelInfo tells

    assert rows | ELSEWHERE.keys() == names
    assert not rows & ELSEWHERE.keys()


def test_the_page_has_a_row_for_every_limit_with_its_default() -> None:
    page = (TESTS.parent / "docs" / "operating.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(max_\w+)` \| ([\d,]+) \| .+ \|$", page, re.MULTILINE))
    defaults = {
        field.name: f"{Settings.model_fields[field.name].default:,}"
        for field in info_pb2.Limits.DESCRIPTOR.fields
    }

    assert rows == defaults


@pytest.mark.parametrize("where", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_test_elsewhere_is_there(where: str) -> None:
    file, _, test = where.partition(":")

    assert re.search(rf"^(async )?def {test}\(", (TESTS / file).read_text("utf-8"), re.MULTILINE)
