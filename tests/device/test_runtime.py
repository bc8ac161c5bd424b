"""The runtime: the same numbers alone or in company, and a clear word about every bad item."""

import getpass
import platform
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tokenizers import Tokenizer

import attar
from attar.bundle import Bundle
from attar.encodings import ENCODINGS, Encoding, decode, encode, slice_dims
from attar.errors import (
    BackendError,
    InputTooLong,
    InvalidInput,
    NotFound,
    NotSupported,
    ShapeError,
)
from attar.host import cpu_flags, describe, instruction_set
from attar.inputs import identified
from attar.manifest import Requires
from attar.runtime import Encoder
from benchmarks.support.bundles import (
    WORDS,
    text_files,
    text_manifest,
    tiny_bundle,
    tiny_tensor_bundle,
)

TEXTS = ["the cat sat on the mat", "", "a dog ran", "sun and rain " * 20, "Blue sky!", "日本語"]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    path = tmp_path_factory.mktemp("encoder") / "x.attar"
    return attar.load(tiny_bundle(path, dims=(8, 16)), threads=1)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return attar.load(tiny_tensor_bundle(tmp_path_factory.mktemp("images") / "x"), threads=1)


def test_rows_have_unit_length_and_the_order_of_their_items(encoder: Encoder) -> None:
    embeddings = encoder.embed(TEXTS)
    assert embeddings.vectors.shape == (len(TEXTS), 16)
    assert embeddings.vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-6)
    for text, row in zip(TEXTS, embeddings.vectors, strict=True):
        assert np.allclose(encoder.embed([text]).vectors[0], row, atol=1e-6)


@given(st.lists(st.lists(st.sampled_from(WORDS), max_size=20).map(" ".join), max_size=40))
def test_n_singles_equal_one_batch_of_n(encoder: Encoder, texts: list[str]) -> None:
    batch = encoder.embed(texts)
    singles = [encoder.embed([text]) for text in texts]
    assert len(batch) == len(texts)
    for row, tokens, truncated, single in zip(
        batch.vectors, batch.tokens, batch.truncated, singles, strict=True
    ):
        assert np.abs(single.vectors[0] - row).max() <= 1e-6
        assert (single.tokens[0], single.truncated[0]) == (tokens, truncated)


def test_many_batches_come_back_in_the_order_given(encoder: Encoder) -> None:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, rng.integers(0, 14))) for _ in range(1000)]
    alone = np.concatenate([encoder.infer([row]) for row in encoder.prepare(texts)])
    assert np.abs(encoder.embed(texts).vectors - alone).max() <= 1e-6


def test_no_items_give_no_rows(encoder: Encoder, images: Encoder) -> None:
    none = encoder.embed([], dims=8, encoding="binary")
    assert (none.vectors.shape, none.tokens.shape, none.truncated.shape) == ((0, 1), (0,), (0,))
    assert encoder.embed([]).vectors.shape == (0, 16)
    assert images.embed(np.empty((0, 1, 8, 8), np.float32)).vectors.shape == (0, 16)


def test_a_folder_and_its_zip_give_equal_numbers(bundle_path: Path, tmp_path: Path) -> None:
    packed = attar.Bundle.pack(bundle_path, tmp_path / "x.zip").path
    one, two = (attar.load(path, threads=1).embed(TEXTS) for path in (bundle_path, packed))
    assert np.array_equal(one.vectors, two.vectors)
    assert one.fingerprint == two.fingerprint


def test_the_rows_of_many_texts_are_those_of_each_text(encoder: Encoder) -> None:
    rows = encoder.prepare(TEXTS * 40)
    for row, (alone,) in zip(rows, (encoder.prepare([text]) for text in TEXTS * 40), strict=True):
        ids, mask = row.arrays
        np.testing.assert_array_equal(ids, alone.arrays[0])
        assert ids.dtype == mask.dtype == np.int64
        assert mask.tolist() == [1] * row.tokens
        assert (row.tokens, row.truncated) == (alone.tokens, alone.truncated)
        assert identified(row).key == identified(alone).key
        assert not mask.flags.writeable  # texts share it


