"""An item that a graph or tokenizer cannot take fails alone: by its index, at every door."""

import json
import re
import resource
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers.models import BPE
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.trainers import BpeTrainer
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

import attar
from attar import trial_inputs
from attar.bench import bench
from attar.errors import BackendError, BundleRefused, InputTooLong, InvalidInput, ShapeError
from attar.export.verify import verify
from attar.inputs import TensorInput, TextInput
from attar.manifest import AxisRange, Limits, Range, TensorSpec, parse, serialise
from benchmarks.hostile.items import (
    CASES,
    GOOD,
    LIMITS,
    PICTURE,
    SAME,
    SOUND,
    SPECS,
    TEXTS,
    Case,
    bundle,
    picture,
    sound,
    tensor_bundle,
    unigram,
)
from benchmarks.support.bundles import text_files, text_manifest, tiny_bundle, tokenizer_json
from benchmarks.support.servers import free_port, serving, settings

NAMES = (*SPECS, *TEXTS)
BY_NAME = {str(case): case for case in CASES}
assert len(BY_NAME) == len(CASES)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("items")
    return {name: bundle(folder, name) for name in NAMES}


@pytest.fixture(scope="module")
def encoders(bundles: Mapping[str, Path]) -> Mapping[str, attar.Encoder]:
    return {name: attar.load(path, threads=1) for name, path in bundles.items()}


