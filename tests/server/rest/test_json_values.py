"""The values of a JSON body are counted before it is read."""

import json
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attar.errors import InvalidInput
from attar.server.cooperative import STEP_BYTES
from attar.server.rest import endpoint
from attar.server.settings import Settings

MOST = 10**9
TEXT = st.text(st.characters() | st.sampled_from('",[]{}\\'), max_size=8)
JSON: Any = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=30,
)


def values(found: Any) -> int:
    """Count a value and all within it."""
    inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return 1 + sum(map(values, inner))


def separators(found: Any) -> int:
    """Count a value's own commas and opening brackets, and those of what is within it."""
    if not isinstance(found, dict | list):
        return 0
    inner = found.values() if isinstance(found, dict) else found
    return 1 + max(0, len(found) - 1) + sum(map(separators, inner))


@pytest.fixture
def looks_closely(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look into every body as into one of many commas."""
    monkeypatch.setattr(endpoint, "_FEW", 0)


@pytest.mark.usefixtures("looks_closely")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(found=JSON, escaped=st.booleans())
def test_what_stands_in_texts_does_not_count(found: Any, escaped: bool) -> None:
    body = json.dumps(found, ensure_ascii=escaped).encode("utf-8", "replace")

    count = endpoint.json_values(body, most=MOST)

    assert count == 1 + separators(found)
    assert values(found) <= count


@given(found=JSON)
def test_a_body_has_no_more_values_than_are_counted(found: Any) -> None:
    body = json.dumps(found, indent=1).encode()

    assert values(found) <= endpoint.json_values(body, most=MOST)


def test_a_text_of_commas_is_one_value() -> None:
    body = json.dumps({"input": ["a, b, [c]" * 10_000]}).encode()

    assert endpoint.json_values(body, most=MOST) == 3


@pytest.mark.parametrize("size", range(STEP_BYTES - 4, STEP_BYTES + 4))
def test_a_text_may_lie_over_the_end_of_a_step(size: int) -> None:
    body = json.dumps(["a" * size, ",[{" * 5000, '\\",' * 5, [1, 2]]).encode()

    assert endpoint.json_values(body, most=MOST) == 1 + separators(json.loads(body))


def test_counting_ends_soon_after_the_limit() -> None:
    body = b"[" + b"1," * 10**6 + b"1]"

    assert 100_000 < endpoint.json_values(body, most=100_000) < 100_000 + STEP_BYTES


def test_a_body_may_have_as_many_token_ids_as_a_request_has_items_of_512() -> None:
    defaults = {name: field.default for name, field in Settings.model_fields.items()}
    ids = [[30000] * 512] * defaults["max_items"]
    body = json.dumps({"model": "m", "input": ids, "encoding_format": "base64", "truncate": True})
    count = endpoint.json_values(body.encode(), most=MOST)

    assert count == 2048 * 512 + 2048 + 2 + 3 == 1_050_629
    assert count <= defaults["max_json_values"]


@pytest.mark.parametrize(
    "element",
    [
        *(
            "0.5",
            "123456789",
            "true",
            "null",
            '""',
            '"ab"',
            '"\u4e00"',
            '"\U0001f600"',
            '"\\u4e00"',
        ),
        *("[]", "[1000]", "[0.5]", "[0.5, 1.5]", '["ab"]'),
        *("{}", '{"a": 1000}', '{"a": "bc", "d": 0.5}', '{"a": [1000]}', '{"a": {"b": 1}}'),
    ],
)
def test_a_body_is_read_in_the_memory_that_is_held_for_it(element: str) -> None:
    body = f'{{"input": [{",".join([element] * 20_000)}]}}'.encode()
    held = endpoint.weight(body, endpoint.json_values(body, most=MOST))

    tracemalloc.start()
    try:
        with suppress(InvalidInput):  # too many fields, once some were read
            endpoint.parsed(body)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak <= held