def test_embed_is_prepare_infer_finish(encoder: Encoder) -> None:
    rows = encoder.prepare(TEXTS, role="query", truncation="truncate")
    assert [array.shape for array in rows[1].arrays] == [(2,), (2,)]
    steps = encoder.finish(encoder.infer(rows), dims=8, encoding="int8")
    assert np.array_equal(steps, encoder.embed(TEXTS, role="query", dims=8, encoding="int8"))


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("dims", [8, 16])
def test_dims_and_encoding_are_those_of_the_full_vector(
    encoder: Encoder, encoding: Encoding, dims: int
) -> None:
    full = encoder.embed(TEXTS).vectors
    embeddings = encoder.embed(TEXTS, dims=dims, encoding=encoding)
    ranges = encoder.manifest.ranges
    assert ranges is not None
    expected = encode(slice_dims(full, dims), encoding, ranges.at(dims))
    step = 1 if encoding == "int8" else 1e-3 if encoding == "f16" else 1e-6
    assert np.allclose(embeddings.vectors, expected, atol=step)
    assert (embeddings.dims, embeddings.encoding) == (dims, encoding)
    back = decode(embeddings.vectors, encoding, ranges.at(dims))
    cosine = (back * slice_dims(full, dims)).sum(axis=1) / np.linalg.norm(back, axis=1)
    assert cosine.min() > (0.6 if encoding == "binary" else 0.995)


def test_a_zero_vector_is_cut_to_zeros_and_not_to_nan(encoder: Encoder, images: Encoder) -> None:
    zeros = np.zeros((1, 16), np.float32)
    assert not encoder.finish(zeros, dims=8).any()
    assert not images.embed(np.zeros((1, 1, 8, 8), np.float32)).vectors.any()


def test_embeddings_are_an_array_wherever_one_is_expected(encoder: Encoder) -> None:
    embeddings = encoder.embed(["the cat", "the dog"])
    assert len(embeddings) == 2
    assert np.shares_memory(np.asarray(embeddings), embeddings.vectors)
    assert np.asarray(embeddings, np.float64).dtype == np.float64
    assert np.array_equal(embeddings[1], embeddings.vectors[1])
    assert np.array_equal(embeddings[:1], embeddings.vectors[:1])


def test_truncation_keeps_the_special_tokens_and_is_reported(encoder: Encoder) -> None:
    long = "cat " * 15
    embeddings = encoder.embed([long, "cat " * 14, "cat"])
    assert embeddings.tokens.tolist() == [16, 16, 3]
    assert embeddings.truncated.tolist() == [True, False, False]
    (row,) = encoder.prepare([long])
    assert row.arrays[0][[0, -1]].tolist() == [2, 3]  # [CLS], [SEP]


def test_an_item_too_long_is_named_with_its_length_and_the_limit(encoder: Encoder) -> None:
    with pytest.raises(InputTooLong, match="item 1 has 52 tokens and the encoder takes 16"):
        encoder.embed(["cat", "cat " * 50], truncation="error")


def test_the_roles_prompt_stands_before_the_text(tmp_path: Path) -> None:
    prompts = {"query": "query: ", "passage": ""}
    encoder = attar.load(tiny_bundle(tmp_path / "x", prompts=prompts), threads=1)
    query, passage = (encoder.embed(["cat"], role=role) for role in ("query", "passage"))
    assert np.array_equal(query.vectors, encoder.embed(["query: cat"]).vectors)
    assert (query.tokens[0], passage.tokens[0]) == (5, 3)


