"""The model repository: what lies on disk is served once it answers, and never half of it."""

import asyncio
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attar.bundle import Bundle
from attar.errors import BundleRefused, InvalidInput, NotFound, NotSupported
from attar.server.engine.bundle_repository import bundle_paths, look, newer
from attar.server.engine.model import Model
from attar.server.engine.models import Models
from attar.server.usecases.embed import embed
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.repositories import write

from ...support.models import make, until
from ...support.repositories import lines, served, vector


def test_bundles_are_found_as_folders_zips_and_versions(tmp_path: Path) -> None:
    write(tmp_path / "a.attar", name="a")
    Bundle.pack(write(tmp_path / ".b", name="b"), tmp_path / "b.zip")
    write(tmp_path / "c" / "1", name="c")
    write(tmp_path / "c" / "2", name="c", version="2")
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.md").write_text("not a bundle")
    (tmp_path / "half.attar").mkdir()
    (tmp_path / "d" / "7").mkdir(parents=True)
    found = [look(path) for path in bundle_paths(tmp_path)]
    assert [
        (one.path.relative_to(tmp_path).as_posix(), one.name, one.version) for one in found
    ] == [
        ("a.attar", "a", "1"),
        ("b.zip", "b", "1"),
        ("c/1", "c", "1"),
        ("c/2", "c", "2"),
        ("d/7", "d", "7"),
        ("half.attar", "half", ""),
    ]
    with pytest.raises(FileNotFoundError):
        bundle_paths(tmp_path / "nowhere")


def test_a_place_s_stamp_changes_when_a_file_does_and_its_content_only_with_the_bundle_s(
    tmp_path: Path,
) -> None:
    path = write(tmp_path / "a.attar")
    before = look(path)
    assert look(path) == before
    (path / "report.json").touch()
    touched = look(path)
    assert touched.stamp != before.stamp
    assert touched.content == before.content
    assert look(write(path, seed=1)).content != before.content


@given(st.lists(st.integers(0, 200), min_size=1, max_size=4))
def test_versions_are_ordered_as_numbers(numbers: list[int]) -> None:
    version = ".".join(map(str, numbers))
    later = ".".join(map(str, [*numbers[:-1], numbers[-1] + 1]))
    assert newer(version) < newer(later)
    assert newer(version) < newer(f"{version}.0")
    assert newer("2") < newer("10")
    assert newer("1-rc") < newer("1.0")


async def test_every_version_is_served_and_a_name_alone_is_its_newest(tmp_path: Path) -> None:
    for version in ("2", "10"):
        write(tmp_path / "tiny" / version, version=version, seed=int(version))
    async with served(tmp_path) as models:
        assert lines(models) == [("tiny", "10", "READY"), ("tiny", "2", "READY")]
        assert models["tiny"].version == "10"
        old, new = await vector(models, version="2"), await vector(models)
        assert not np.allclose(old, new)
        with pytest.raises(NotFound, match="has no version '3'; this server has 2, 10"):
            models.get("tiny", "3")


async def test_a_bundle_named_at_start_must_load_and_one_of_the_folder_need_not(
    tmp_path: Path,
) -> None:
    bad = write(tmp_path / "bad" / "bad.attar", half=True)
    with pytest.raises(BundleRefused, match=r"fp32\.onnx has 100 bytes"):
        async with served(None, bad):
            pass
    async with served(tmp_path / "bad", write(tmp_path / "x.attar", name="good")) as models:
        assert lines(models) == [("good", "1", "READY"), ("tiny", "1", "UNAVAILABLE")]
        assert "has 100 bytes and the manifest says" in models.index()[1].reason
        assert models.ready
    twin = tiny_bundle(tmp_path / "twin.attar")
    with pytest.raises(InvalidInput, match="two bundles are named 'tiny', version 1"):
        async with served(None, twin, tiny_bundle(tmp_path / "other.attar", seed=1)):
            pass


async def test_a_server_without_a_model_is_not_ready(tmp_path: Path) -> None:
    async with served(tmp_path) as models:
        assert not models.ready
        write(tmp_path / "tiny.attar")
        await models.refresh()
        assert models.ready


