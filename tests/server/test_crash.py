"""The promise that matters most to a caller who stores data: acknowledged means stored."""

from pathlib import Path

import pytest

from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.crashes import rounds


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_server_killed_in_the_middle_of_upserts_loses_nothing_acknowledged(
    tmp_path: Path,
) -> None:
    """Over four kills at random moments nothing is lost, and nothing half-written is served.

    `python -m benchmarks.faults --full` kills a hundred times.
    """
    bundle = tiny_bundle(tmp_path / "tiny.attar")
    seen = list(rounds(bundle, tmp_path, count=4, seed=0))
    assert sum(one.acknowledged for one in seen) > 13
    assert [(one.lost, one.torn, one.partial) for one in seen] == [(0, 0, 0)] * 4