@pytest.fixture(scope="module")
def served(
    bundles: Mapping[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    port = free_port()
    folder = tmp_path_factory.mktemp("data")
    with serving(settings(*bundles.values(), data_dir=folder, http_port=port)) as target:
        yield target, f"http://127.0.0.1:{port}"


def whole(case: Case, index: int) -> str:
    return f"item {index}[ ,].*{case.refusal}"


def together(case: Case) -> Any:
    """Give the good item and the bad one as the wire holds them, the bad one alone if it must be.

    None where the wire cannot: one tensor has one shape and one of the manifest's dtypes.
    """
    bad = case.item()
    if case.bundle in TEXTS:
        return None if not isinstance(bad, str) or "\ud800" in bad else [GOOD[case.bundle], bad]
    if isinstance(bad, list | np.ma.MaskedArray) or bad.dtype != np.dtype(SPECS[case.bundle].dtype):
        return None
    alike = bad.shape == GOOD[case.bundle].shape
    return np.stack([GOOD[case.bundle], bad]) if alike else bad[None]


def fits(case: Case) -> bool:
    """Tell whether an item has as many axes as it should, the fixed ones of their size."""
    if case.bundle in TEXTS:
        return True
    axes, shape = SPECS[case.bundle].shape[1:], np.shape(case.item())
    return len(axes) == len(shape) and all(
        size == axis if isinstance(axis, int) else size > 0
        for axis, size in zip(axes, shape, strict=True)
    )


SENT = [case for case in CASES if together(case) is not None]
HELD = [case for case in SENT if fits(case)]
MISSHAPEN = [case for case in SENT if not fits(case)]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_bad_item_is_named_on_a_device(case: Case, encoders: Mapping[str, attar.Encoder]) -> None:
    encoder, good = encoders[case.bundle], GOOD[case.bundle]
    before = encoder.embed([good]).vectors

    with pytest.raises(case.error, match=whole(case, 1)) as raised:
        encoder.embed([good, case.item()])

    assert type(raised.value) is case.error
    np.testing.assert_array_equal(encoder.embed([good]).vectors, before)


@pytest.mark.parametrize("case", HELD, ids=str)
def test_its_batch_mate_is_embedded_by_attar_v1(
    case: Case, encoders: Mapping[str, attar.Encoder], served: tuple[str, str]
) -> None:
    items = together(case)
    with attar.Client(served[0]) as client:
        found = client.embed(items, model=case.bundle, partial=True)

    *mates, error = found.errors
    assert type(error) is case.error
    assert re.match(whole(case, len(items) - 1), str(error))
    assert mates == [None] * (len(items) - 1)
    expected = encoders[case.bundle].embed([GOOD[case.bundle]]).vectors
    np.testing.assert_allclose(found.vectors[:-1], np.repeat(expected, len(mates), 0), atol=1e-6)


def tensor(case: Case) -> Any:
    """Give the items of a case as tritonclient sends them."""
    items: Any = together(case)
    array = np.array(items, np.object_) if case.bundle in TEXTS else items
    name = "text" if case.bundle in TEXTS else SPECS[case.bundle].name
    given = triton.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
    given.set_data_from_numpy(array)
    return given


@pytest.mark.parametrize("case", HELD, ids=str)
def test_its_batch_mate_is_embedded_by_kserve(
    case: Case, encoders: Mapping[str, attar.Encoder], served: tuple[str, str]
) -> None:
    items = together(case)
    with triton.InferenceServerClient(served[0]) as client:
        if len(items) == 1:  # where no item is good the call fails as a whole
            with pytest.raises(InferenceServerException, match=whole(case, 0)):
                client.infer(case.bundle, [tensor(case)])
            return
        found = client.infer(case.bundle, [tensor(case)])

    assert found.as_numpy("status").tolist() == [0, 3]  # OK, INVALID_ARGUMENT
    expected = encoders[case.bundle].embed([GOOD[case.bundle]]).vectors
    np.testing.assert_allclose(found.as_numpy("embedding")[:1], expected, atol=1e-6)


@pytest.mark.parametrize("case", HELD, ids=str)
def test_it_is_named_over_http(case: Case, served: tuple[str, str]) -> None:
    items = together(case)
    given: dict[str, Any] = {"name": "text", "datatype": "BYTES", "data": items}
    if case.bundle in TEXTS:
        openai = {"model": case.bundle, "input": items}
        answer = httpx.post(f"{served[1]}/v1/embeddings", json=openai)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "invalid_input")
        assert re.match(whole(case, 1), answer.json()["error"]["message"])
    else:
        given["name"] = SPECS[case.bundle].name
        given |= {"datatype": np_to_triton_dtype(items.dtype), "data": items.ravel().tolist()}
    given["shape"] = list(np.shape(items))
    request = {"inputs": [given], "outputs": [{"name": "embedding"}]}
    body = json.dumps(request)

    answer = httpx.post(
        f"{served[1]}/v2/models/{case.bundle}/infer",
        content=body,
        headers={"content-type": "application/json"},
    )

    assert answer.status_code == 400
    where = (
        "the body is not JSON" if re.search("NaN|Infinity", body) else whole(case, len(items) - 1)
    )
    assert re.match(where, answer.json()["error"])


@pytest.mark.parametrize("case", MISSHAPEN, ids=str)
def test_a_shape_that_no_item_has_is_refused_with_its_call(
    case: Case, served: tuple[str, str]
) -> None:
    with attar.Client(served[0]) as client, pytest.raises(ShapeError, match="shape"):
        client.embed(together(case), model=case.bundle)
    with (
        triton.InferenceServerClient(served[0]) as client,
        pytest.raises(InferenceServerException, match=r"shape|empty"),
    ):
        client.infer(case.bundle, [tensor(case)])


@pytest.mark.parametrize(("name", "form", "item"), SAME, ids=lambda value: str(value)[:24])
def test_other_forms_of_an_item_have_its_embedding(
    name: str, form: str, item: Any, encoders: Mapping[str, attar.Encoder]
) -> None:
    assert form
    expected = encoders[name].embed([GOOD[name]]).vectors
    np.testing.assert_array_equal(encoders[name].embed([item()]).vectors, expected)


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (np.array(5), "items must be a list; got ndarray"),
        (np.float32(5), "items must be a list; got float32"),
        ({"a": sound(400)}, "items must be a list; got dict"),
        (7, "items must be a list; got int"),
        (sound(400), r"item 0 has shape \(\); waveform must be float32"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_is_no_list_of_items_is_refused(
    items: Any, message: str, encoders: Mapping[str, attar.Encoder]
) -> None:
    with pytest.raises(InvalidInput, match=message):
        encoders["sound"].embed(items)


# Limits.


@st.composite
def _limited(draw: st.DrawFn) -> tuple[TensorSpec, Limits]:
    """Give a spec of up to three named axes and one fixed, and limits of any of it."""
    named = draw(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3))
    fixed = draw(st.sampled_from([(), (3,)]))
    axes = {}
    for name in set(named):
        if draw(st.booleans()):
            least = draw(st.integers(1, 4))
            axes[name] = AxisRange(min=least, max=draw(st.integers(least, 9)))
    limits = Limits(
        axes=axes,
        max_elements=draw(st.none() | st.integers(1, 60)),
        max_ratio=draw(st.none() | st.floats(1, 5)),
        values=draw(st.sampled_from([None, Range(min=0, max=1)])),
    )
    return TensorSpec(name="x", dtype="float32", shape=("batch", *named, *fixed)), limits


def _within(shape: tuple[int, ...], least: float, spec: TensorSpec, limits: Limits) -> bool:
    """Say by plain rules whether an item of zeros, one of them `least`, is one of the limits'."""
    sizes = [n for n, axis in zip(shape, spec.shape[1:], strict=True) if isinstance(axis, str)]
    named = [axis for axis in spec.shape[1:] if isinstance(axis, str)]
    if any(len({n for n, a in zip(sizes, named, strict=True) if a == name}) > 1 for name in named):
        return False
    for name, size in zip(named, sizes, strict=True):
        if name in limits.axes:
            if not limits.axes[name].min <= size <= limits.axes[name].max:
                return False
        elif size < 1:
            return False
    count = 1
    for size in shape:
        count *= size
    if limits.max_elements is not None and count > limits.max_elements:
        return False
    if limits.max_ratio is not None and max(sizes) > limits.max_ratio * min(sizes):
        return False
    return limits.values is None or least >= -0.25


@budget(deadline=None, max_examples=150)
@given(_limited(), st.data())
def test_an_item_is_taken_just_where_it_is_within_the_limits(
    limited: tuple[TensorSpec, Limits], data: st.DataObject
) -> None:
    spec, limits = limited
    shape = tuple(
        axis if isinstance(axis, int) else data.draw(st.integers(0, 10)) for axis in spec.shape[1:]
    )
    item = np.zeros(shape, np.float32)
    if item.size:
        item.flat[0] = data.draw(st.sampled_from([0.0, -0.2, -0.3]))
    least = float(item.min()) if item.size else 0.0
    host = TensorInput(spec, limits)

    def prepared() -> Any:
        return host.prepare([item], role="passage", truncation="error")

    if _within(shape, least, spec, limits):
        np.testing.assert_array_equal(prepared()[0].arrays[0], item)
    else:
        with pytest.raises(InvalidInput, match=r"^item 0 "):
            prepared()


@budget(deadline=None, max_examples=80)
@given(_limited())
def test_the_least_and_the_largest_item_are_within_the_limits_and_no_other_is_beyond(
    limited: tuple[TensorSpec, Limits],
) -> None:
    spec, limits = limited
    legal = [
        shape
        for sizes in product(range(1, 10), repeat=len({*_named(spec)}))
        if _within(shape := _shape(spec, sizes), 0, spec, limits)
    ]
    closed = {*_named(spec)} <= limits.axes.keys()
    if not legal or not closed:
        return
    host = TensorInput(spec, replace(limits, values=None))
    for size in (1, trial_inputs.ANY):
        shape = trial_inputs.shape_of(spec, limits, size)
        host.prepare([np.zeros(shape, np.float32)], role="passage", truncation="error")
        counts = [np.prod(each) for each in legal]
        assert np.prod(shape) == min(counts) if size == 1 else np.prod(shape) <= max(counts)


def _named(spec: TensorSpec) -> list[str]:
    return [axis for axis in spec.shape[1:] if isinstance(axis, str)]


def _shape(spec: TensorSpec, sizes: tuple[int, ...]) -> tuple[int, ...]:
    by_name = dict(zip(dict.fromkeys(_named(spec)), sizes, strict=True))
    return tuple(axis if isinstance(axis, int) else by_name[axis] for axis in spec.shape[1:])


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"axes": {"samples": {"min": 0, "max": 4}}}, "min from 1, max from min"),
        ({"axes": {"samples": {"min": 5, "max": 4}}}, "min from 1, max from min"),
        ({"axes": {"frames": {"min": 1, "max": 4}}}, r"of the named axes \['samples'\]"),
        ({"axes": {"samples": {"min": 1}}}, "lacks max"),
        ({"axes": {"samples": {"min": 1.5, "max": 4}}}, "must be a whole number"),
        ({"axes": {"samples": {"min": 9, "max": 9}}, "max_elements": 8}, "the least item"),
        ({"max_elements": 0}, "limits.max_elements must be 1 or more"),
        ({"max_ratio": 0.5}, "limits.max_ratio must be 1 or more"),
        ({"values": {"min": 1, "max": 1}}, "min below max"),
        ({"cost": {"elements": 0}}, "elements from 1"),
        ({"cost": {"tokens": -1}}, "tokens from 0"),
        ([], "limits must be an object"),
    ],
    ids=str,
)
def test_limits_that_cannot_be_are_refused(
    limits: Any, message: str, bundles: Mapping[str, Path]
) -> None:
    document = json.loads((bundles["sound"] / "manifest.json").read_text("utf-8"))
    document["limits"] = limits
    with pytest.raises(BundleRefused, match=message) as refused:
        parse(json.dumps(document).encode())
    assert refused.value.code == "field"


