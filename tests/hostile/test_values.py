"""What Python code hands over is taken for what it is, or refused with its name and the way out."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attar
from attar import wire
from attar.client import calls
from attar.errors import AttarError, InvalidInput, ShapeError
from benchmarks.hostile.requests import world
from benchmarks.hostile.values import BAD, GOOD, HALF, ITEMS, STORED, TEXTS, UUID, Bad, Good
from benchmarks.support.bundles import tiny_bundle


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with world(tmp_path_factory.mktemp("values")) as (address, _):
        with attar.Client(address) as client:
            client.upsert("docs", [1, 2], ["the cat", "the sun"], payloads=[{"a": 1}, {"a": 3}])
        yield address


@pytest.fixture(scope="module")
def client(target: str) -> Iterator[attar.Client]:
    with attar.Client(target) as one:
        yield one


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> attar.Encoder:
    path = tmp_path_factory.mktemp("values") / "tiny.attar"
    return attar.load(tiny_bundle(path, dims=(8, 16), tokens=True), threads=1)


class Device:
    """An encoder with the client's arguments."""

    def __init__(self, encoder: attar.Encoder) -> None:
        self._encoder = encoder

    def embed(self, items: Any, *, model: str) -> Any:
        return self._encoder.embed(items)


@pytest.mark.parametrize("case", BAD, ids=str)
async def test_a_bad_value_is_named_by_both_clients(
    case: Bad, client: attar.Client, target: str
) -> None:
    with pytest.raises(InvalidInput, match=case.refusal):
        case.ask(client)
    async with attar.AsyncClient(target) as other:
        with pytest.raises(InvalidInput, match=case.refusal):
            await case.ask(other)


@pytest.mark.parametrize("case", ITEMS, ids=str)
def test_a_bad_item_is_named_by_an_encoder(case: Bad, encoder: attar.Encoder) -> None:
    with pytest.raises(InvalidInput, match=case.refusal):
        case.ask(Device(encoder))


@pytest.mark.parametrize("case", GOOD, ids=str)
async def test_texts_are_taken_from_whatever_holds_them(
    case: Good, client: attar.Client, target: str, encoder: attar.Encoder
) -> None:
    expected = case.plain(client).vectors
    assert (case.ask(client).vectors == expected).all()
    async with attar.AsyncClient(target) as other:
        assert ((await case.ask(other)).vectors == expected).all()
    np.testing.assert_allclose(case.ask(Device(encoder)).vectors, expected, atol=1e-6)


@pytest.mark.parametrize("case", STORED, ids=str)
def test_numbers_of_numpy_and_any_list_count_as_pythons(case: Good, client: attar.Client) -> None:
    found = case.ask(client)

    (plain,) = case.plain(client).hits
    assert (found[0] if isinstance(found, tuple) else found)[0][0].id == plain[0].id == 1


def test_points_are_read_and_deleted_by_a_set_of_ids(client: attar.Client) -> None:
    client.upsert("docs", [8, 9], ["rain", "blue sky"])
    unordered: Any = {8, 9}

    assert {point.id for point in client.retrieve("docs", unordered)} == unordered
    client.delete_points("docs", frozenset(unordered))
    assert client.retrieve("docs", unordered) == ()


def test_what_an_encoder_embedded_brings_its_fingerprint(
    client: attar.Client, encoder: attar.Encoder
) -> None:
    local: Any = encoder.embed(["the cat"])

    assert client.search("docs", vectors=local)[0][0].id == 1
    other: Any = dataclasses.replace(local, fingerprint="sha256:x")
    with pytest.raises(attar.SpaceMismatch):
        client.search("docs", vectors=other)


async def test_a_generator_is_read_once(client: attar.Client, encoder: attar.Encoder) -> None:
    expected = client.embed(TEXTS, model="tiny").vectors

    assert (client.embed((text for text in TEXTS), model="tiny").vectors == expected).all()
    (streamed,) = client.embed_stream([iter(TEXTS)], model="tiny")
    assert (streamed.vectors == expected).all()
    rows = encoder.embed(iter(TEXTS)).vectors  # type: ignore[arg-type]  # as untyped code might
    np.testing.assert_allclose(rows, expected, atol=1e-6)


def test_arrays_of_one_shape_are_items_of_a_tensor_model(client: attar.Client) -> None:
    images = np.random.default_rng(0).random((3, 1, 8, 8), np.float32)

    listed: Any = list(images)
    expected = client.embed(images, model="pixels").vectors
    assert (client.embed(listed, model="pixels").vectors == expected).all()


