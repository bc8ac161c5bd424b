"""`attar sweep`: runs of one recipe, ranked by RankMe, of which the best is kept."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from attar.errors import InvalidInput
from attar.training import load_checkpoint, sweep
from attar.training.sweeping import BEST, SWEEP

from ..support.commands import Attar

NAME = "table/t_jepa"


@pytest.fixture
def table(tmp_path: Path) -> str:
    """Write two dozen rows; give the file."""
    path = tmp_path / "rows.csv"
    rows = np.random.default_rng(0).normal(size=(24, 3))
    np.savetxt(path, rows, delimiter=",", header="a,b,c", comments="")
    return str(path)


def test_the_run_with_the_highest_rankme_is_kept_and_exports(
    attar_: Attar, table: str, tmp_path: Path
) -> None:
    out = tmp_path / "sweep"
    ran = attar_(
        *("sweep", NAME, "--data", table, "--steps", 3, "--vary", "rate=1e-4,3e-2", "--out", out)
    )

    assert ran.status == 0, ran.err
    rows = json.loads((out / SWEEP).read_text("utf-8"))["rows"]
    assert [row["rankme"] for row in rows] == sorted((row["rankme"] for row in rows), reverse=True)
    assert {row["settings"]["rate"] for row in rows} == {"1e-4", "3e-2"}
    assert all(row["settings"]["rate"] in ran.out for row in rows)
    kept, first = (load_checkpoint(out / name).encoder for name in (BEST, rows[0]["folder"]))
    for name, weights in kept.state_dict().items():
        assert torch.equal(weights, first.state_dict()[name])
    exported = attar_("export", out / BEST, tmp_path / "best.attar", "--data", table)
    assert exported.status == 0, exported.err


def test_a_sweep_given_again_takes_up_its_runs(table: str, tmp_path: Path) -> None:
    def run(steps: int) -> bytes:
        sweep(NAME, tmp_path / "x", vary=["rate=1e-3,1e-2"], data=table, steps=steps)
        return (tmp_path / "x" / SWEEP).read_bytes()

    first = run(2)
    assert run(2) == first
    assert run(3) != first


def test_a_run_that_diverges_is_a_row_and_does_not_end_the_sweep(
    table: str, tmp_path: Path
) -> None:
    sweep(NAME, tmp_path / "x", vary=["rate=1e-3,1e30"], data=table, steps=3)
    last = json.loads((tmp_path / "x" / SWEEP).read_text("utf-8"))["rows"][-1]
    assert last["settings"] == {"rate": "1e30"}
    assert "finite" in last["failure"]

    with pytest.raises(InvalidInput, match="every run of the sweep failed"):
        sweep(NAME, tmp_path / "y", vary=["rate=1e30,1e31"], data=table, steps=3)


def test_a_sweep_under_torchrun_is_refused(
    table: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(InvalidInput, match="start it without torchrun"):
        sweep(NAME, tmp_path / "x", vary=["rate=1e-3,1e-2"], data=table)
    assert not (tmp_path / "x").exists()
