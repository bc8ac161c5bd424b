"""Weights in blocks: small, near, and an item's numbers are its own."""

from functools import cache

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from attar.errors import InvalidInput
from attar.export.calibration import run
from attar.export.measure import cosine
from attar.export.passes.fuse import fuse
from attar.export.passes.weight_only import Accuracy, quantize_blocks, quantize_weights
from attar.export.text import text_feeds
from attar.inputs import TextInput
from benchmarks.support.bundles import text_graph as averaging_graph

from ...support.students import MAX_LENGTH, student_graph, texts, tokenizer

ALONE_OR_TOGETHER = 1e-6
NEAREST = {4: 0.98, 8: 0.9995}
"""The least mean cosine of the tests' student with weights of so many bits."""


@cache
def quantised(bits: int, accuracy: Accuracy) -> bytes:
    return quantize_weights(student_graph(), bits=4 if bits == 4 else 8, accuracy=accuracy)


def feeds(count: int, size: int) -> list[dict[str, NDArray[np.int64]]]:
    host = TextInput(tokenizer(), max_length=MAX_LENGTH, prompts={})
    rows = host.prepare(texts()[:count], role="passage", truncation="truncate")
    return [
        dict(feed)
        for start in range(0, count, size)
        for feed in text_feeds(host, rows[start : start + size])
    ]


@pytest.mark.parametrize("accuracy", ["float32", "int8"])
@pytest.mark.parametrize("bits", [4, 8])
def test_what_is_quantised_in_blocks_is_near_float32(bits: int, accuracy: Accuracy) -> None:
    exact, given = (run(g, feeds(200, 32)) for g in (student_graph(), quantised(bits, accuracy)))
    assert cosine(given, exact).mean() >= NEAREST[bits]


@pytest.mark.parametrize("bits", [4, 8])
def test_an_item_does_not_depend_on_its_batch_mates_although_its_tokens_are_rounded(
    bits: int,
) -> None:
    alone, together = (run(quantised(bits, "int8"), feeds(40, size)) for size in (1, 40))
    assert np.abs(alone - together).max() <= ALONE_OR_TOGETHER


@pytest.mark.parametrize("bits", [4, 8])
def test_every_matrix_and_table_is_in_blocks(bits: int) -> None:
    before, after = (
        onnx.load_from_string(g).graph for g in (student_graph(), quantised(bits, "int8"))
    )
    large = {t.name for t in before.initializer if len(t.dims) == 2 and t.dims[0] > MAX_LENGTH}
    assert large
    assert not large & {tensor.name for tensor in after.initializer}
    kinds = [node.op_type for node in after.node]
    assert kinds.count("MatMulNBits") == 13  # six a layer, and the table's expansion
    assert kinds.count("GatherBlockQuantized") == 1


def test_fewer_bits_make_a_smaller_file() -> None:
    assert len(quantised(4, "float32")) < len(quantised(8, "float32")) < len(student_graph())


def test_a_fused_graph_is_quantised_too() -> None:
    both = quantize_weights(fuse(student_graph()), bits=8, accuracy="int8")
    given, exact = (run(g, feeds(40, 8)) for g in (both, student_graph()))
    assert cosine(given, exact).mean() >= NEAREST[8]


def test_the_same_graph_gives_the_same_bytes() -> None:
    assert quantize_weights(student_graph(), bits=4, accuracy="int8") == quantised(4, "int8")


def test_a_graph_without_a_constant_matrix_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no product with a constant matrix"):
        quantize_weights(averaging_graph(), bits=8, accuracy="int8")


@pytest.mark.parametrize("bits", [4, 8])
@given(
    rows=arrays(
        np.float32,
        st.tuples(st.integers(1, 3), st.integers(1, 70)),
        elements=st.floats(-(2.0**60), 2.0**60, width=32),
    )
)
def test_a_weight_is_lost_by_one_step_at_most_and_zero_by_nothing(
    bits: int, rows: NDArray[np.float32]
) -> None:
    codes, scale, zero = quantize_blocks(rows, bits=bits, block=16)
    assert codes.max() < 2**bits
    widened = (codes.astype(np.float64) - zero[..., None]) * scale[..., None].astype(np.float64)
    back = widened.reshape(len(rows), -1)[:, : rows.shape[1]]
    steps = np.repeat(scale.astype(np.float64), 16, axis=1)[:, : rows.shape[1]]
    assert (np.abs(back - rows) <= steps * (1 + 1e-5)).all()
    assert (back[rows == 0] == 0).all()
