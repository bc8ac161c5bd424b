"""Text tables give rows of numbers with their classes, or texts with what was measured of them."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from attar.errors import InvalidInput, NotFound
from attar.training.data.columns import read_columns, read_texts, table_splits

TABLE = (
    'size,kind,mass,split\n1,oak,0.5,train\n2,"el,m",-1e3,test\n\n3,oak,2,valid\n4,oak,3,TRAIN\n'
)


def write(folder: Path, text: str, name: str = "a.csv") -> Path:
    (folder / name).write_text(text)
    return folder / name


def test_a_table_is_read_by_column_plain_or_compressed(tmp_path: Path) -> None:
    table = read_columns(write(tmp_path, TABLE))
    assert table["kind"] == ("oak", "el,m", "oak", "oak")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(TABLE.encode()))
    assert read_columns(tmp_path / "a.csv.gz") == table
    assert read_columns(write(tmp_path, "a\tb\n1,5\t2\n", "a.tsv")) == {"a": ("1,5",), "b": ("2",)}


def test_rows_of_numbers_keep_the_order_of_the_chosen_columns(tmp_path: Path) -> None:
    path = write(tmp_path, TABLE)
    train, test = table_splits(path, columns=["mass", "size"], label="kind")
    assert test is None
    assert train.items[torch.tensor([1, 0])].tolist() == [[-1000, 2], [0.5, 1]]
    assert train.labels is not None
    assert train.labels.tolist() == ["oak", "el,m", "oak", "oak"]


def test_a_column_parts_the_rows_and_the_others_are_left_out(tmp_path: Path) -> None:
    train, test = table_splits(write(tmp_path, TABLE), label="kind", part="split")
    assert test is not None
    assert train.items[torch.arange(2)].tolist() == [[1, 0.5], [4, 3]]
    assert test.items[torch.arange(1)].tolist() == [[2, -1000]]
    words = "x,is_test\n1,False\n2,True\n3,false\n"
    train, test = table_splits(write(tmp_path, words, "b.csv"), part="is_test")
    assert test is not None
    assert (len(train.items), len(test.items)) == (2, 1)
    with pytest.raises(InvalidInput, match=r"'mass' must say train or test .* got -1e3, 0.5, 2, 3"):
        table_splits(write(tmp_path, TABLE), columns=["size"], part="mass")


def test_a_column_called_label_is_the_label(tmp_path: Path) -> None:
    train, _ = table_splits(write(tmp_path, "label,x\n3,1\n5,2\n"))
    assert train.labels is not None
    assert (train.labels.tolist(), len(train.items)) == ([3, 5], 2)
    assert train.items[torch.arange(2)].shape == (2, 1)


def test_rows_can_be_series(tmp_path: Path) -> None:
    train, _ = table_splits(write(tmp_path, "a,b,c\n1,2,3\n"), form="series")
    assert train.items[torch.arange(1)].tolist() == [[[1, 2, 3]]]


def test_texts_come_with_classes_or_measurements(tmp_path: Path) -> None:
    path = write(tmp_path, TABLE)
    classes = read_texts(path, text="kind", value="size", part="split")
    assert (classes.train, classes.test) == (("oak", "oak"), ("el,m",))
    assert classes.train_values is not None
    assert classes.train_values.tolist() == [1, 4]
    assert classes.train_values.dtype == np.int64
    measured = read_texts(path, text="kind", value="mass").train_values
    assert measured is not None
    assert measured.tolist() == [0.5, -1000, 2, 3]
    assert measured.dtype == np.float64
    named = read_texts(path, text="size", value="kind")
    assert named.train_values is not None
    assert (named.train_values.tolist(), named.test) == ([1, 0, 1, 1], ())


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    for text, says in (
        ("a,b\n1,2\n1\n", r"a.csv, line 3: 1 fields, but the first line names 2 columns"),
        ("a,a\n1,2\n", r"must name its columns, each once.*got \['a', 'a'\] and 1 rows"),
        ("a,b\n", "and have rows after it.*and 0 rows"),
        ('a\n"1', "cannot be read as a table: unexpected end of data"),
        ("a\n1\nx\n", "column 'a' must be finite numbers; row 1 has 'x': choose others"),
        ("a\n1\nnan\n", "row 1 has 'nan'"),
        ("label\n1\n", "has no columns but label; items need at least one"),
    ):
        with pytest.raises(InvalidInput, match=says):
            table_splits(write(tmp_path, text))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match=r"b.csv cannot be read as a table"):
        read_columns(tmp_path / "b.csv")
    with pytest.raises(NotFound, match="has no column 'q'; it has size, kind, mass, split"):
        table_splits(write(tmp_path, TABLE), columns=["q"])
    with pytest.raises(NotFound, match="has no column 'q'"):
        read_texts(tmp_path / "a.csv", text="q")