async def test_a_half_copied_bundle_is_reported_and_served_when_it_is_whole(
    tmp_path: Path,
) -> None:
    whole = write(tmp_path / ".whole")
    path = tmp_path / "tiny.attar"
    async with served(tmp_path) as models:
        path.mkdir()
        await models.refresh()
        assert lines(models) == [("tiny", "", "UNAVAILABLE")]
        for file in sorted(one for one in whole.rglob("*") if one.is_file()):
            target = path / file.relative_to(whole)
            target.parent.mkdir(exist_ok=True)
            content = file.read_bytes()
            target.write_bytes(content[: len(content) // 2])
            await models.refresh()
            assert not models.ready
            target.write_bytes(content)
            await models.refresh()
        assert lines(models) == [("tiny", "1", "READY")]


async def test_a_new_version_takes_over_after_it_has_answered(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.attar")
    seen: list[tuple[str, bool]] = []

    def opened(model: Model) -> Model:
        if len(seen) == 1:  # while the second one loads, the first one serves
            seen.append((models["tiny"].version, models["tiny"].ready))
        else:
            seen.append((model.version, True))
        return model

    async with served(tmp_path, opened=opened) as models:
        before = await vector(models)
        write(path, version="2", seed=1)
        await models.refresh()
        assert seen == [("1", True), ("1", True)]
        assert lines(models) == [("tiny", "2", "READY")]
        assert not np.allclose(before, await vector(models))
        with pytest.raises(NotFound):
            models.get("tiny", "1")


@pytest.mark.parametrize("how", ["damaged", "no answer"])
async def test_a_bad_new_bundle_leaves_the_old_one_serving_and_says_why(
    tmp_path: Path, how: str
) -> None:
    path = write(tmp_path / "tiny.attar")

    def opened(model: Model) -> Model:
        if model.version == "2" and how == "no answer":
            model.encoder = None  # type: ignore[assignment]  # what answers nothing
        return model

    async with served(tmp_path, opened=opened) as models:
        before = await vector(models)
        write(path, version="2", seed=1, half=how == "damaged")
        await models.refresh()
        assert lines(models) == [("tiny", "1", "READY"), ("tiny", "2", "UNAVAILABLE")]
        assert models.index()[1].reason
        assert models.ready
        assert (await vector(models) == before).all()
        write(path, version="3", seed=1)
        await models.refresh()
        assert lines(models) == [("tiny", "3", "READY")]


async def test_no_call_fails_while_models_are_swapped(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.attar")
    spaces: set[str] = set()
    swapping = True

    async def client(models: Models) -> int:
        calls = 0
        while swapping:
            found = await embed(models, items=["the cat", "sun", f"{calls} rain"])
            assert found.good == [0, 1, 2]
            spaces.add(found.model.encoder.fingerprint)
            calls += 1
        return calls

    async with served(tmp_path) as models:
        clients = [asyncio.create_task(client(models)) for _ in range(8)]
        for version in range(2, 8):
            await asyncio.to_thread(write, path, version=str(version), seed=version)
            await models.refresh()
            await until(lambda: models["tiny"].encoder.fingerprint in spaces)
        swapping = False
        assert min(await asyncio.gather(*clients)) > 0
        assert models["tiny"].version == "7"
    assert len(spaces) >= 6


async def test_the_folder_is_watched(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.attar")
    async with served(tmp_path, watch_s=0.02) as models:
        write(tmp_path / "other.attar", name="other")
        await until(lambda: len(models.index()) == 2)
        write(path, version="2")
        await until(lambda: models["tiny"].version == "2")
        shutil.rmtree(path)
        await until(lambda: lines(models) == [("other", "1", "READY")])


async def test_a_bundle_that_is_missing_for_one_look_is_not_gone(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.attar")
    async with served(tmp_path) as models:
        path.rename(tmp_path / ".aside")
        await models.refresh()
        assert models.ready
        (tmp_path / ".aside").rename(path)
        await models.refresh()
        path.rename(tmp_path / ".aside")
        await models.refresh()
        assert lines(models) == [("tiny", "1", "READY")]
        await models.refresh()
        assert lines(models) == []


async def test_what_is_unloaded_stays_so_until_it_is_loaded(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.attar")
    async with served(tmp_path) as models:
        held = models["tiny"]
        call = asyncio.create_task(embed(models, items=["sun"] * 50))
        await asyncio.sleep(0)
        await models.unload("tiny")
        assert (await call).good == list(range(50))  # it was accepted
        assert not held.ready
        assert [(one.state, one.reason) for one in models.index()] == [("UNAVAILABLE", "unloaded")]
        with pytest.raises(NotFound, match="no model 'tiny'; this server has none"):
            models["tiny"]
        write(path, version="2")
        await models.refresh()
        assert not models.ready
        await models.load("tiny")
        assert lines(models) == [("tiny", "2", "READY")]
        await models.load("tiny")  # again is harmless
        with pytest.raises(NotFound, match="no model 'tinny' in the repository; it has tiny"):
            await models.load("tinny")
        with pytest.raises(NotFound):
            await models.unload("tinny")


async def test_loading_a_bad_bundle_says_why(tmp_path: Path) -> None:
    path = write(tmp_path / "tiny.attar")
    async with served(None, path) as models:
        write(path, version="2", half=True)
        with pytest.raises(BundleRefused, match="has 100 bytes"):
            await models.load("tiny")
        assert lines(models) == [("tiny", "1", "READY"), ("tiny", "2", "UNAVAILABLE")]
        write(path, version="2")
        await models.load("tiny")
        assert lines(models) == [("tiny", "2", "READY")]


async def test_a_variant_is_chosen_per_model_and_changed_live(tmp_path: Path) -> None:
    write(tmp_path / "tiny.attar")
    write(tmp_path / "other.attar", name="other")
    async with served(tmp_path, tiny="int8") as models:
        assert models["tiny"].encoder.variant.name == "int8"
        assert models["other"].encoder.variant.name == "fp32"
        await models.set_variant("tiny", "fp32")
        assert models["tiny"].encoder.variant.name == "fp32"
        with pytest.raises(NotFound, match="it has fp32, int8"):
            await models.set_variant("tiny", "int4")
        assert lines(models) == [("other", "1", "READY"), ("tiny", "1", "READY")]
        assert [one.reason for one in models.index()] == ["", ""]
        write(tmp_path / "tiny.attar", version="2")
        await models.refresh()
        assert models["tiny"].encoder.variant.name == "fp32"  # the choice outlives the version


async def test_models_that_came_from_no_repository_cannot_be_loaded_again(tmp_path: Path) -> None:
    models = Models([make(write(tmp_path / "tiny.attar"))])
    with pytest.raises(NotSupported, match="from no repository"):
        await models.load("tiny")
