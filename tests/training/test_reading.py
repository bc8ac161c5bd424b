"""One front door reads every kind of data, and says what it cannot do with the rest."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from attar.errors import InvalidInput, NotFound
from attar.training.data.source import Rows, Source
from attar.training.reading import read

from ..support.recordings import CLIPS, META, pack, save, tone

LABELS = [0, 1] * 5
X = np.random.default_rng(0).random((10, 3)).astype(np.float32)


def images(folder: Path) -> None:
    for row, label in enumerate(LABELS):
        path = folder / "ab"[label] / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (4, 4), row).save(path)


def recordings(folder: Path) -> None:
    for row, label in enumerate(LABELS):
        save(folder / "ab"[label] / f"{row}.wav", tone(8000, 10))


def npz(path: Path) -> None:
    np.savez(path, x=X, y=LABELS)


def csv(path: Path) -> None:
    rows = [f"{','.join(map(str, row))},{label}" for row, label in zip(X, LABELS, strict=True)]
    path.write_text("\n".join(["a,b,c,label", *rows]))


def table(path: Path) -> None:
    parquet.write_table(pa.table({"a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "label": LABELS}), path)


def saved(folder: Path) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"x": X, "label": LABELS}).save_to_disk(str(folder))


KINDS = {
    "images": images,
    "recordings": recordings,
    "it.npz": npz,
    "it.csv": csv,
    "it.parquet": table,
    "saved": saved,
}


def everything(items: Rows | None) -> torch.Tensor:
    assert items is not None
    return items[torch.arange(len(items))]


def check(made: Source, train: int, test: int) -> None:
    assert made.train_labels is not None
    assert made.test_labels is not None
    assert len(everything(made.train)) == len(made.train_labels) == train
    assert len(everything(made.test)) == len(made.test_labels) == test
    assert everything(made.train).shape[1:] == everything(made.test).shape[1:]
    assert everything(made.train).dtype == torch.float32
    assert made.train_labels.dtype == np.int64


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_read_and_three_in_ten_are_held_out(tmp_path: Path, kind: str) -> None:
    KINDS[kind](tmp_path / kind)
    made = read(str(tmp_path / kind))
    check(made, 6, 4)
    assert made.train_labels is not None
    assert np.bincount(made.train_labels).tolist() == [3, 3]
    again = read(str(tmp_path / kind))
    assert torch.equal(everything(made.train), everything(again.train))


@pytest.mark.parametrize("kind", KINDS)
def test_train_and_test_in_one_folder_are_the_parts(tmp_path: Path, kind: str) -> None:
    suffix = Path(kind).suffix
    KINDS[kind](tmp_path / f"train{suffix}")
    KINDS[kind](tmp_path / f"test{suffix}")
    check(read(str(tmp_path)), 10, 10)


def test_files_of_parquet_in_a_folder_are_one_set(tmp_path: Path) -> None:
    for shard in range(2):
        table(tmp_path / f"part-{shard}.parquet")
    made = read(str(tmp_path), columns=["b"], test_last=5)
    check(made, 15, 5)
    assert torch.equal(everything(made.train)[:10, 0], torch.tensor(X[:, 1]))


@pytest.mark.parametrize(
    ("name", "train", "test", "shape"),
    [
        ("digits", 1257, 540, (1, 8, 8)),
        ("breast_cancer", 398, 171, (30,)),
        ("wine", 125, 53, (13,)),
    ],
)
def test_what_scikit_learn_ships_is_known_by_name(
    name: str, train: int, test: int, shape: tuple[int, ...]
) -> None:
    made = read(name)
    check(made, train, test)
    assert everything(made.train).shape[1:] == shape


def test_choices_reach_the_reader(tmp_path: Path) -> None:
    images(tmp_path / "images")
    assert everything(read(str(tmp_path / "images"), side=2).train).shape == (6, 1, 2, 2)
    recordings(tmp_path / "wavs")
    clips = everything(read(str(tmp_path / "wavs"), rate=4000, length=7).train)
    assert clips.shape == (6, 1, 7)
    np.savez(tmp_path / "a.npz", Oak_x_train=X, Oak_x_test=X[:2], Elm_x_train=X)
    oak = read(f"{tmp_path}/a.npz#Oak", form="series")
    assert everything(oak.train).shape == (10, 1, 3)
    assert everything(oak.test).shape == (2, 1, 3)
    (tmp_path / "digits").mkdir()
    pack(tmp_path / "digits", CLIPS, **META)
    assert everything(read(str(tmp_path / "digits"), length=2).train).shape == (3, 1, 2)


def test_a_choice_that_does_not_apply_is_refused(tmp_path: Path) -> None:
    npz(tmp_path / "a.npz")
    with pytest.raises(InvalidInput, match=r"rate is 8000, but .*a.npz is an .npz file, which"):
        read(f"{tmp_path}/a.npz", rate=8000)
    with pytest.raises(InvalidInput, match=r"side is 8, but digits is shipped, which takes no"):
        read("digits", side=8)
    images(tmp_path / "images")
    with pytest.raises(InvalidInput, match=r"label is 'a', but .*images is a folder of images"):
        read(f"{tmp_path}/images", label="a")
    csv(tmp_path / "a.csv")
    with pytest.raises(InvalidInput, match=r"#b chooses a set of an .npz file"):
        read(f"{tmp_path}/a.csv#b")


def test_what_is_not_there_or_not_readable_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"no file or folder nowhere; .* digits, breast"):
        read("nowhere")
    with pytest.raises(InvalidInput, match="holds nothing to read: images"):
        read(str(tmp_path))
    (tmp_path / "a.pkl").touch()
    with pytest.raises(InvalidInput, match=r"a.pkl is none of .npz, .parquet, .tar, .csv"):
        read(f"{tmp_path}/a.pkl")
    np.savez(tmp_path / "train.npz", x_train=X, x_test=X)
    with pytest.raises(InvalidInput, match=r"train.npz is one part of a set, but has parts itself"):
        read(str(tmp_path))
