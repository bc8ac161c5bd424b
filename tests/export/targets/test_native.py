"""attar-native's operator: the numbers of the standard graph, and a library nobody must have."""

import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import attar_native
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

import attar
from attar.bundle import Bundle
from attar.errors import InvalidInput, NotSupported
from attar.export.cost.count import INPUTS, Count, total
from attar.export.graph import to_onnx
from attar.export.measure import cosine
from attar.export.passes.binarized import quantize_binarized
from attar.export.targets.native import NATIVE, OPERATOR, use_native
from attar.export.text import export_text
from attar.manifest import Requires, TensorSpec
from attar.native import DOMAIN, LIBRARY
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.data.text import pad
from attar.training.encoders.attention import BinarizedAttention
from benchmarks.support.bundles import text_files, text_manifest, tokenizer_json
from benchmarks.support.encoders import random_rows, random_texts, tiny_encoder

from ...support.graphs import counted, encoder_graph
from ...support.students import binarized, texts, trained

ROOT = Path(__file__).parents[3]
DOUBTFUL = 1e-6  # a projection so near zero may have either sign by the order of its sum alone

Floats = NDArray[np.float32]
Feed = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Learned:
    """What a layer has learned, as the operator takes it."""

    anchors: Floats  # (heads, depth, m)
    mean: Floats  # (heads, 1, m)
    hash: Floats  # (heads, m, bits)
    sigma: Floats | None  # (heads, 1, 1)
    beta: float

    @property
    def width(self) -> int:
        heads, depth, _ = self.anchors.shape
        return int(heads * depth)


def learned(
    *, heads: int = 2, depth: int = 16, anchors: int = 25, bits: int = 16, own: bool = False
) -> Learned:
    draw = np.random.default_rng(bits)
    directions = draw.standard_normal((heads, depth, anchors)).astype(np.float32)
    return Learned(
        anchors=directions / np.linalg.norm(directions, axis=1, keepdims=True),
        mean=np.full((heads, 1, anchors), 0.6, np.float32),
        hash=draw.standard_normal((heads, anchors, bits)).astype(np.float32),
        sigma=None if own else draw.uniform(1.5, 2.5, (heads, 1, 1)).astype(np.float32),
        beta=float(bits + 1),
    )


def operator(layer: Learned, *, masked: bool = False) -> bytes:
    """Make a graph of the operator alone."""
    weights = {"anchors": layer.anchors, "mean": layer.mean, "hash": layer.hash}
    if layer.sigma is not None:
        weights["sigma"] = layer.sigma
    names = ["query_key", "value", "anchors", "mean", "hash"]
    names += ["sigma" if "sigma" in weights else "", "mask" if masked else ""]
    node = helper.make_node(OPERATOR, names, ["out"], domain=DOMAIN, beta=layer.beta)
    shape: list[str | int | None] = ["batch", "length", layer.width]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n in names[:2]]
    if masked:
        inputs.append(helper.make_tensor_value_info("mask", TensorProto.BOOL, shape[:2]))
    graph = helper.make_graph(
        [node],
        "attention",
        inputs,
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, 1)]
    made: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString()
    return made


