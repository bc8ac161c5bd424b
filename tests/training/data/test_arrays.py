"""Arrays of numbers become items of the form that their axes say, from memory or from a file."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from attar.errors import InvalidInput, NotFound, ShapeError
from attar.training.data.arrays import Npz, array_rows
from attar.training.data.npz import npz_splits

ROWS = torch.tensor([1, 0])


def whole(*shape: int) -> NDArray[np.int64]:
    return np.arange(np.prod(shape)).reshape(shape)


def test_axes_and_dtype_say_what_items_are() -> None:
    bytes_ = whole(2, 4, 5, 3).astype(np.uint8)
    last = array_rows("it", bytes_)[ROWS]
    assert torch.equal(last, torch.tensor(bytes_[[1, 0]]).permute(0, 3, 1, 2) / 255)
    first = array_rows("it", bytes_.transpose(0, 3, 1, 2))[ROWS]
    assert torch.equal(first, last)
    grey = array_rows("it", bytes_[..., 0])
    assert (grey.form, tuple(grey[ROWS].shape)) == ("image", (2, 1, 4, 5))
    series = array_rows("it", whole(2, 3, 5))
    assert (series.form, series[ROWS].tolist()) == ("series", whole(2, 3, 5)[[1, 0]].tolist())
    table = array_rows("it", whole(2, 5))
    assert (table.form, table[ROWS].tolist()) == ("table", whole(2, 5)[[1, 0]].tolist())
    assert table[ROWS].dtype == torch.float32


def test_the_form_can_be_chosen() -> None:
    assert array_rows("it", whole(2, 5), form="series")[ROWS].shape == (2, 1, 5)
    assert array_rows("it", whole(2, 5, 5) / 50, form="image")[ROWS].shape == (2, 1, 5, 5)
    with pytest.raises(ShapeError, match=r"it cannot be read as image items; got \(2, 5\)"):
        array_rows("it", whole(2, 5), form="image")


def test_images_are_cut_to_their_centre_and_resized() -> None:
    images = np.zeros((1, 1, 8, 24), np.float32)
    images[..., 8:16] = 0.5
    resized = array_rows("it", images, side=4)[torch.tensor([0])]
    assert resized.shape == (1, 1, 4, 4)
    assert torch.allclose(resized, torch.tensor(0.5))
    with pytest.raises(InvalidInput, match=r"side is the pixels of an image.*got 4 for it, table"):
        array_rows("it", whole(2, 5), side=4)


def test_numbers_that_no_item_may_have_are_refused() -> None:
    with pytest.raises(InvalidInput, match="it has numbers that are missing or infinite"):
        array_rows("it", np.array([[0.0, 1], [np.nan, 0]]))[ROWS]
    with pytest.raises(InvalidInput, match=r"must be uint8, or in \[0, 1\]; got float64 from 0 to"):
        array_rows("it", whole(2, 1, 4, 4) * 1.0)[ROWS]
    for bad in (np.array(["a"]), whole(3), whole(1, 2, 3, 4, 5), whole(3, 0)):
        with pytest.raises(ShapeError, match="it must be numbers with two to four axes"):
            array_rows("it", bad)


# Files


@given(
    shape=st.lists(st.integers(0, 4), min_size=0, max_size=3),
    dtype=st.sampled_from(["<f4", ">i2", "u1", "<U3", "?"]),
    order=st.sampled_from(["C", "F"]),
)
def test_a_mapped_array_is_the_saved_one(
    tmp_path_factory: pytest.TempPathFactory, shape: list[int], dtype: str, order: Literal["C", "F"]
) -> None:
    saved = np.asarray(whole(*shape).astype(dtype), order=order)
    folder = tmp_path_factory.mktemp("npz")
    for save in (np.savez, np.savez_compressed):
        save(folder / "it.npz", other=whole(7), it=saved)
        read = Npz(folder / "it.npz")["it"]
        assert read.dtype == saved.dtype
        np.testing.assert_array_equal(read, saved)


def test_an_uncompressed_array_stays_in_its_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=whole(5, 2), y=whole(5))
    np.savez_compressed(tmp_path / "b.npz", x=whole(5, 2))
    assert isinstance(Npz(tmp_path / "a.npz")["x"], np.memmap)
    assert not isinstance(Npz(tmp_path / "b.npz")["x"], np.memmap)
    train, test = npz_splits(tmp_path / "a.npz")
    assert test is None
    assert train.items[ROWS].tolist() == [[2, 3], [0, 1]]
    assert train.labels is not None
    assert train.labels.tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    "names",
    [
        ("train", "train_labels", "test", "test_labels"),
        ("X_train", "y_train", "X_test", "y_test"),
        ("Leaf_X_train", "Leaf_y_train", "Leaf_X_test", "Leaf_y_test"),
    ],
)
def test_parts_are_found_by_the_names_that_people_use(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    arrays = dict(zip(names, (whole(3, 2), whole(3), whole(4, 2), whole(4)), strict=True))
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]  # numpy's own overload
    member = "Leaf" if names[0].startswith("Leaf") else None
    train, test = npz_splits(tmp_path / "a.npz", member=member)
    assert test is not None
    assert (len(train.items), len(test.items)) == (3, 4)
    assert test.labels is not None
    assert test.labels.tolist() == [0, 1, 2, 3]


def test_one_of_several_sets_must_be_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", Leaf_X_train=whole(3, 2), Oak_X_train=whole(4, 2))
    with pytest.raises(
        NotFound, match=r"holds several sets; there are Leaf, Oak: write a.npz#NAME"
    ):
        npz_splits(tmp_path / "a.npz")
    with pytest.raises(NotFound, match="has no set 'Elm'; there are Leaf, Oak"):
        npz_splits(tmp_path / "a.npz", member="Elm")
    np.savez(tmp_path / "b.npz", x=whole(3, 2))
    with pytest.raises(NotFound, match="has no set 'Elm'; it is one set, and takes none"):
        npz_splits(tmp_path / "b.npz", member="Elm")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_objects_are_never_unpickled(tmp_path: Path, save: object) -> None:
    assert callable(save)
    save(tmp_path / "a.npz", x=np.array([{}, []], object))
    with pytest.raises(InvalidInput, match=r"cannot give its array 'x'.*objects are not read"):
        npz_splits(tmp_path / "a.npz")


def test_a_file_that_is_no_npz_or_holds_no_items_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", q=whole(3))
    with pytest.raises(InvalidInput, match=r"must hold train .*; got q"):
        npz_splits(tmp_path / "a.npz")
    content = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(InvalidInput, match=r"a.npz cannot be read as an .npz file"):
        npz_splits(tmp_path / "a.npz")