@pytest.mark.parametrize("batch", [None, 5, "cat", [None], [["a"]], {"a"}], ids=repr)
async def test_a_bad_batch_of_a_stream_is_refused(batch: Any, client: attar.Client) -> None:
    with pytest.raises(InvalidInput, match="item"):
        list(client.embed_stream([TEXTS, batch], model="tiny"))


@pytest.mark.parametrize("deadline_s", [0, -1, float("nan"), float("inf"), "5"])
async def test_a_bad_deadline_of_a_stream_is_refused(
    deadline_s: Any, client: attar.Client, target: str
) -> None:
    with pytest.raises(InvalidInput, match=r"deadline_s is .*; give seconds"):
        list(client.embed_stream([TEXTS], model="tiny", deadline_s=deadline_s))
    async with attar.AsyncClient(target) as other:
        with pytest.raises(InvalidInput, match=r"deadline_s is .*; give seconds"):
            async for _ in other.embed_stream([TEXTS], model="tiny", deadline_s=deadline_s):
                pass


def test_points_are_kept_as_they_were_given(client: attar.Client) -> None:
    given: Any = {"n": np.int64(5), "x": np.float32(0.5), "b": np.True_, "l": (1, np.str_("t"))}
    ids: Any = np.array([7], np.uint32)
    rain = client.embed(["the rain"], model="tiny")
    lists: Any = rain.vectors.tolist()

    client.upsert("docs", [UUID], ["the dog"], payloads=[given])
    client.upsert("docs", ids, vectors=lists, fingerprint=rain.fingerprint)
    points = {one.id: one for one in client.retrieve("docs", [UUID, *ids], with_vectors=True)}
    client.delete_points("docs", [UUID, 7])

    assert points[str(UUID)].payload == {"n": 5, "x": 0.5, "b": True, "l": [1, "t"]}
    assert points[7].vector == pytest.approx(rain.vectors[0], abs=1e-6)


@pytest.mark.parametrize(
    "form",
    [
        lambda v: v.tolist(),
        lambda v: v.astype(np.float64),
        lambda v: v.astype(">f4"),
        lambda v: np.asfortranarray(np.repeat(v, 2, axis=1))[:, ::2],
        list,
    ],
    ids=["lists", "double", "big-endian", "not contiguous", "rows"],
)
def test_vectors_of_any_form_are_the_same_query(form: Any, client: attar.Client) -> None:
    found = client.embed(["the cat"], model="tiny")

    given = form(found.vectors)
    hits = client.search("docs", vectors=given, fingerprint=found.fingerprint)[0]

    expected = client.search("docs", vectors=found)[0]
    assert [hit.id for hit in hits] == [hit.id for hit in expected]
    assert [hit.score for hit in hits] == pytest.approx([hit.score for hit in expected])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dims": 8.0}, "dims must be one .*; got 8.0"),
        ({"dims": True}, "dims must be one .*; got True"),
        ({"dims": "8"}, "dims must be one .*; got '8'"),
        ({"dims": [8]}, r"dims must be one .*; got \[8\]"),
        ({"dims": np.array([8, 16])}, "dims must be one"),
        ({"encoding": ["f32"]}, "encoding must be one of"),
        ({"encoding": None}, "encoding must be one of .*; got None"),
        ({"role": None}, "role must be one of .*; got None"),
        ({"role": np.array(["query"])}, "role must be one of"),
        ({"truncation": True}, "truncation must be one of .*; got True"),
    ],
    ids=str,
)
def test_a_bad_option_is_named_by_an_encoder(
    options: dict[str, Any], message: str, encoder: attar.Encoder
) -> None:
    with pytest.raises(InvalidInput, match=message):
        encoder.embed(["cat"], **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": "2"}, "threads is '2', a str; give a whole number"),
        ({"threads": 1.5}, "threads is 1.5, a float; give a whole number"),
        ({"threads": True}, "threads is True, a bool; give a whole number"),
        ({"max_bytes": "5"}, "max_bytes is '5', a str; give bytes"),
        ({"max_latency_ms": "5"}, "max_latency_ms is '5', a str; give milliseconds"),
        ({"provider": "cpu", "device_id": "0"}, "device_id is '0', a str; give a whole number"),
        ({"provider": "cpu", "provider_options": ["a"]}, r"provider_options is \['a'\], a list"),
        ({"allow_token_ids": "no"}, "allow_token_ids is 'no'; give True or False"),
    ],
    ids=str,
)
def test_a_bad_option_of_load_is_named(
    options: dict[str, Any], message: str, encoder: attar.Encoder
) -> None:
    with pytest.raises(InvalidInput, match=message):
        attar.load(encoder.bundle.path, **options)


