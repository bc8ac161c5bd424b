"""A student starts where its teacher is: the whole of it where there is room, or its best part."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from attar.errors import InvalidInput
from attar.training.encoders.text import TextConfig, TextEncoder
from attar.training.probes.text_retrieval import embed
from attar.training.student_init import chosen_layers, student_from_teacher
from benchmarks.support.encoders import random_rows, tiny_encoder, tiny_shape

SAMPLE = random_rows(32)
TEACHER = tiny_shape(depth=3)


def student(
    shape: TextConfig, *, layers: tuple[int, ...] = (0, 1, 2), teacher: TextEncoder | None = None
) -> TextEncoder:
    return student_from_teacher(
        teacher or tiny_encoder(TEACHER), shape, layers=layers, sample=SAMPLE
    ).eval()


def tables(encoder: TextEncoder) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Give every token's vector before positions are added."""
    with torch.no_grad():
        vectors: np.ndarray[Any, np.dtype[np.float32]] = encoder.tokens.expand(
            encoder.tokens.table.weight
        ).numpy()
    return vectors


@pytest.mark.parametrize("rank", [None, 16])
@pytest.mark.parametrize("teacher", [TEACHER, replace(TEACHER, dim=6), replace(TEACHER, rank=5)])
def test_a_student_with_room_for_all_of_its_teacher_is_its_teacher(
    teacher: TextConfig, rank: int | None
) -> None:
    large = tiny_encoder(teacher)
    small = student(replace(teacher, rank=rank), teacher=large)
    rows = random_rows(40, length=(0, 14), seed=1)
    np.testing.assert_allclose(embed(small, rows), embed(large, rows), rtol=0, atol=1e-5)


@pytest.mark.parametrize("rank", [1, 3, 9])
def test_a_factorised_table_is_the_nearest_of_its_rank(rank: int) -> None:
    teacher = tiny_encoder(TEACHER)
    u, s, vt = np.linalg.svd(tables(teacher), full_matrices=False)
    nearest = (u[:, :rank] * s[:rank]) @ vt[:rank]
    np.testing.assert_allclose(
        tables(student(replace(TEACHER, rank=rank), teacher=teacher)), nearest, atol=1e-5
    )


def test_blocks_are_copied_in_the_order_they_are_named() -> None:
    teacher = tiny_encoder(TEACHER)
    shape = replace(TEACHER, transformer=replace(TEACHER.transformer, depth=2))
    small = student(shape, layers=(2, 0), teacher=teacher)
    for block, layer in zip(small.transformer.blocks, (2, 0), strict=True):
        source = teacher.transformer.blocks[layer].state_dict()
        assert all(torch.equal(source[name], now) for name, now in block.state_dict().items())


def test_units_that_carry_nothing_are_the_ones_left_out() -> None:
    teacher = tiny_encoder(TEACHER)
    for block in teacher.transformer.blocks:
        block.contract.weight.data[:, 5:20] = 0  # these reach nothing
    shape = replace(TEACHER, transformer=replace(TEACHER.transformer, hidden=17))
    rows = random_rows(20, seed=1)
    np.testing.assert_allclose(
        embed(student(shape, teacher=teacher), rows), embed(teacher, rows), rtol=0, atol=1e-5
    )


def test_a_unit_counts_by_its_activation_on_the_sample() -> None:
    teacher = tiny_encoder(TEACHER)
    for block in teacher.transformer.blocks:
        block.expand.weight.data[5:20] = 0
        block.expand.bias.data[5:20] = -30  # GELU gives nothing there
    shape = replace(TEACHER, transformer=replace(TEACHER.transformer, hidden=17))
    small = student(shape, teacher=teacher)
    assert all(block.expand.bias.min() > -30 for block in small.transformer.blocks)


def test_a_shorter_student_reads_what_it_reads_as_its_teacher_does() -> None:
    teacher = tiny_encoder(TEACHER)
    small = student(replace(TEACHER, max_length=8), teacher=teacher)
    rows = random_rows(10, length=(1, 6), seed=1)
    np.testing.assert_allclose(embed(small, rows), embed(teacher, rows), rtol=0, atol=1e-6)


def test_the_teacher_is_not_changed_by_what_the_student_learns() -> None:
    teacher = tiny_encoder(TEACHER)
    small = student(TEACHER, teacher=teacher)
    before = {name: tensor.clone() for name, tensor in teacher.state_dict().items()}
    for parameter in small.parameters():
        parameter.data.zero_()
    assert all(torch.equal(before[name], now) for name, now in teacher.state_dict().items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 8}, "has its teacher's width, 16; got 8"),
        ({"heads": 2}, "has its teacher's heads, 4; got 2"),
        ({"norm": "pre"}, "has its teacher's norm, post; got pre"),
        ({"hidden": 33}, "hidden is at most 32, its teacher's; got 33"),
        ({"max_length": 17}, "max_length is at most 16, its teacher's; got 17"),
        ({"rank": 17}, "rank is at most 16, its teacher's; got 17"),
        ({"dim": 4}, "has its teacher's dim, None; got 4"),
    ],
)
def test_a_student_that_does_not_fit_its_teacher_is_refused(
    change: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        student(tiny_shape(**{"depth": 3, **change}))


@pytest.mark.parametrize("layers", [(0, 1), (0, 1, 3), (-1, 0, 1), ()])
def test_layers_that_do_not_exist_or_do_not_fill_the_student_are_refused(
    layers: tuple[int, ...],
) -> None:
    with pytest.raises(InvalidInput, match=r"layers must name 3 of the teacher's 3 blocks"):
        student(TEACHER, layers=layers)


def test_a_pre_norm_teacher_is_refused() -> None:
    teacher = tiny_encoder(tiny_shape(depth=3, norm="pre"))
    with pytest.raises(InvalidInput, match="a teacher must be post-norm; got 'pre'"):
        student(teacher.shape, teacher=teacher)


@pytest.mark.parametrize(
    ("layers", "depth", "expected"),
    [
        (None, 6, (0, 5)),
        (None, 1, (0,)),
        (1, 6, (0,)),
        (3, 6, (0, 2, 5)),
        (6, 6, (0, 1, 2, 3, 4, 5)),
        ((4, 1), 6, (4, 1)),
        ((3,), 6, (3,)),
    ],
)
def test_a_number_of_layers_is_spread_and_named_ones_are_kept_as_they_stand(
    layers: int | tuple[int, ...] | None, depth: int, expected: tuple[int, ...]
) -> None:
    assert chosen_layers(layers, depth=depth) == expected


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        (0, "layers must be from 1 to 6, as many as the teacher has; got 0"),
        (7, "layers must be from 1 to 6, as many as the teacher has; got 7"),
        ((0, 6), "layers must be numbers from 0 to 5, those of the teacher; got 0,6"),
        ((-1, 0), "layers must be numbers from 0 to 5, those of the teacher; got -1,0"),
        ((), "layers must be numbers from 0 to 5, those of the teacher; got none"),
    ],
)
def test_layers_that_a_teacher_lacks_are_refused(
    layers: int | tuple[int, ...], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        chosen_layers(layers, depth=6)
