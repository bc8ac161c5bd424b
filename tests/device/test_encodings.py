"""Encodings: what each keeps of a vector, as laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from attar.encodings import ENCODINGS, Encoding, Vectors, decode, encode, slice_dims
from attar.errors import InvalidInput, NotSupported, ShapeError
from attar.manifest import Ranges

values = st.floats(-1, 1, width=32)
vectors = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=24), elements=values)
bytewide = arrays(
    np.float32,
    st.tuples(st.integers(0, 5), st.integers(1, 4).map(lambda n: 8 * n)),
    elements=values,
)


def unit_ranges(dims: int) -> Ranges:
    return Ranges(low=(-1.0,) * dims, high=(1.0,) * dims)


@given(vectors)
def test_f32_changes_no_bit_and_f16_less_than_a_thousandth(rows: Vectors) -> None:
    assert np.array_equal(decode(encode(rows, "f32"), "f32"), rows)
    assert np.allclose(decode(encode(rows, "f16"), "f16"), rows, rtol=1e-3, atol=1e-7)


@given(vectors)
def test_int8_is_off_by_half_a_step_at_most(rows: Vectors) -> None:
    ranges = unit_ranges(rows.shape[1])
    codes = encode(rows, "int8", ranges)
    assert codes.dtype == np.int8
    assert np.abs(decode(codes, "int8", ranges) - rows).max() <= 1 / 255 + 1e-6


@given(vectors)
def test_int8_codes_survive_another_round_trip(rows: Vectors) -> None:
    ranges = unit_ranges(rows.shape[1])
    codes = encode(rows, "int8", ranges)
    assert np.array_equal(encode(decode(codes, "int8", ranges), "int8", ranges), codes)


def test_int8_reaches_both_ends_and_clips_beyond_them() -> None:
    ranges = Ranges(low=(0.0,), high=(10.0,))
    rows = np.array([[-5], [0], [10], [15]], np.float32)
    assert encode(rows, "int8", ranges).ravel().tolist() == [-128, -128, 127, 127]


@given(bytewide)
def test_binary_keeps_every_sign(rows: Vectors) -> None:
    codes = encode(rows, "binary")
    assert codes.dtype == np.uint8
    assert codes.shape == (len(rows), rows.shape[1] // 8)
    back = decode(codes, "binary")
    assert np.array_equal(back > 0, rows > 0)
    assert np.allclose(np.linalg.norm(back, axis=1), 1)


def test_binary_puts_the_first_dimension_in_the_highest_bit() -> None:
    row = np.array([[1, -1, -1, -1, -1, -1, -1, 0.5]], np.float32)
    assert encode(row, "binary").tolist() == [[0b10000001]]


@given(vectors, st.data())
def test_a_slice_has_unit_length_or_is_zero_and_points_the_same_way(
    rows: Vectors, data: st.DataObject
) -> None:
    dims = data.draw(st.integers(1, rows.shape[1]))
    cut = slice_dims(rows, dims)
    lengths = np.linalg.norm(rows[:, :dims].astype(np.float64), axis=1, keepdims=True)
    assert cut.shape == (len(rows), dims)
    assert np.allclose(cut * lengths, rows[:, :dims], atol=1e-6)
    assert np.allclose(np.linalg.norm(cut, axis=1), (lengths > 0).ravel(), atol=1e-5)


def test_ranges_of_a_slice_stretch_with_its_renormalisation() -> None:
    ranges = Ranges(low=(-0.1, -0.2, -0.3, -0.4), high=(0.1, 0.2, 0.3, 0.4))
    assert ranges.at(4) == ranges
    assert ranges.at(1) == Ranges(low=(-0.2,), high=(0.2,))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_no_rows_encode_to_no_rows(encoding: Encoding) -> None:
    none = np.empty((0, 8), np.float32)
    codes = encode(none, encoding, unit_ranges(8))
    assert decode(codes, encoding, unit_ranges(8)).shape == (0, 8)


def test_what_cannot_be_encoded_is_refused_with_the_fix() -> None:
    rows = np.ones((1, 4), np.float32)
    with pytest.raises(NotSupported, match="declares none; ask for f32, f16 or binary"):
        encode(rows, "int8")
    with pytest.raises(ShapeError, match="got 3 for 4 dims"):
        encode(rows, "int8", unit_ranges(3))
    with pytest.raises(InvalidInput, match="dims is 4: choose a multiple of 8"):
        encode(rows, "binary")
    with pytest.raises(InvalidInput, match="one of f32, f16, int8, binary; got 'f8'"):
        encode(rows, "f8")  # type: ignore[arg-type]  # what a caller without types can do
    with pytest.raises(InvalidInput, match="from 1 to 4; got 5"):
        slice_dims(rows, 5)
