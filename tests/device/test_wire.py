"""The wire's laws: what goes in comes out, and what cannot is refused."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from attar import wire
from attar.errors import InvalidInput, ShapeError
from attar.v1 import collections_pb2, tensor_pb2

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(
    hnp.arrays(
        st.sampled_from([np.dtype(name) for name in wire.DTYPES]),
        hnp.array_shapes(max_dims=4, max_side=5),
    )
)
def test_an_array_comes_back_as_it_was(array: NDArray[Any]) -> None:
    back = wire.from_tensor(wire.to_tensor(array))

    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_bytes_are_little_endian_and_contiguous_whatever_the_array() -> None:
    big = np.arange(6, dtype=">f4").reshape(2, 3).T

    tensor = wire.to_tensor(big)

    assert tensor.data == np.ascontiguousarray(big).astype("<f4").tobytes()
    assert (tensor.dtype, list(tensor.shape)) == ("float32", [3, 2])


def test_a_dtype_without_a_name_is_refused() -> None:
    with pytest.raises(ShapeError, match="complex128 cannot be sent"):
        wire.to_tensor(np.zeros(1, np.complex128))


@given(
    data=st.binary(max_size=64),
    dtype=st.sampled_from([*wire.DTYPES, "", "object", "O", ">f4"]),
    shape=st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 4), max_size=10),
)
def test_any_tensor_is_an_array_or_a_shape_error(data: bytes, dtype: str, shape: list[int]) -> None:
    try:
        array = wire.from_tensor(tensor_pb2.Tensor(data=data, dtype=dtype, shape=shape))
    except ShapeError:
        return
    assert array.shape == tuple(shape)
    assert array.nbytes == len(data)


@given(st.dictionaries(st.text(), JSON))
def test_a_payload_comes_back_as_it_was(payload: dict[str, Any]) -> None:
    assert wire.from_struct(wire.to_struct(payload)) == payload


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53 + 1, {1}, b"x", object(), {1: 2}])
def test_what_is_not_json_is_refused(value: object) -> None:
    with pytest.raises(InvalidInput):
        wire.to_struct({"a": value})


@given(st.integers(0, 2**64 - 1) | st.uuids().map(str))
def test_an_id_comes_back_as_it_was(point: int | str) -> None:
    assert wire.from_id(wire.to_id(point)) == point


def test_numpys_whole_numbers_are_ids() -> None:
    assert wire.to_id(np.int64(7)) == collections_pb2.PointId(number=7)  # type: ignore[arg-type]


@pytest.mark.parametrize("point", [-1, 2**64, 1.5, None])
def test_what_is_no_id_is_refused(point: Any) -> None:
    with pytest.raises(InvalidInput, match="a point's id"):
        wire.to_id(point)