@pytest.mark.parametrize("path", [None, 5, b"x", ""], ids=repr)
def test_what_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(InvalidInput, match="a bundle's path is text or a Path; got"):
        attar.load(path)


def test_a_path_that_no_system_has_names_nothing() -> None:
    for path in ("x" * 5000, "a\0b", HALF):
        with pytest.raises(attar.NotFound, match="no bundle at"):
            attar.load(path)


@pytest.mark.parametrize("vectors", [None, [[1.0]], np.ones(16), np.ones((2, 7))], ids=repr)
def test_rows_that_no_graph_gave_do_not_leave_an_encoder(
    vectors: Any, encoder: attar.Encoder
) -> None:
    with pytest.raises(ShapeError, match=r"give an array of \(n, 16\)"):
        encoder.finish(vectors)


@pytest.mark.parametrize("tls", [True, "cert.pem", attar.Tls(ca=b"x")], ids=repr)  # type: ignore[arg-type]
def test_what_is_no_tls_is_refused(tls: Any, target: str) -> None:
    with pytest.raises(InvalidInput, match="tls"):
        attar.Client(target, tls=tls)


def test_an_error_in_many_points_says_among_which_it_counts(client: attar.Client) -> None:
    points: Any = [(i + 100, "cat", {}) for i in range(5)] + [(105, None, {})]
    with pytest.raises(InvalidInput, match="item 1 must be a string") as refused:
        client.upsert_all("docs", points, batch_size=2)
    client.delete_points("docs", range(100, 106))

    assert refused.value.__notes__ == ["in the call of points 4 to 5, counted from there"]


def test_a_width_of_numpy_is_a_width(encoder: attar.Encoder) -> None:
    dims: Any = np.int64(8)
    assert encoder.embed(["cat"], dims=dims).vectors.shape == (1, 8)


@pytest.mark.parametrize("key", [5, b"key", ["key"], "schlüssel", "a\nb"], ids=repr)
def test_a_key_that_no_header_carries_is_refused(key: Any, target: str) -> None:
    with pytest.raises(InvalidInput, match="the key"):
        attar.Client(target, key=key)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary(max_size=3)
    | st.sampled_from([np.int64(3), np.float32("nan"), np.True_, np.ones(2), UUID, {1}, object()]),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.text(st.characters()) | st.integers(), inner)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(st.characters(), max_size=3), ANYTHING, max_size=3))
def test_any_payload_is_what_json_has_or_is_refused(payload: dict[str, Any]) -> None:
    try:
        back = wire.from_struct(wire.to_struct(payload))
    except InvalidInput:
        with pytest.raises((TypeError, ValueError)):  # the oracle: what JSON in UTF-8 cannot hold
            _json(payload)
        return
    assert back == json.loads(_json(payload))


def _json(payload: object) -> bytes:
    def plain(value: Any) -> Any:
        match value:
            case np.generic():
                return plain(value.item())
            case int() if abs(value) > wire.MAX_WHOLE:
                raise ValueError(value)
            case dict():
                if not all(isinstance(key, str) for key in value):
                    raise TypeError(value)
                return {key: plain(each) for key, each in value.items()}
            case list():
                return [plain(each) for each in value]
            case _:
                return value

    return json.dumps(plain(payload), allow_nan=False, ensure_ascii=False).encode()


@given(
    st.fixed_dictionaries(
        {"items": ANYTHING | st.just(["cat"])},
        optional={
            name: ANYTHING | st.sampled_from(["tiny", 8, "f32", "query", "error", "bulk"])
            for name in ("model", "version", "dims", "encoding", "role", "truncation", "priority")
        },
    )
)
def test_any_arguments_make_a_request_or_are_refused(arguments: dict[str, Any]) -> None:
    with contextlib.suppress(AttarError):
        assert calls.embed(arguments.pop("items"), **arguments).request.SerializeToString()


def test_nothing_bad_was_stored(client: attar.Client) -> None:
    assert client.count("docs") == 2
    assert [one.name for one in client.classifiers()] == ["topics"]