def test_limits_are_no_part_of_the_space_and_unknown_fields_are_kept(tmp_path: Path) -> None:
    with_limits = tensor_bundle(tmp_path / "new", SOUND, LIMITS["sound"])
    without = tensor_bundle(tmp_path / "old", SOUND, None)
    new, old = (attar.Bundle.open(path).manifest for path in (with_limits, without))
    assert new.fingerprint == old.fingerprint
    document = json.loads(serialise(new))
    document["limits"]["beyond"] = document["limits"]["axes"]["samples"]["step"] = 7
    again = json.loads(serialise(parse(json.dumps(document).encode())))
    assert again == document


# What a server and a command are tried with.


def test_a_bundle_that_runs_within_its_limits_only_is_served(
    bundles: Mapping[str, Path], served: tuple[str, str]
) -> None:
    with attar.Client(served[0]) as client:
        assert {one.name: one.state for one in client.models()} == dict.fromkeys(bundles, "READY")


def test_a_bundle_without_limits_is_tried_with_larger_items_until_one_runs(tmp_path: Path) -> None:
    old = tensor_bundle(tmp_path / "old", SOUND, None, name="old")
    with serving(settings(old, data_dir=tmp_path / "data")) as target, attar.Client(target) as ours:
        np.testing.assert_allclose(
            ours.embed(GOOD["sound"][None]).vectors,
            attar.load(old, threads=1).embed([GOOD["sound"]]).vectors,
            atol=1e-6,
        )
        with pytest.raises(BackendError):
            ours.embed(sound(100)[None])
        assert ours.models()[0].state == "READY"


