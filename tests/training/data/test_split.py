"""A source has a test part: the file's own, its last rows, or a fair draw that never changes."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from attar.errors import InvalidInput, ShapeError
from attar.training.data.split import DataSplit, held_out, numbered, source

ITEMS = torch.arange(20.0).view(10, 2)


def part(rows: int = 10, labels: list[object] | None = None, name: str = "it") -> DataSplit:
    return DataSplit(name, ITEMS[:rows], None if labels is None else np.array(labels))


@given(
    labels=st.lists(st.integers(-2, 3), min_size=1, max_size=60),
    share=st.floats(0.05, 0.95),
    seed=st.integers(0, 5),
)
def test_a_draw_takes_its_share_of_every_class(labels: list[int], share: float, seed: int) -> None:
    classes = np.array(labels)
    test = held_out(classes, share=share, seed=seed)
    assert (test == held_out(classes, share=share, seed=seed)).all()
    for label in set(labels):
        size, drawn = int((classes == label).sum()), int(test[classes == label].sum())
        if size == 1:
            assert drawn == 0
        else:
            assert 1 <= drawn < size
            assert abs(drawn - share * size) <= 1


def test_another_seed_draws_other_rows() -> None:
    labels = np.arange(100) % 4
    assert (held_out(labels, seed=0) != held_out(labels, seed=1)).any()
    with pytest.raises(InvalidInput, match=r"share must be in \(0, 1\); got 1"):
        held_out(labels, share=1)


def test_a_labelled_set_without_a_test_part_is_split_and_loses_no_row() -> None:
    made = source(part(labels=["a", "b"] * 5))
    assert made.test is not None
    assert made.train_labels is not None
    assert made.test_labels is not None
    rows = [
        (*item, label)
        for items, labels in ((made.train, made.train_labels), (made.test, made.test_labels))
        for item, label in zip(
            items[torch.arange(len(items))].tolist(), labels.tolist(), strict=True
        )
    ]
    assert sorted(rows) == [(2.0 * i, 2.0 * i + 1, i % 2) for i in range(10)]
    assert len(made.test) == 4  # 1.5 of either class's five, rounded


def test_unlabelled_items_all_train() -> None:
    made = source(part())
    assert (len(made.train), made.test, made.train_labels) == (10, None, None)


def test_the_last_rows_can_be_the_test_part() -> None:
    made = source(part(labels=list(range(10))), test_last=3)
    assert made.test is not None
    assert made.test[torch.tensor([0, 2])].tolist() == [[14.0, 15.0], [18.0, 19.0]]
    assert made.test_labels is not None
    assert made.test_labels.tolist() == [7, 8, 9]
    for bad in (0, 10):
        with pytest.raises(InvalidInput, match=r"test_last must be in \[1, 9\]"):
            source(part(), test_last=bad)


def test_classes_have_one_number_in_both_parts() -> None:
    made = source(part(3, ["cat", "dog", "emu"]), part(2, ["emu", "cat"]))
    assert made.train_labels is not None
    assert made.test_labels is not None
    assert (made.train_labels.tolist(), made.test_labels.tolist()) == ([0, 1, 2], [2, 0])


def test_whole_numbers_are_kept_as_labels_and_fractions_refused() -> None:
    assert numbered("it", np.array([3.0, -1.0])).tolist() == [3, -1]
    assert numbered("it", np.array([True, False])).tolist() == [1, 0]
    with pytest.raises(InvalidInput, match=r"labels of it must be classes.*row 1 has 0.5"):
        numbered("it", np.array([1.0, 0.5]))


def test_parts_that_do_not_agree_are_refused() -> None:
    with pytest.raises(InvalidInput, match="it has no items"):
        source(part(0))
    with pytest.raises(InvalidInput, match=r"one label an item; got labels of shape \(1,\) for 2"):
        source(part(2, ["a"]))
    with pytest.raises(InvalidInput, match="that has none"):
        source(part(2, ["a", "b"]), part(2, name="that"))
    with pytest.raises(InvalidInput, match="that is a test part already"):
        source(part(2), part(2, name="that"), test_last=1)
    with pytest.raises(ShapeError, match=r"it have \(2,\), those of that \(1,\)"):
        source(part(2), DataSplit("that", ITEMS[:, :1]))
