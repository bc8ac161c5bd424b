"""Whatever a parser of ours is given, it reads or refuses: nothing else is raised."""

import json
from contextlib import suppress
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from attar.errors import BundleRefused, InvalidInput, ShapeError
from attar.manifest import Manifest, parse, serialise
from attar.server import kserve
from attar.server.collections import filters
from benchmarks.support.bundles import text_manifest

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["2026-01-01", "9999-12-31T23:59:59.999999+14:00", "sha256:", "batch"])
)
OPERATORS = st.sampled_from(["$all", "$any", "$not", "$or", "gt", "gte", "lt", "lte", ""])


def documents(keys: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Any JSON, some of whose objects have these keys."""
    return st.recursive(
        SCALARS,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.dictionaries(keys | st.text(max_size=4), inner, max_size=4)
        ),
        max_leaves=12,
    )


@given(st.dictionaries(OPERATORS | st.text(max_size=4), documents(OPERATORS), max_size=4))
def test_any_object_is_a_filter_or_is_refused(conditions: dict[str, Any]) -> None:
    with suppress(InvalidInput):
        filters.paths(filters.read(conditions))


@given(st.dictionaries(st.text(max_size=4), documents(OPERATORS), max_size=4))
def test_any_object_is_a_payload_that_filters_compare(payload: dict[str, Any]) -> None:
    assert filters.comparable(payload).keys() >= {filters.TOKENS}


WHOLE: dict[str, Any] = json.loads(serialise(text_manifest()))
PATHS = [
    (name, *inner)
    for name, value in WHOLE.items()
    for inner in [(), *((key,) for key in (value if isinstance(value, dict) else ()))]
] + [("variants", 0, key) for key in WHOLE["variants"][0]]


@given(st.sampled_from(PATHS), documents(st.sampled_from(sorted(WHOLE))), st.booleans())
def test_any_manifest_is_read_or_is_refused(
    path: tuple[Any, ...], value: object, removed: bool
) -> None:
    document = json.loads(json.dumps(WHOLE))
    *above, last = path
    holder: Any = document
    for key in above:
        holder = holder[key]
    if removed:
        del holder[last]
    else:
        holder[last] = value
    with suppress(BundleRefused):
        assert isinstance(parse(json.dumps(document).encode()), Manifest)


@given(
    st.sampled_from([*sorted(kserve.DATATYPES), kserve.BYTES, "FP8", ""]),
    st.lists(st.integers(-2, 6) | st.integers(-(2**70), 2**70), max_size=4),
    st.binary(max_size=64),
)
def test_any_bytes_are_a_tensor_or_are_refused(
    datatype: str, shape: list[int], data: bytes
) -> None:
    info = kserve.TensorInfo(name="text", datatype=datatype, shape=tuple(shape))
    with suppress(InvalidInput, ShapeError):
        assert kserve.from_raw(info, data).array.shape == tuple(shape)