def session(graph: bytes, *, threads: int = 1, library: Path | None = None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.register_custom_ops_library(str(library or attar_native.LIBRARY))
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def run(graph: bytes, feed: Feed, *names: str, threads: int = 1) -> list[Floats]:
    """Run a graph, and give the named values inside it."""
    model = onnx.load_from_string(graph)
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    return list(session(model.SerializeToString(), threads=threads).run(None, feed))


def projections(layer: Learned, query_key: Floats, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Give what codes are the signs of, in float64: (batch, heads, tokens, bits)."""
    heads, depth, _ = layer.anchors.shape
    x = query_key.astype(np.float64).reshape(*query_key.shape[:2], heads, depth)
    x = x.transpose(0, 2, 1, 3) / np.linalg.norm(x, axis=-1).transpose(0, 2, 1)[..., None]
    distance = 2 - 2 * x @ layer.anchors
    real = np.broadcast_to(mask[:, None, :, None], distance.shape)
    own = distance.mean((2, 3), keepdims=True, where=real)
    sigma = own if layer.sigma is None else layer.sigma
    signed: NDArray[np.float64] = (np.exp(distance / (-2 * sigma)) - layer.mean) @ layer.hash
    return signed


def quadratic(layer: Learned, feed: Feed) -> tuple[Floats, NDArray[np.bool_]]:
    """Give attention by its definition, all weights written out, and which rows are in no doubt."""
    query_key, value = feed["query_key"], feed["value"]
    mask = feed.get("mask", np.ones(query_key.shape[:2], bool))
    projected = projections(layer, query_key, mask)
    h = np.where(projected >= 0, 1.0, -1.0)
    weights = (h @ h.transpose(0, 1, 3, 2) + layer.beta) * mask[:, None, None, :]
    heads, depth, _ = layer.anchors.shape
    v = value.astype(np.float64).reshape(*value.shape[:2], heads, depth).transpose(0, 2, 1, 3)
    mixed = weights @ v / weights.sum(-1, keepdims=True)
    out = mixed.transpose(0, 2, 1, 3).reshape(value.shape) * mask[..., None]
    near = np.abs(projected).min((1, 3)) < DOUBTFUL  # (batch, tokens)
    return out.astype(np.float32), ~(near & mask).any(1)


def batch_of(layer: Learned, rows: int, tokens: int, *, seed: int = 0, masked: bool = True) -> Feed:
    draw = np.random.default_rng(seed)
    shape = (rows, tokens, layer.width)
    feed: Feed = {n: draw.standard_normal(shape, np.float32) for n in ("query_key", "value")}
    if masked:
        feed["mask"] = draw.random((rows, tokens)) < 0.7
        feed["mask"][:, 0] = True
    return feed


LAYERS = st.builds(
    learned,
    heads=st.integers(1, 3),
    depth=st.integers(2, 70),  # of one number, a row's own sigma may be 0
    anchors=st.integers(1, 70),
    bits=st.integers(1, 32),
    own=st.booleans(),
)


@settings(max_examples=60, deadline=None)
@given(layer=LAYERS, tokens=st.integers(1, 33), masked=st.booleans(), seed=st.integers(0, 99))
def test_any_sizes_give_what_the_definition_gives(
    *, layer: Learned, tokens: int, masked: bool, seed: int
) -> None:
    feed = batch_of(layer, 3, tokens, seed=seed, masked=masked)
    expected, certain = quadratic(layer, feed)
    (given_,) = session(operator(layer, masked=masked)).run(None, feed)
    assert given_.shape == feed["value"].shape
    np.testing.assert_allclose(given_[certain], expected[certain], atol=2e-5)


@pytest.mark.parametrize("bits", [1, 3, 4, 15, 16, 17, 32])
def test_sums_by_nibbles_are_bit_for_bit_those_of_an_integer_product(bits: int) -> None:
    layer = learned(heads=1, depth=19, bits=bits)
    feed = batch_of(layer, 1, 1300, masked=False)  # three blocks
    (found,) = projections(layer, feed["query_key"], np.ones((1, 1300), bool))[0]
    feed["query_key"] = feed["query_key"][:, np.all(np.abs(found) > 1e-4, axis=1)]
    n = feed["query_key"].shape[1]
    assert n > 1024
    whole = np.random.default_rng(1).integers(-9, 10, (n, layer.width))
    feed["value"] = whole[None].astype(np.float32)
    h = np.where(projections(layer, feed["query_key"], np.ones((1, n), bool))[0, 0] >= 0, 1, -1)
    beta = bits + 1
    numerator = h @ (h.T @ whole) + beta * whole.sum(0)
    denominator = h @ h.sum(0) + n * beta
    assert max(np.abs(numerator).max(), denominator.max()) < 2**24  # so exact in float32
    (given_,) = session(operator(layer)).run(None, feed)
    share = np.float32(1) / denominator.astype(np.float32)
    np.testing.assert_array_equal(given_[0], numerator.astype(np.float32) * share[:, None])


class Masked(nn.Module):
    """One layer of attention, from tokens and a mask of numbers."""

    def __init__(self, attention: BinarizedAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.attention(tokens, mask.bool())
        return mixed


@pytest.mark.parametrize("static", [True, False])
def test_the_operator_gives_what_the_standard_graph_gives(*, static: bool) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = BinarizedAttention(48, 3, static_sigma=static)
        example = (torch.randn(2, 4, 48), torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]]))
    specs = (
        TensorSpec(name="tokens", dtype="float32", shape=("batch", "length", 48)),
        TensorSpec(name="mask", dtype="int64", shape=("batch", "length")),
    )
    graph = to_onnx(Masked(attention), example, specs, output="mixed")
    draw = np.random.default_rng(0)
    mask = np.arange(40) < draw.integers(1, 41, (64, 1))
    feed: Feed = {
        "tokens": draw.standard_normal((64, 40, 48), np.float32),
        "mask": mask.astype(np.int64),
    }
    compare = next(n for n in onnx.load_from_string(graph).graph.node if "Greater" in n.op_type)
    expected, projected = run(graph, feed, compare.input[0])
    (given_,) = run(use_native(graph), feed)
    near = np.any(np.abs(projected) < DOUBTFUL, axis=(1, 3)) & mask
    doubtful = np.any(near, axis=1)  # one flipped code is in every sum of its row
    assert doubtful.sum() <= 2, f"{near.sum()} tokens have a projection within {DOUBTFUL} of zero"
    certain = mask & ~doubtful[:, None]
    np.testing.assert_allclose(given_[certain], expected[certain], atol=1e-5)
    assert np.isfinite(given_).all()


def feed_of_texts(seed: int = 0) -> Feed:
    ids, mask = pad(random_rows(64, seed=seed))
    return {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}


@pytest.mark.parametrize("kind", ["binarized", "static"])
def test_every_binarized_layer_of_an_encoder_becomes_one_node(kind: str) -> None:
    graph = encoder_graph(kind)
    native = use_native(graph)
    nodes = onnx.load_from_string(native).graph.node
    assert [node.op_type for node in nodes].count(OPERATOR) == 2
    assert not {"GreaterOrEqual", "Exp"} & {node.op_type for node in nodes}
    (expected,), (given_,) = (run(g, feed_of_texts()) for g in (graph, native))
    assert cosine(given_, expected).min() > 0.99999


def test_in_int8_too_and_values_are_not_rounded() -> None:
    exact = encoder_graph("binarized")
    graph = quantize_binarized(exact, [feed_of_texts()])
    native = use_native(graph)
    kinds = [node.op_type for node in onnx.load_from_string(native).graph.node]
    assert kinds.count(OPERATOR) == 2
    assert "MatMulInteger" not in kinds
    fed = feed_of_texts(seed=1)
    (truth,), (rounded,), (given_,) = (run(g, fed) for g in (exact, graph, native))
    assert cosine(given_, rounded).min() > 0.999
    assert cosine(given_, truth).mean() >= cosine(rounded, truth).mean() - 1e-4


def test_attention_that_is_not_understood_is_left_alone_and_alone_refused() -> None:
    for kind in ("softmax", "own"):
        with pytest.raises(InvalidInput, match="no binarized attention that attar-native knows"):
            use_native(encoder_graph(kind))


@cache
def long_batch() -> tuple[bytes, Feed]:
    layer = learned(heads=3, depth=24, own=True)
    return operator(layer, masked=True), batch_of(layer, 3, 1100)


def test_a_row_alone_is_bit_for_bit_the_row_in_a_batch() -> None:
    graph, feed = long_batch()
    running = session(graph)
    (together,) = running.run(None, feed)
    for row in range(3):
        (alone,) = running.run(None, {name: array[row : row + 1] for name, array in feed.items()})
        np.testing.assert_array_equal(alone[0], together[row])
        longest = np.flatnonzero(feed["mask"][row])[-1] + 1  # without the padding behind it
        cut = {name: array[row : row + 1, :longest] for name, array in feed.items()}
        np.testing.assert_array_equal(running.run(None, cut)[0][0], together[row, :longest])


def test_threads_share_the_work_and_change_no_bit() -> None:
    graph, feed = long_batch()
    (one,), (two,) = (session(graph, threads=threads).run(None, feed) for threads in (1, 2))
    np.testing.assert_array_equal(one, two)


def test_padding_and_rows_of_nothing_else_give_zeros() -> None:
    graph, feed = long_batch()
    feed = {**feed, "mask": feed["mask"] & (np.arange(3) < 2)[:, None]}
    (given_,) = session(graph).run(None, feed)
    assert (given_[~feed["mask"]] == 0).all()
    assert np.isfinite(given_).all()
    none = {name: array[:0] for name, array in feed.items()}
    assert session(graph).run(None, none)[0].shape == (0, 1100, 72)


def test_the_body_that_other_machines_run_gives_the_same_numbers(tmp_path: Path) -> None:
    """Compiled without x86-64's wider vectors, as for ARM64: where the project has not run it."""
    compiler = shutil.which("c++")
    assert compiler, "make test compiles attar-native, so a C++ compiler is there"
    library = tmp_path / "portable.so"
    sources = sorted((ROOT / "native/src").glob("*.cpp"))
    flags = ("-std=c++17", "-O2", "-fPIC", "-shared", "-Wno-psabi", "-DATTAR_NATIVE_PORTABLE")
    subprocess.run([compiler, *flags, *sources, "-o", library], check=True, timeout=100)
    graph, feed = long_batch()
    (here,) = session(graph).run(None, feed)
    (there,) = session(graph, library=library).run(None, feed)
    np.testing.assert_allclose(here, there, atol=1e-6)


def misfit(layer: Learned, **changed: Any) -> bytes:
    return operator(replace(layer, **changed))


def test_a_graph_whose_weights_do_not_fit_is_refused_before_it_runs() -> None:
    layer = learned()
    with pytest.raises(Exception, match="a code has at most 32 bits; got 33"):
        session(misfit(layer, hash=np.zeros((2, 25, 33), np.float32)))
    with pytest.raises(Exception, match=r"mean must be \(heads, 1, anchors\); got \(2, 1, 24\)"):
        session(misfit(layer, mean=layer.mean[..., :24]))
    with pytest.raises(Exception, match=r"sigma must be \(heads, 1, 1\); got \(1, 1, 1\)"):
        session(misfit(layer, sigma=np.ones((1, 1, 1), np.float32)))


def test_inputs_that_do_not_fit_fail_and_the_next_run_works() -> None:
    layer = learned()
    running, feed = session(operator(layer, masked=True)), batch_of(layer, 2, 5)
    with pytest.raises(Exception, match=r"value must be of query_key's shape; got \(2, 4, 32\)"):
        running.run(None, {**feed, "value": feed["value"][:, :4]})
    with pytest.raises(Exception, match=r"mask must be \(batch, tokens\); got \(2, 4\)"):
        running.run(None, {**feed, "mask": feed["mask"][:, :4]})
    assert running.run(None, feed)[0].shape == (2, 5, 32)


def outside(counts: Count) -> int:
    """Count what is neither attention nor done to the mask."""
    return total(n for n in counts.nodes if not n.attention and n.layer != INPUTS).multiplications


def test_its_operations_are_counted_as_attention_and_are_fewer() -> None:
    graph = encoder_graph("static")
    standard, native = (counted(g) for g in (graph, use_native(graph)))
    assert native.unknown == {}
    assert {n.layer for n in native.nodes if n.kind == OPERATOR} == {
        n.layer for n in standard.nodes if n.attention
    }
    assert outside(native) == outside(standard)
    less, more = (
        total(n for n in counts.nodes if n.attention).additions for counts in (native, standard)
    )
    assert less < more


def bundle_that_needs(tmp_path: Path, library: str) -> Path:
    manifest = text_manifest(variants=("fp32", "native"), latency_ms={"fp32": 4.0, "native": 1.0})
    needs = replace(manifest.variants[1], requires=Requires(library=library))
    manifest = replace(manifest, variants=(manifest.variants[0], needs))
    return Bundle.write(tmp_path / "x", manifest, text_files(manifest)).path


def test_without_the_library_a_variant_is_refused_by_name_and_never_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = bundle_that_needs(tmp_path, LIBRARY)
    assert Bundle.open(path).manifest.variant("native").requires == Requires(library=LIBRARY)
    assert attar.load(path, threads=1).variant.name == "native"
    monkeypatch.setitem(sys.modules, "attar_native", None)  # as if it were not installed
    assert attar.load(path, threads=1).variant.name == "fp32"
    with pytest.raises(
        NotSupported,
        match=r"native needs the library attar-native, .*; pip install attar-native, or choose",
    ):
        attar.load(path, variant="native")


def test_a_library_that_attar_does_not_know_is_never_opened(tmp_path: Path) -> None:
    path = bundle_that_needs(tmp_path, "numpy")
    assert attar.load(path, threads=1).variant.name == "fp32"
    with pytest.raises(NotSupported, match="needs the library numpy, which this machine lacks"):
        attar.load(path, variant="native")


STANDARD = ("binarized", "binarized_int8")


@pytest.mark.slow
def test_native_variants_pass_the_gates_and_their_library_is_registered(tmp_path: Path) -> None:
    bundle = export_text(
        tmp_path / "x.attar",
        trained(),
        name="x",
        texts=texts()[:40],
        probe=None,
        metric=None,
        variants=("binarized_int8", *NATIVE),
        binarized=binarized(),
    ).bundle
    words = texts()[:40]
    for name in STANDARD:
        standard, native = bundle.variant(name), bundle.variant(f"{name}_native")
        assert (standard.requires.library, native.requires.library) == (None, LIBRARY)
        assert (native.precision, native.attention) == (standard.precision, "binarized")
        assert native.parity["cosine_mean"] >= standard.parity["cosine_mean"] - 0.002
        assert native.latency is not None
        pair = [attar.load(bundle.path, variant=v.name, threads=1) for v in (standard, native)]
        one, other = (encoder.embed(words).vectors for encoder in pair)
        assert cosine(one, other).min() > 0.995
    assert [v.name for v in bundle.manifest.variants] == ["fp32", *STANDARD, *NATIVE]


def export_tiny(path: Path, variants: tuple[str, ...]) -> None:
    """Export an encoder without binarized attention."""
    model = TextModel(encoder=tiny_encoder(), tokenizer=tokenizer_json())
    words = random_texts(8)
    export_text(path, model, name="x", texts=words, probe=None, metric=None, variants=variants)


def test_a_native_variant_of_what_is_not_attempted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="binarized_native is binarized with a native operator"):
        export_tiny(tmp_path / "x", ("binarized_native",))
    assert not (tmp_path / "x").exists()


def test_a_native_variant_is_not_attempted_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "attar_native", None)
    with pytest.raises(NotSupported, match=r"binarized_native needs .*; pip install attar-native"):
        export_tiny(tmp_path / "x", NATIVE)
    assert not (tmp_path / "x").exists()