def test_a_bundle_whose_least_item_fails_is_not_served(tmp_path: Path) -> None:
    wrong = Limits(axes={"samples": AxisRange(min=100, max=800)})
    path = tensor_bundle(tmp_path / "wrong", SOUND, wrong, name="wrong")
    with (
        pytest.raises(BackendError, match="wrong does not embed its least item"),
        serving(settings(path, data_dir=tmp_path / "data")),
    ):
        pass


@pytest.mark.parametrize("name", ["sound", "picture"])
def test_bench_and_verify_take_items_within_the_limits(
    name: str, bundles: Mapping[str, Path]
) -> None:
    report = bench(bundles[name], batches=(1,), threads=(1,), seconds=0.01)
    lengths = {"sound": [512, 1024, 2048, 4096, 8192], "picture": [16, 64]}
    assert [row["length"] for row in report["rows"]] == lengths[name]
    assert not report["skipped"]
    checks = verify(bundles[name])
    assert [check for check in checks if check.holds is False or check.here == "does not run"] == []


def test_lengths_beyond_the_limits_are_refused_by_bench(bundles: Mapping[str, Path]) -> None:
    with pytest.raises(InvalidInput, match=r"lengths must be from 400 to 16000; got \[100\]"):
        bench(bundles["sound"], lengths=(100,))


def test_bench_of_a_bundle_without_limits_takes_the_lengths_that_run(tmp_path: Path) -> None:
    old = tensor_bundle(tmp_path / "old", SOUND, None)
    report = bench(old, batches=(1,), threads=(1,), seconds=0.01)
    assert report["rows"][0]["length"] == 1024
    assert report["rows"][-1]["length"] > 1024


# What an item costs.


def test_an_item_counts_by_what_it_costs(encoders: Mapping[str, attar.Encoder]) -> None:
    tokens = {name: encoders[name].embed([GOOD[name]]).tokens[0] for name in SPECS}
    assert tokens == {"sound": 4, "picture": 5, "scaled": 1, "counts": 1}
    photograph = TensorInput(PICTURE, replace(LIMITS["picture"], axes={}, max_elements=None))
    (row,) = photograph.prepare([picture(3000, 4000, 3)], role="passage", truncation="error")
    assert row.tokens < 1000  # a queue holds a million


# Texts of any length.


