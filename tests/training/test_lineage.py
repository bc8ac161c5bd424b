"""A digest is of names and bytes alone, and a lineage names each fact that differs."""

import os
from pathlib import Path

import pytest

from attar.errors import InvalidInput
from attar.training import digest
from attar.training.lineage import refuse_other


def folder(root: Path, **files: str) -> Path:
    for name, content in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def test_a_folder_has_one_digest_wherever_and_whenever_it_was_written(tmp_path: Path) -> None:
    first = folder(tmp_path / "first", a="1", b__c="2")
    second = folder(tmp_path / "second", b__c="2", a="1")
    os.utime(second / "a", (0, 0))
    (second / ".DS_Store").write_text("hidden")
    (second / "empty").mkdir()
    assert digest.of_path(first) == digest.of_path(second)


@pytest.mark.parametrize(
    "files",
    [{"a": "1"}, {"a": "2", "b": "1"}, {"a": "1", "c": "2"}, {"a": "12", "b": ""}, {"a__b": "12"}],
    ids=["less", "swapped", "renamed", "moved over", "folded"],
)
def test_another_folder_has_another_digest(tmp_path: Path, files: dict[str, str]) -> None:
    one = folder(tmp_path / "one", a="1", b="2")
    assert digest.of_path(folder(tmp_path / "other", **files)) != digest.of_path(one)


def test_links_are_followed_once_and_a_run_in_its_data_is_left_out(tmp_path: Path) -> None:
    data = folder(tmp_path / "data", x="1", sub__y="2")
    before = digest.of_path(data, without=data / "run")
    folder(data, run__checkpoint="3")
    assert digest.of_path(data, without=data / "run") == before
    (data / "run" / "checkpoint").unlink()
    (data / "run").rmdir()
    (data / "sub" / "back").symlink_to(data)  # a circle ends
    assert digest.of_path(data) == before
    folder(tmp_path / "outside", z="4")
    (data / "more").symlink_to(tmp_path / "outside")
    linked = digest.of_path(data)
    assert linked != before
    folder(tmp_path / "outside", z="5")
    assert digest.of_path(data) != linked


def test_a_digest_depends_on_where_texts_end() -> None:
    assert digest.of_texts(["ab", "c"]) != digest.of_texts(["a", "bc"])
    assert digest.of_texts(["\ud800"]) != digest.of_texts(["?"])


THEN = {
    "recipe": "image/byol",
    "data": {"name": "a.csv", "sha256": "1" * 64},
    "settings": {"rate": 0.1, "shape": {"dim": 4, "sides": (1, 2)}},
    "init": None,
}


@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"data": {"name": "b.csv", "sha256": "1" * 64}}, None),
        ({"settings": {"shape": {"sides": [1, 2], "dim": 4}, "rate": 0.1}}, None),
        (
            {"data": {"name": "a.csv", "sha256": "2" * 64}},
            "data was a.csv (sha256 111111111111) and is a.csv (sha256 222222222222); ",
        ),
        ({"data": "digits"}, 'data was a.csv (sha256 111111111111) and is "digits"; '),
        (
            {"settings": {"rate": 0.1, "shape": {"dim": 5, "sides": (1, 2)}}},
            "settings.shape.dim was 4 and is 5; ",
        ),
        ({"settings": {"rate": 0.1}}, "settings.shape was "),
        ({"init": {"name": "x", "sha256": "3"}}, "init was not said and is x (sha256 3); "),
        ({"stage": "second"}, 'stage was not said and is "second"; '),
        (
            {"recipe": "image/simclr", "settings": {}},
            'another run: recipe was "image/byol" and is ',
        ),
    ],
)
def test_what_differs_is_named_with_both_values_and_what_is_alike_is_not(
    change: dict[str, object], difference: str | None
) -> None:
    now = {**THEN, **change}
    if difference is None:
        refuse_other(Path("run"), THEN, now)
        return
    with pytest.raises(InvalidInput) as refused:
        refuse_other(Path("run"), THEN, now)
    message = str(refused.value)
    assert message.startswith("run is of another run: ")
    assert difference in message
    assert message.endswith("start again with restart=True (--restart), or in another folder")
    assert "settings.rate" not in message
