"""A run into a folder that holds one is this run taken up, or refused; no lineage is another's."""

import json
import shutil
from hashlib import sha256
from pathlib import Path

import pytest

from attar.cli.main import main
from attar.training.checkpoints import encoder_folder
from benchmarks.hostile.runs import CASES, FIRST, RUN, Case, ground

from ..support.commands import Attar


def contents(folder: Path) -> dict[str, str]:
    """Give the digest of every file."""
    files = [folder] if folder.is_file() else sorted(p for p in folder.rglob("*") if p.is_file())
    return {str(path): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ground(tmp_path_factory.mktemp("ground"))


@pytest.fixture(scope="module")
def firsts(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Give the folders of the first runs, to be copied."""
    folder = tmp_path_factory.mktemp("first")
    folders = {name: folder / name for name in FIRST} | {"within": data / "within" / RUN}
    with pytest.MonkeyPatch.context() as patch:
        for name, words in FIRST.items():
            patch.setattr("sys.argv", ["attar", *map(str, words(data, folders[name]))])
            with pytest.raises(SystemExit) as leaving:
                main()
            assert leaving.value.code in (0, None)
    return folders


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_run_into_a_folder_with_one_is_that_run_or_refused(
    attar_: Attar, case: Case, data: Path, firsts: dict[str, Path], tmp_path: Path
) -> None:
    """Make the second run, and hold it to what its row says."""
    if case.first == "within":
        shutil.copytree(data / "within", tmp_path / "within")
        data, run = tmp_path, tmp_path / "within" / RUN
    else:
        run = shutil.copytree(firsts[case.first], tmp_path / RUN)
    words = FIRST[case.first](data, run)
    before = encoder_folder.lineage_of(run)
    weights = (run / encoder_folder.WEIGHTS).read_bytes()
    case.change(run)
    files = contents(run)

    ran = attar_(*words, *(option.format(ground=data) for option in case.options))

    if case.outcome == "refused":
        assert (ran.status, ran.err.count("\n")) == (2, 1), ran.err
        assert [word for word in case.refusal if word not in ran.err] == [], ran.err
        assert contents(run) == files
        return
    assert ran.status == 0, ran.err
    lineage = encoder_folder.load(run).lineage  # which holds the weights to it
    stretches = lineage["stretches"]
    assert isinstance(stretches, list)
    same = (run / encoder_folder.WEIGHTS).read_bytes() == weights
    assert (len(stretches), same) == {
        "complete": (1, True),
        "continued": (2, False),
        "anew": (1, False),
    }[case.outcome]
    if case.outcome == "complete":
        assert lineage == before
    last = run / "student" if case.first == "stages" else run  # of its three runs
    logged = [json.loads(row)["step"] for row in (last / "metrics.jsonl").read_text().splitlines()]
    assert logged[-1] == lineage["steps"] == stretches[-1]["steps"]
    assert len(list(last.glob("events*"))) == (1 if case.outcome == "anew" else 2)


def test_a_teacher_with_the_same_weights_pooled_otherwise_is_another(
    attar_: Attar, data: Path, firsts: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(firsts["distill"], tmp_path / RUN)
    command, _, *others = FIRST["distill"](data, run)
    ran = attar_(command, data / "pooled", *others)
    assert ran.status == 2
    assert "teacher was teacher (sha256 " in ran.err
    assert " and is pooled (sha256 " in ran.err


def test_a_plain_run_does_not_replace_the_encoder_of_several(
    attar_: Attar, data: Path, firsts: dict[str, Path], tmp_path: Path
) -> None:
    run = shutil.copytree(firsts["stages"], tmp_path / RUN)
    before = contents(run)
    ran = attar_(*FIRST["pretrain"](data, run))
    assert ran.status == 2
    assert 'recipe was "image/further_pretraining" and is "table/t_jepa"' in ran.err
    assert contents(run) == before
