"""Long arrays of JSON are read as Python's json reads them, and their numbers are packed."""

import json
from array import array
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from attar.errors import ShapeError
from attar.server.cooperative import SMALL_BYTES
from attar.server.kserve import TensorInfo, from_values
from attar.server.rest import json_reader

BLANKS = " " * SMALL_BYTES  # makes any document a long one
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
WHOLE = st.integers() | st.just(10**400)
SCALARS = FLOATS | WHOLE | st.booleans() | st.none() | st.text(max_size=3)
ARRAYS = st.lists(FLOATS) | st.lists(FLOATS | WHOLE) | st.lists(SCALARS)
JSON: Any = st.recursive(
    ARRAYS,
    lambda inner: st.lists(inner, max_size=4) | st.lists(inner | SCALARS, max_size=4),
    max_leaves=12,
)


def plain(value: Any) -> Any:
    """Give lists for arrays, and each value with its type, as floats where an array is packed."""
    if isinstance(value, json_reader.ARRAYS):
        return [plain(one) for one in value]
    return type(value), value


def expected(value: Any) -> Any:
    """Say the same of what json read: numbers some of which have a fraction are floats.

    With other values among them, or an integer that no float holds, each of these numbers is an
    int or a float of the same value: only those read in one step are packed.
    """
    if not isinstance(value, list):
        return type(value), value
    kinds = {*map(type, value)}
    if float not in kinds:
        return [expected(one) for one in value]
    if kinds <= {int, float} and fit(value):
        return [(float, float(one)) for one in value]
    return [(ANY, one) if type(one) in (int, float) else expected(one) for one in value]


def fit(numbers: list[float]) -> bool:
    try:
        return bool([float(one) for one in numbers])
    except OverflowError:
        return False


@given(data=JSON)
@example(data=[0, 0.0])  # the last element alone has a fraction
@example(data=[0.5, 0, 10**400])  # the last one alone is what no float holds
@example(data=[0.5, 0, None])
def test_an_array_has_the_values_that_json_reads(data: Any) -> None:
    text = json.dumps(data)

    assert plain(json_reader.read(BLANKS + text)) == expected(json.loads(text))


@pytest.mark.parametrize("changed", ["7", "true", "null", '"a"', "[1]", "1e400", f"1{'0' * 400}"])
@pytest.mark.parametrize("at", [0, 5000, 19_999])
def test_a_value_of_another_kind_among_many_numbers_stays_what_it_is(changed: str, at: int) -> None:
    values = ["0.5"] * 20_000
    values[at] = changed
    text = f"[{','.join(values)}]"

    assert plain(json_reader.read(text)) == expected(json.loads(text))


def test_a_number_of_a_long_array_takes_eight_bytes() -> None:
    read = json_reader.read(json.dumps([n + 0.5 for n in range(20_000)]))

    assert isinstance(read, array)
    assert len(memoryview(read).tobytes()) == 160_000


@pytest.mark.parametrize("datatype", ["FP32", "FP64", "INT32", "BOOL"])
@pytest.mark.parametrize("row", ["[0.5, 2.5]", "[1, 2.5]", "[1, 2]", "[true, 0.5]", '["a", 1.5]'])
def test_a_tensor_of_packed_rows_is_that_of_lists(row: str, datatype: str) -> None:
    text = f"[[0.5, 1.5], {row}, [3, 4]]"
    info = TensorInfo(name="image", datatype=datatype, shape=(3, 2))

    def tensor(values: Any) -> Any:
        try:
            return from_values(info, values).array.tolist()
        except ShapeError as refused:
            return str(refused)

    assert tensor(json_reader.read(BLANKS + text)) == tensor(json.loads(text))


def test_a_packed_tensor_of_many_rows_has_its_values() -> None:
    rows = np.random.default_rng(0).random((200, 3, 50)).astype(np.float32)
    info = TensorInfo(name="image", datatype="FP32", shape=rows.shape)

    for nested in (rows, rows.reshape(-1)):
        read = json_reader.read(json.dumps(nested.tolist()))
        np.testing.assert_array_equal(from_values(info, read).array, rows)