def test_the_tokenizers_own_padding_and_truncation_are_not_used(tmp_path: Path) -> None:
    manifest = text_manifest()
    files = text_files(manifest)
    tokenizer = Tokenizer.from_str(files["tokenizer.json"].decode())
    tokenizer.enable_padding(length=12)
    tokenizer.enable_truncation(4)
    files["tokenizer.json"] = tokenizer.to_str().encode()
    encoder = attar.load(attar.Bundle.write(tmp_path / "x", manifest, files).path, threads=1)
    assert encoder.embed(["cat", "cat " * 9]).tokens.tolist() == [3, 11]


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (["cat", 3], "item 1 must be a string; got int"),
        (["cat", None], "item 1 must be a string; got NoneType"),
        (["cat", b"dog"], "item 1 must be a string; got bytes"),
        (["cat", "ab\ud800"], "item 1 has half of a surrogate pair at character 2"),
        ("cat", "items must be a list; got str: wrap it in a list"),
        (None, "items must be a list; got NoneType"),
    ],
)
def test_a_bad_item_is_named_by_its_index(encoder: Encoder, items: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        encoder.embed(items)


def test_token_ids_are_taken_as_they_are(encoder: Encoder) -> None:
    texts = ["the cat sat on the mat", "sun"]
    ids = [row.arrays[0] for row in encoder.prepare(texts)]
    for same in (ids, [one.tolist() for one in ids], [tuple(one.tolist()) for one in ids]):
        found = encoder.embed(same, role="query")  # no prompt is added
        assert np.array_equal(found, encoder.embed(texts))
    assert not found.truncated.any()


@pytest.mark.parametrize(
    ("items", "message"),
    [
        (
            [[2, 4, 3], [4, -1]],
            r"item 1 has token id -1 at 1, .* another.* this one's are 0 to \d+",
        ),
        ([[4, 10**6]], "item 0 has token id 1000000 at 1"),
        ([[2, 4, 3], [10**30]], "item 1 has token id 10000.* at 0, which is another tokenizer's"),
        ([[2, 4, 3], []], "item 1 has no tokens"),
        ([[2, 4, 3], [4.5]], "item 1 must be a flat list of token ids"),
        ([[2, 4, 3], "cat"], "item 1 must be a flat list of token ids"),
        ([[2, 4, 3], [[4]]], "item 1 must be a flat list of token ids"),
        ([[2, 4, 3], [[4], [4, 5]]], "item 1 must be a flat list of token ids"),
        ([[2, 4, 3], [True]], "item 1 must be a flat list of token ids"),
        ([[4] * 17], "item 0 has 17 tokens and the encoder takes 16; .* never cut"),
    ],
)
def test_bad_token_ids_are_refused_by_index(encoder: Encoder, items: Any, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        encoder.embed(items)


def test_equal_items_have_equal_keys_and_others_do_not(encoder: Encoder, images: Encoder) -> None:
    one, two, three = map(identified, encoder.prepare(["the cat", "the  cat", "a cat"]))
    assert one.key == two.key != three.key
    pixels = np.zeros((1, 8, 8), np.float32)
    zero, again, other = map(identified, images.prepare([pixels, pixels.copy(), pixels + 1]))
    assert zero.key == again.key != other.key


def test_a_bad_option_is_named_with_those_there_are(encoder: Encoder) -> None:
    with pytest.raises(InvalidInput, match=r"dims must be one .* \[8, 16\]; got 4"):
        encoder.embed(["cat"], dims=4)
    with pytest.raises(InvalidInput, match=r"encoding must be one of f32, .*; got 'f8'"):
        encoder.embed(["cat"], encoding="f8")  # type: ignore[arg-type]  # as untyped code might
    with pytest.raises(InvalidInput, match="role must be one of passage, query; got 'user'"):
        encoder.embed(["cat"], role="user")
    with pytest.raises(InvalidInput, match=r"truncation must be one of .*; got 'no'"):
        encoder.embed(["cat"], truncation="no")  # type: ignore[arg-type]  # as untyped code might


def test_tensors_are_taken_as_arrays_or_lists_of_arrays(images: Encoder) -> None:
    rng = np.random.default_rng(0)
    batch = rng.random((5, 1, 8, 8), np.float32)
    embeddings = images.embed(batch)
    assert np.array_equal(embeddings.vectors, images.embed(list(batch)).vectors)
    assert np.allclose(embeddings.vectors, images.embed(batch.astype(np.float64)).vectors)
    assert embeddings.tokens.tolist() == [1] * 5
    assert np.allclose(np.linalg.norm(embeddings.vectors, axis=1), 1, atol=1e-6)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.zeros((8, 8), np.float32), r"item 1 has shape \(8, 8\); image must be float32 \(1, 8"),
        (np.zeros((1, 8, 9), np.float32), r"item 1 has shape \(1, 8, 9\)"),
        (np.zeros((1, 8, 8), np.complex64), "item 1 has dtype complex64"),
        (np.full((1, 8, 8), "x"), "item 1 has dtype <U1"),
    ],
)
def test_a_tensor_of_another_shape_or_dtype_is_refused(
    images: Encoder, bad: NDArray[np.float32], message: str
) -> None:
    with pytest.raises(ShapeError, match=message):
        images.embed([np.zeros((1, 8, 8), np.float32), bad])


