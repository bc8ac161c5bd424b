"""Fusing: the same numbers from fewer nodes, and no work on padding."""

from functools import cache
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray

from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.export.onnx_graph import node_counts
from attar.export.passes.fuse import fuse
from attar.export.text import text_graph
from attar.training.encoders.text import TextEncoder
from benchmarks.support.bundles import VOCABULARY, text_files, text_manifest
from benchmarks.support.bundles import text_graph as averaging_graph
from benchmarks.support.encoders import tiny_encoder, tiny_shape

from ...support.students import binarized_graph

ROUNDING = 1e-6
NORMS = ("post", "pre")


@cache
def encoder_of(norm: str) -> TextEncoder:
    return tiny_encoder(tiny_shape(norm="pre" if norm == "pre" else "post", max_length=32))


@cache
def graphs(norm: str) -> tuple[bytes, bytes]:
    standard = text_graph(encoder_of(norm))
    return standard, fuse(standard)


def session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def batch(lengths: list[int], width: int) -> dict[str, NDArray[np.int64]]:
    mask = (np.arange(width) < np.array(lengths)[:, None]).astype(np.int64)
    ids = np.random.default_rng(width).integers(4, len(VOCABULARY), mask.shape)
    return {"input_ids": ids * mask, "attention_mask": mask}


def embed(graph: bytes, feed: dict[str, NDArray[np.int64]]) -> NDArray[np.float32]:
    (embeddings,) = session(graph).run(["embedding"], feed)
    return np.asarray(embeddings)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize(
    ("lengths", "width"), [([1], 1), ([32], 32), ([2, 3], 3), ([7, 1, 5, 2, 11], 11), ([3, 2], 20)]
)
def test_a_fused_graph_gives_torchs_numbers_for_any_batch_length_and_padding(
    norm: str, lengths: list[int], width: int
) -> None:
    feed = batch(lengths, width)
    with torch.no_grad():
        expected = encoder_of(norm)(*(torch.from_numpy(value) for value in feed.values())).numpy()

    assert np.abs(embed(graphs(norm)[1], feed) - expected).max() <= ROUNDING


@pytest.mark.parametrize("norm", NORMS)
def test_a_row_alone_equals_the_row_in_a_batch_whatever_stands_on_padding(norm: str) -> None:
    feed = batch([7, 1, 5, 2, 11], 11)
    fused = session(graphs(norm)[1])
    noise = {**feed, "input_ids": np.where(feed["attention_mask"] == 1, feed["input_ids"], 7)}

    (together,) = fused.run(None, feed)

    assert np.abs(fused.run(None, noise)[0] - together).max() <= ROUNDING
    for i, length in enumerate(feed["attention_mask"].sum(axis=1)):
        (alone,) = fused.run(None, {k: v[i : i + 1, :length] for k, v in feed.items()})
        assert np.abs(alone[0] - together[i]).max() <= ROUNDING


@pytest.mark.parametrize("norm", NORMS)
def test_every_layers_attention_and_gelu_are_fused(norm: str) -> None:
    depth = len(encoder_of(norm).transformer.blocks)
    before, after = (node_counts(graph) for graph in graphs(norm))

    assert (before["Softmax"], before["Gelu"]) == (depth, depth)
    assert after["MultiHeadAttention"] == after["BiasGelu"] == depth
    assert not {"Softmax", "Gelu", "Transpose"} & after.keys()
    assert list(before.values()) == sorted(before.values(), reverse=True)


@pytest.mark.parametrize("norm", NORMS)
def test_products_with_a_matrix_never_meet_padding(norm: str) -> None:
    model = onnx.load_from_string(graphs(norm)[1])
    matrices = {tensor.name for tensor in model.graph.initializer if len(tensor.dims) == 2}
    entering = [
        node.input[0]
        for node in model.graph.node
        if node.op_type == "MatMul" and node.input[1] in matrices
    ]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in entering)
    feed = batch([7, 1, 5, 2], 11)

    values = session(model.SerializeToString()).run(entering, feed)

    assert len(entering) == 6 * len(encoder_of(norm).transformer.blocks)
    assert {len(value) for value in values} == {15}  # tokens, of 44 places


def test_a_bundle_may_hold_a_fused_graph(tmp_path: Path) -> None:
    model = onnx.load_from_string(graphs("post")[1])
    assert {opset.domain for opset in model.opset_import} == {"", "com.microsoft"}
    manifest = text_manifest()
    files = {**text_files(manifest), "variants/fp32.onnx": graphs("post")[1]}
    assert Bundle.write(tmp_path / "x", manifest, files).manifest.variants[0].name == "fp32"


def test_fusing_twice_gives_the_same_bytes() -> None:
    assert fuse(graphs("post")[0]) == graphs("post")[1]


@pytest.mark.parametrize("graph", ["averaging", "binarized"])
def test_a_graph_without_softmax_attention_is_refused(graph: str) -> None:
    with pytest.raises(InvalidInput, match="no softmax attention under a padding mask was found"):
        fuse(averaging_graph() if graph == "averaging" else binarized_graph())
