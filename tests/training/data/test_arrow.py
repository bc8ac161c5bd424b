"""Parquet files and saved data sets are read by rows, a group at a time."""

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from pyarrow import parquet

from attar.errors import InvalidInput, MissingExtra, NotFound, ShapeError
from attar.training.data.huggingface import dataset_part, dataset_splits
from attar.training.data.parquet import parquet_part
from attar.training.reading import read


def png(value: int, side: int = 3) -> bytes:
    file = io.BytesIO()
    Image.new("L", (side, side), value).save(file, "png")
    return file.getvalue()


def write(path: Path, *, group: int = 3, **columns: Any) -> Path:
    parquet.write_table(pa.table(columns), path, row_group_size=group)
    return path


def test_any_rows_in_any_order_come_from_their_groups(tmp_path: Path) -> None:
    x = np.arange(20.0)
    paths = [
        write(tmp_path / "a.parquet", x=x[:11], z=-x[:11], label=list("ab" * 5 + "c")),
        write(tmp_path / "b.parquet", x=x[11:], z=-x[11:], label=["c"] * 9),
    ]
    part = parquet_part(paths)
    rows = torch.randint(0, 20, (50,), generator=torch.Generator().manual_seed(0))
    assert torch.equal(part.items[rows], torch.stack([rows, -rows], 1).float())
    assert len(part.items) == 20
    assert part.labels is not None
    assert part.labels.tolist() == [*("ab" * 5), *("c" * 10)]


def test_only_the_requested_groups_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", group=5, x=np.random.default_rng(0).random(15))
    with parquet.ParquetFile(path) as file:
        chunk = file.metadata.row_group(1).column(0)
        start = chunk.dictionary_page_offset or chunk.data_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(content)
    part = parquet_part([path])
    assert part.items[torch.tensor([14, 0, 4])].shape == (3, 1)
    with pytest.raises(InvalidInput, match=r"a.parquet, row group 1 cannot be read"):
        part.items[torch.tensor([5])]


def test_columns_of_lists_and_of_lists_of_lists_are_items(tmp_path: Path) -> None:
    flat = write(tmp_path / "a.parquet", x=[[1.0, 2], [3, 4], [5, 6]], id=[7, 8, 9])
    part = parquet_part([flat])
    assert part.items[torch.tensor([2, 0])].tolist() == [[5, 6], [1, 2]]
    assert parquet_part([flat], form="series").items[torch.tensor([1])].tolist() == [[[3, 4]]]
    fixed = pa.array([[1.0, 2], [3, 4]], pa.list_(pa.float32(), 2))
    assert parquet_part([write(tmp_path / "b.parquet", x=fixed)]).items[
        torch.tensor([1])
    ].tolist() == [[3, 4]]
    deep = write(tmp_path / "c.parquet", x=[[[1.0, 2, 3], [4, 5, 6]], [[7, 8, 9], [0, 1, 2]]])
    assert parquet_part([deep]).items[torch.tensor([1])].tolist() == [[[7, 8, 9], [0, 1, 2]]]


@pytest.mark.parametrize("wrap", [lambda b: b, lambda b: {"bytes": b, "path": None}])
def test_columns_of_encoded_images_are_items(tmp_path: Path, wrap: Any) -> None:
    path = write(tmp_path / "a.parquet", image=[wrap(png(51 * i)) for i in range(5)], label=[0] * 5)
    images = parquet_part([path], side=2).items[torch.tensor([4, 1])]
    assert images.shape == (2, 1, 2, 2)
    assert torch.allclose(images[:, 0, 0, 0], torch.tensor([0.8, 0.2]))
    with pytest.raises(InvalidInput, match="holds encoded images, not table items"):
        parquet_part([path], form="table")


def test_what_a_file_does_not_offer_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", x=[[1.0], [2, 3]], y=["a", "b"], z=[1.0, None])
    with pytest.raises(NotFound, match="has no column 'q'; it has x, y, z"):
        parquet_part([path], columns=["q"])
    for columns in (["y"], ["x", "z"]):
        with pytest.raises(InvalidInput, match=r"choose them with columns, from x \(list<"):
            parquet_part([path], columns=columns)
    with pytest.raises(ShapeError, match=r"lists of .*a.parquet must be equally long; got 1, 2"):
        parquet_part([path]).items[torch.arange(2)]
    with pytest.raises(ShapeError, match=r"must have one shape; got \(2,\) and, in the first row"):
        parquet_part([path]).items[torch.tensor([1])]
    with pytest.raises(InvalidInput, match="has numbers that are missing"):
        parquet_part([path], columns=["z"]).items[torch.arange(2)]
    with pytest.raises(InvalidInput, match=r"1 labels are missing"):
        parquet_part([path], columns=["x"], label="z")
    other = write(tmp_path / "b.parquet", x=[[1.0]])
    with pytest.raises(InvalidInput, match=r"b.parquet has other columns than .*a.parquet"):
        parquet_part([path, other])
    other.write_bytes(b"PAR1 no more")
    with pytest.raises(InvalidInput, match=r"b.parquet cannot be read as a Parquet file"):
        parquet_part([other])


def test_a_saved_data_set_gives_its_parts(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict({"x": np.arange(12.0), "label": ["a", "b"] * 6})
    made.save_to_disk(str(tmp_path / "one"))
    part, test = dataset_splits(tmp_path / "one")
    assert (len(part.items), test) == (12, None)
    halves = datasets.DatasetDict(train=made.select(range(8)), validation=made.select(range(8, 12)))
    halves.save_to_disk(str(tmp_path / "two"))
    train, test = dataset_splits(tmp_path / "two")
    assert test is not None
    assert train.items[torch.tensor([7, 0])].tolist() == [[7], [0]]
    assert test.items[torch.tensor([1])].tolist() == [[9]]
    assert test.labels is not None
    assert test.labels.tolist() == ["a", "b", "a", "b"]
    (tmp_path / "two/dataset_dict.json").write_text('{"splits": []}')
    with pytest.raises(InvalidInput, match="must have a part called train"):
        dataset_splits(tmp_path / "two")


def test_a_selected_and_shuffled_data_set_keeps_its_order() -> None:
    datasets = pytest.importorskip("datasets")
    made = datasets.Dataset.from_dict(
        {"image": [{"bytes": png(51 * i), "path": None} for i in range(5)], "label": range(5)},
        features=datasets.Features(
            {"image": datasets.Image(), "label": datasets.ClassLabel(names=list("abcde"))}
        ),
    )
    part = dataset_part(made.select([3, 0, 4]))
    assert part.labels is not None
    assert part.labels.tolist() == [3, 0, 4]
    assert torch.allclose(part.items[torch.arange(3)][:, 0, 0, 0], torch.tensor([0.6, 0, 0.8]))
    with pytest.raises(InvalidInput, match="the data set has no rows"):
        dataset_part(made.select([]))


def test_without_the_extra_the_message_is_the_line_that_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "a.parquet", x=[1.0])
    (tmp_path / "saved").mkdir()
    (tmp_path / "saved/dataset_info.json").touch()
    for name in ("pyarrow", "datasets"):
        monkeypatch.setitem(sys.modules, name, None)
    for name in ("arrow", "huggingface", "parquet"):  # which import them
        monkeypatch.delitem(sys.modules, f"attar.training.data.{name}", raising=False)
    for path in (tmp_path / "a.parquet", tmp_path / "saved"):
        with pytest.raises(MissingExtra, match=r"pip install 'attar\[data\]'"):
            read(str(path))