def test_a_tensor_that_is_not_finite_is_refused_alone_and_early(images: Encoder) -> None:
    batch = np.ones((3, 1, 8, 8), np.float32)
    batch[2, 0, 0, 0] = np.nan
    with pytest.raises(InvalidInput, match="item 2 holds a NaN or an infinity"):
        images.embed(batch)


def test_a_row_the_graph_cannot_hold_is_never_given_as_a_vector(images: Encoder) -> None:
    batch = np.ones((2, 1, 8, 8), np.float32)
    batch[1] *= 1e38  # finite, but its squares are not
    rows = images.infer(images.prepare(batch))
    assert np.isfinite(rows[0]).all()
    with pytest.raises(BackendError, match=r"variant fp32 gave NaN or infinity for rows \[1\]"):
        images.finish(rows)


def test_threads_may_share_one_encoder(encoder: Encoder) -> None:
    texts = [" ".join(WORDS[i % 7 : i % 7 + i % 5]) for i in range(64)]
    expected = encoder.embed(texts).vectors
    with ThreadPoolExecutor(8) as pool:
        rows = list(pool.map(lambda text: encoder.embed([text]).vectors[0], texts * 4))
    assert np.abs(np.array(rows) - np.tile(expected, (4, 1))).max() <= 1e-6


def test_the_encoder_says_what_it_is(encoder: Encoder) -> None:
    assert (encoder.dim, encoder.dims, encoder.max_length) == (16, (8, 16), 16)
    assert (encoder.modality, encoder.variant.name) == ("text", "fp32")
    assert encoder.fingerprint == encoder.bundle.manifest.fingerprint
    embeddings = encoder.embed(["cat"])
    assert (embeddings.fingerprint, embeddings.variant) == (encoder.fingerprint, "fp32")


# Which variant is run.

VARIANTS = ("fp32", "fp16", "int8", "vnni")


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bundle(
        tmp_path_factory.mktemp("many") / "x",
        variants=VARIANTS,
        latency_ms={"fp32": 4.0, "fp16": 3.0, "int8": 2.0, "vnni": 1.0},
        cpu_flags={"vnni": ["no_such_flag"]},
    )


def test_the_fastest_variant_that_this_cpu_runs_is_chosen(many: Path) -> None:
    assert attar.load(many, threads=1).variant.name == "int8"
    assert attar.load(many, threads=1, max_latency_ms=3.5).variant.name == "int8"
    assert attar.load(many, threads=1, variant="fp16").variant.name == "fp16"


def test_a_variant_without_its_cpu_flag_is_refused_by_name(many: Path) -> None:
    with pytest.raises(NotSupported, match="variant vnni needs CPU flag no_such_flag"):
        attar.load(many, variant="vnni")


def test_a_flag_that_this_cpu_has_is_enough(tmp_path: Path) -> None:
    flags = {"fp32": sorted(cpu_flags())[:3]}
    path = tiny_bundle(tmp_path / "x", cpu_flags=flags)
    assert attar.load(path, threads=1).variant.name == "fp32"


