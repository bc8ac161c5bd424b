"""A run into a folder that holds one is this run taken up, or refused; no lineage is another's."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from attar.cli.main import main
from attar.training.encoders import saved

from ..commands import Attar
from .runs import DISTILLING, PRETRAINING, RUN, Case, distilling, ground, pretraining


def contents(folder: Path) -> dict[str, str]:
    """Give the digest of every file."""
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def first(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give the folders of the first runs, to be copied."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        for name, words in (("pretrain", pretraining), ("distill", distilling)):
            patch.setattr("sys.argv", ["attar", *map(str, words(data, folder / name))])
            with pytest.raises(SystemExit) as leaving:
                main()
            assert leaving.value.code in (0, None)
    return {name: folder / name for name in ("pretrain", "distill")}


def held(attar_: Attar, case: Case, words: tuple[object, ...], run: Path, data: Path) -> None:
    """Make the second run, and hold it to what its row says."""
    before = saved.lineage_of(run)
    weights = (run / saved.WEIGHTS).read_bytes()
    case.change(run)
    files = contents(run)

    ran = attar_(*words, *(option.format(ground=data) for option in case.options))

    if case.outcome == "refused":
        assert (ran.status, ran.err.count("\n")) == (2, 1), ran.err
        assert [word for word in case.words if word not in ran.err] == [], ran.err
        assert contents(run) == files
        return
    assert ran.status == 0, ran.err
    lineage = saved.load(run).lineage  # which holds the weights to it
    stretches = lineage["stretches"]
    assert isinstance(stretches, list)
    same = (run / saved.WEIGHTS).read_bytes() == weights
    assert (len(stretches), same) == {
        "complete": (1, True),
        "continued": (2, False),
        "anew": (1, False),
    }[case.outcome]
    if case.outcome == "complete":
        assert lineage == before
    logged = [json.loads(row)["step"] for row in (run / "metrics.jsonl").read_text().splitlines()]
    assert logged[-1] == lineage["steps"] == stretches[-1]["steps"]
    assert len(list(run.glob("events*"))) == (1 if case.outcome == "anew" else 2)


@pytest.mark.parametrize("case", PRETRAINING, ids=str)
def test_pretraining_into_a_run_is_that_run_or_refused(
    attar_: Attar, case: Case, data: Path, first: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(first["pretrain"], tmp_path / RUN)
    held(attar_, case, pretraining(data, run), run, data)


@pytest.mark.parametrize("case", DISTILLING, ids=str)
def test_distilling_into_a_run_is_that_run_or_refused(
    attar_: Attar, case: Case, data: Path, first: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(first["distill"], tmp_path / RUN)
    held(attar_, case, distilling(data, run), run, data)
