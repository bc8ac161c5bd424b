"""Changes of a model repository are reported, and models that serve go on serving."""

import logging
import shutil
from pathlib import Path

import pytest

from attar.errors import BundleRefused, InvalidInput, Unavailable
from benchmarks.hostile.repositories import CASES, REFUSED, Case, Refused, cut
from benchmarks.support.repositories import write

from ..support.commands import Attar
from ..support.repositories import served, vector


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the log says of the repository, and not of a model's own runs."""
    own = "attar.server.engine.models"
    return [record.getMessage() for record in caplog.records if record.name == own]


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_a_change_is_reported_in_the_log_and_in_the_index(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "attar")
    folder = tmp_path / "models"
    folder.mkdir()
    case.start(folder)

    async with served(folder) as models:
        case.change(folder)
        for _ in range(3):  # one look more than retires
            await models.refresh()
        index = models.index()

    log = lines(caplog)
    assert tuple(sorted((one.name, one.version, one.state) for one in index)) == tuple(
        sorted(case.index)
    )
    assert not index or case.reason in index[0].reason
    for words in case.log:
        assert any(words in line for line in log), log
    assert bool(log) == bool(case.log)
    assert len(set(log)) == len(log), "a thing is said once, and not at every look"


@pytest.mark.parametrize("case", REFUSED, ids=str)
async def test_what_is_no_repository_is_refused_at_start(case: Refused, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as refusal:
        async with served(case.make(tmp_path)):
            pass

    for text in case.refusal:
        assert text in str(refusal.value)


def test_a_mistyped_repository_is_one_line_and_status_2(attar_: Attar, tmp_path: Path) -> None:
    ran = attar_(
        *("serve", "--model-repository", tmp_path / "modles", "--data-dir", tmp_path / "data"),
        *("--port", 0, "--http-port", 0, "--metrics-port", 0),
    )

    assert ran.status == 2
    assert ran.err.splitlines()[-1].startswith("attar: model_repository ")
    assert "modles is not there; name a folder of bundles" in ran.err


async def test_a_bundle_that_was_cut_goes_on_and_serves_as_before(tmp_path: Path) -> None:
    write(tmp_path / "tiny.attar")
    async with served(tmp_path) as models:
        before = await vector(models)
        cut(tmp_path)
        await models.refresh()

        assert models.ready
        assert (await vector(models) == before).all()
        with pytest.raises(BundleRefused, match=r"fp32.onnx has"):
            await models.load("tiny")


async def test_an_unreadable_repository_is_reported_to_a_caller_who_loads_from_it(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "models"
    write(folder / "tiny.attar")
    async with served(folder) as models:
        shutil.rmtree(folder)
        with pytest.raises(Unavailable, match="the model repository cannot be read"):
            await models.load("tiny")
        assert models.ready


async def test_an_unloaded_model_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "attar")
    write(tmp_path / "tiny.attar")
    async with served(tmp_path) as models:
        await models.unload("tiny")
        await models.load("tiny")

    assert [line.split(",")[0] for line in lines(caplog)] == ["unloaded: tiny", "serving tiny"]