def test_what_was_not_proven_on_this_cpu_comes_after_the_reference(tmp_path: Path) -> None:
    latency = {"fp32": 4.0, "int8": 2.0}
    for name, proven_on, chosen in (
        ("here", ["other", instruction_set()], "int8"),
        ("elsewhere", ["other"], "fp32"),
        ("nowhere", [], "fp32"),
    ):
        path = tiny_bundle(
            tmp_path / name, variants=("fp32", "int8"), latency_ms=latency, proven_on=proven_on
        )
        assert attar.load(path, threads=1).variant.name == chosen
        # Who asks for it, by its name or by a limit that nothing else keeps, gets it.
        assert attar.load(path, threads=1, variant="int8").variant.name == "int8"
        assert attar.load(path, threads=1, max_latency_ms=3.0).variant.name == "int8"
    with pytest.raises(InvalidInput, match=rf"int8 \(.*, not proven on {instruction_set()}\)"):
        attar.load(path, max_latency_ms=1.0)


def test_a_variant_for_another_provider_is_refused_by_name_and_never_chosen(tmp_path: Path) -> None:
    manifest = text_manifest(variants=("fp32", "fp16"), latency_ms={"fp32": 4.0, "fp16": 1.0})
    gpu = Requires(provider="CUDAExecutionProvider")
    variants = (manifest.variants[0], replace(manifest.variants[1], requires=gpu))
    path = Bundle.write(
        tmp_path / "x", replace(manifest, variants=variants), text_files(manifest)
    ).path
    assert attar.load(path, threads=1).variant.name == "fp32"
    with pytest.raises(NotSupported, match="variant fp16 needs CUDAExecutionProvider, which"):
        attar.load(path, variant="fp16")


def test_limits_that_no_variant_keeps_are_answered_with_every_number(many: Path) -> None:
    with pytest.raises(InvalidInput) as caught:
        attar.load(many, max_latency_ms=1.5, max_bytes=10)
    words = str(caught.value)
    assert "within max_latency_ms=1.5, max_bytes=10" in words
    size = (many / "variants/int8.onnx").stat().st_size
    assert f"int8 (2.0 ms, {size} bytes)" in words
    assert f"vnni (1.0 ms, {size} bytes, needs CPU flag no_such_flag)" in words


def test_without_recorded_latency_the_reference_is_run(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "x", variants=("fp32", "int8"))
    assert attar.load(path, threads=1).variant.name == "fp32"
    with pytest.raises(InvalidInput, match=r"fp32 \(no recorded latency, \d+ bytes\)"):
        attar.load(path, max_latency_ms=1e9)


def test_bad_options_of_load_are_refused(many: Path) -> None:
    with pytest.raises(NotFound, match="it has fp32, fp16, int8, vnni"):
        attar.load(many, variant="fp64")
    with pytest.raises(InvalidInput, match=r"threads must be 1 or more, or None .*; got 0"):
        attar.load(many, threads=0)
    with pytest.raises(InvalidInput, match="variant 'fp32' is named, so max_latency_ms"):
        attar.load(many, variant="fp32", max_bytes=1)


def test_bytes_may_be_written_as_a_float(many: Path) -> None:
    assert attar.load(many, threads=1, max_bytes=50e6).variant == attar.load(many).variant


def test_the_bundle_may_go_once_it_is_loaded(bundle_path: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(bundle_path, tmp_path / "x"))
    encoder = attar.load(path, threads=1)
    shutil.rmtree(path)
    assert len(encoder.embed(["cat"])) == 1


def test_the_instruction_set_is_the_machine_and_its_dot_product_of_bytes() -> None:
    machine, _, product = instruction_set().partition("-")
    assert machine in ("x86_64", "aarch64")
    known = {"avx512_vnni", "avx_vnni", "i8mm", "asimddp"} & cpu_flags()
    assert bool(product) == bool(known)
    assert describe()["instruction_set"] == instruction_set()


def test_a_host_is_described_without_saying_whose_it_is() -> None:
    described = str(describe()).lower()
    for secret in (platform.node(), getpass.getuser(), str(Path.home())):
        assert secret.lower() not in described
    assert {"cpu", "cpu_flags", "cores", "system", "onnxruntime"} <= describe().keys()