def byte_pairs() -> Tokenizer:
    """Give a byte-level tokenizer of a few merges."""
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    trainer = BpeTrainer(vocab_size=300, initial_alphabet=ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 3, trainer)
    return tokenizer


TOKENIZERS = {
    "pieces of words": Tokenizer.from_str(tokenizer_json().decode()),
    "byte pairs": byte_pairs(),
    "unigram": Tokenizer.from_str(unigram().decode()),
}
LENGTHS = (1, 100, 511, 512, 513, 600, 2100, 9000, 270_000)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("name", TOKENIZERS)
@budget(deadline=None, max_examples=10)
@given(
    pieces=st.lists(
        st.sampled_from(["a", "bad", "cab", " ", "  ", "deck", "abcdefghijk"]),
        min_size=1,
        max_size=6,
    ),
    length=st.sampled_from(LENGTHS),
)
def test_a_text_of_any_length_has_the_tokens_of_the_whole(
    name: str, side: str, pieces: list[str], length: int
) -> None:
    text = (" ".join(pieces) * length)[:length]
    theirs = Tokenizer.from_str(TOKENIZERS[name].to_str())
    whole = theirs.encode(text)
    theirs.enable_truncation(16, direction=side)
    expected = theirs.encode(text).ids
    host = TextInput(
        TOKENIZERS[name].to_str().encode(), max_length=16, prompts={}, truncation_side=side
    )

    def tokenised() -> Any:
        return host.prepare(["a", text], role="passage", truncation="truncate")[1]

    if (length > 2**18 and len(whole) < 32) or not expected:
        with pytest.raises(InvalidInput, match=r"^item 1 has "):
            tokenised()
        return
    row = tokenised()
    assert row.arrays[0].tolist() == expected
    assert row.truncated == (len(whole) > 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("the cat " * 1_500_000, None),
        ("日本" * 3_000_000, None),
        ("a" * 12_000_000, "item 0 has 12000000 characters, of which 262144 make 3 tokens"),
        (" " * 12_000_000, "item 0 has 12000000 characters, of which 262144 make 2 tokens"),
    ],
    ids=["words", "no blanks", "one word", "blanks"],
)
def test_a_very_long_text_is_cut_or_refused_at_little_cost(
    text: str, message: str | None, tmp_path: Path
) -> None:
    encoder = attar.load(tiny_bundle(tmp_path / "x"), threads=1)
    encoder.embed(["a"])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if message is None:
        assert encoder.embed([text]).truncated.tolist() == [True]
    else:
        with pytest.raises(InvalidInput, match=message):
            encoder.embed([text])
    with pytest.raises(InputTooLong if message is None else InvalidInput, match="item 0 has"):
        encoder.embed([text], truncation="error")
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown << 10 < 100e6 + len(text)  # it took 1.5 GB


# Tokenizers that panic.


def test_a_tokenizer_that_panics_is_refused_at_load(tmp_path: Path) -> None:
    manifest = text_manifest()
    files = text_files(manifest)
    tokenizer = json.loads(files["tokenizer.json"])
    tokenizer["pre_tokenizer"] = {"type": "FixedLength", "length": 0}
    files["tokenizer.json"] = json.dumps(tokenizer).encode()
    path = attar.Bundle.write(tmp_path / "x", manifest, files).path
    with pytest.raises(BundleRefused, match="panics at the text 'a text'") as refused:
        attar.load(path)
    assert refused.value.code == "tokenizer"


def test_a_text_that_a_tokenizer_panics_at_fails_alone(tmp_path: Path) -> None:
    manifest = text_manifest()
    files = text_files(manifest)
    tokenizer = json.loads(files["tokenizer.json"])
    regex = {"Regex": "(?<!a)" + "a?" * 6 + "a*$"}  # 64 ways, tried for each a of a text
    tokenizer["pre_tokenizer"] = {
        "type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False,
    }  # fmt: skip
    files["tokenizer.json"] = json.dumps(tokenizer).encode()
    path = attar.Bundle.write(tmp_path / "x", manifest, files).path
    with (
        serving(settings(path, data_dir=tmp_path / "data")) as target,
        attar.Client(target) as ours,
    ):
        embedded = ours.embed(["cat", "a" * 200_000 + "b"], partial=True)
    assert embedded.errors[0] is None
    assert isinstance(embedded.errors[1], InvalidInput)
    assert str(embedded.errors[1]).startswith("item 1 cannot be tokenised")
