"""An exported graph is the torch encoder: its numbers, its axes, its names and nothing else."""

import copy
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import attar
from attar.bundle import Bundle
from attar.errors import AlreadyExists, InvalidInput
from attar.export.graph import OPSET, to_onnx
from attar.export.measure import cosine
from attar.export.text import INPUTS, export_text, text_graph
from attar.manifest import TensorSpec
from attar.training.distillation.wide_start import widened
from attar.training.encoders.text import TextEncoder

from ..support.students import (
    MAX_LENGTH,
    VOCABULARY,
    binarized,
    binarized_graph,
    embed_in_torch,
    student_graph,
    texts,
    trained,
)

ENCODERS = ("softmax", "binarized")


def encoder_of(attention: str) -> TextEncoder:
    return trained().encoder if attention == "softmax" else binarized()


@cache
def graph_of(attention: str) -> bytes:
    return student_graph() if attention == "softmax" else binarized_graph()


def run(graph: bytes, ids: NDArray[np.int64], mask: NDArray[np.int64]) -> NDArray[np.float32]:
    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (embeddings,) = session.run(["embedding"], {"input_ids": ids, "attention_mask": mask})
    assert embeddings.dtype == np.float32
    return np.asarray(embeddings)


def random_batch(rows: int, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Give ids of `length` and a mask that leaves each row 1 to `length` of them."""
    draw = np.random.default_rng(rows * 100 + length)
    real = draw.integers(1, length + 1, size=rows)
    mask = (np.arange(length) < real[:, None]).astype(np.int64)
    return draw.integers(4, VOCABULARY, size=(rows, length)) * mask, mask


@pytest.mark.parametrize("attention", ENCODERS)
@pytest.mark.parametrize(("rows", "length"), [(1, 1), (1, MAX_LENGTH), (2, 3), (7, 11), (32, 24)])
def test_the_graph_gives_torchs_numbers_for_any_batch_length_and_padding(
    attention: str, rows: int, length: int
) -> None:
    encoder = encoder_of(attention)
    ids, mask = random_batch(rows, length)
    with torch.no_grad():
        expected = encoder(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()

    given = run(graph_of(attention), ids, mask)

    assert np.abs(given - expected).max() <= 1e-6
    assert cosine(given, expected).min() >= 1 - 1e-5


@pytest.mark.parametrize("attention", ENCODERS)
def test_what_stands_on_padding_changes_nothing(attention: str) -> None:
    ids, mask = random_batch(5, 9)
    noise = np.where(mask == 1, ids, 7)
    wider = [np.pad(array, ((0, 0), (0, 6))) for array in (ids, mask)]

    expected = run(graph_of(attention), ids, mask)

    assert np.abs(run(graph_of(attention), noise, mask) - expected).max() <= 1e-6
    assert np.abs(run(graph_of(attention), *wider) - expected).max() <= 1e-6


def test_the_graph_has_the_manifests_inputs_axes_and_one_output() -> None:
    graph = onnx.load_from_string(graph_of("softmax")).graph
    axes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.output)
    }
    assert axes == {
        "input_ids": ["batch", "length"],
        "attention_mask": ["batch", "length"],
        "embedding": ["batch", trained().encoder.dim],
    }


def test_the_output_is_called_embedding_although_a_value_inside_had_that_name() -> None:
    graph = onnx.load_from_string(graph_of("softmax")).graph
    made = [name for node in graph.node for name in node.output]
    # torch calls the token look-up `embedding`, and a graph with two of that name is not valid.
    assert made.count("embedding") == 1
    assert "embedding.inner" in made
    assert graph.node[-1].output[0] == graph.output[0].name == "embedding"
    onnx.checker.check_model(onnx.load_from_string(graph_of("softmax")), full_check=True)


@pytest.mark.parametrize("attention", ENCODERS)
def test_only_standard_operators_of_one_opset_are_used(attention: str) -> None:
    model = onnx.load_from_string(graph_of(attention))
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", OPSET)]
    assert {node.domain for node in model.graph.node} == {""}
    assert len(model.functions) == 0


@pytest.mark.parametrize("attention", ENCODERS)
def test_the_bytes_say_nothing_of_the_machine_or_the_code(attention: str) -> None:
    graph = graph_of(attention)
    for telling in (str(Path(__file__).parents[2]), sys.prefix, "site-packages", "transformer.py"):
        assert telling.encode() not in graph
    model = onnx.load_from_string(graph)
    values = (*model.graph.input, *model.graph.output, *model.graph.value_info)
    parts: list[Any] = [model, model.graph, *model.graph.node, *values, *model.graph.initializer]
    for part in parts:
        assert len(part.metadata_props) == 0
        assert part.doc_string == ""


def test_the_same_encoder_gives_the_same_bytes() -> None:
    assert text_graph(trained().encoder) == graph_of("softmax")


def test_export_leaves_the_encoder_as_it_was_part_by_part() -> None:
    encoder = copy.deepcopy(trained().encoder).train()
    encoder.tokens.eval()
    before = {name: part.training for name, part in encoder.named_modules()}
    weights = copy.deepcopy(encoder.state_dict())

    text_graph(encoder)

    assert {name: part.training for name, part in encoder.named_modules()} == before
    assert all(torch.equal(value, weights[name]) for name, value in encoder.state_dict().items())


class Noisy(nn.Module):
    """Drops half of its input while it trains, and counts its batches as batch norm does."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.BatchNorm1d(4), nn.Dropout())

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.layers(x)
        return made


def test_a_training_module_is_exported_as_it_infers() -> None:
    module = Noisy().train()
    spec = TensorSpec(name="x", dtype="float32", shape=("batch", 4))
    graph = to_onnx(module, (torch.rand(2, 4),), (spec,), output="embedding")
    rows = np.random.default_rng(0).random((3, 4), np.float32)

    session = ort.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (given,) = session.run(["embedding"], {"x": rows})

    with torch.no_grad():
        expected = copy.deepcopy(module).eval()(torch.from_numpy(rows)).numpy()
    np.testing.assert_allclose(given, expected, rtol=1e-6)
    assert module.training


def test_one_tensor_as_two_examples_is_refused() -> None:
    ids = torch.ones(2, 4, dtype=torch.int64)
    with pytest.raises(InvalidInput, match=r"input_ids, attention_mask, or one tensor twice"):
        to_onnx(trained().encoder, (ids, ids), INPUTS, output="embedding")
    with pytest.raises(InvalidInput, match="an example tensor of its own; got 1"):
        to_onnx(trained().encoder, (ids,), INPUTS, output="embedding")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("export") / "small.attar"
    exported = export_text(
        path, trained(), name="small", texts=texts(), probe=None, metric=None, variants=()
    )
    return exported.bundle


def test_the_bundle_opens_and_says_what_the_encoder_is(bundle: Bundle) -> None:
    manifest = Bundle.open(bundle.path).manifest
    model = trained()
    assert (manifest.name, manifest.version, manifest.modality) == ("small", "1", "text")
    assert (manifest.inputs, manifest.max_length) == (INPUTS, MAX_LENGTH)
    assert (manifest.output.dim, manifest.output.normalized) == (model.encoder.dim, True)
    assert manifest.lineage == dict(model.lineage)
    assert manifest.licence == model.licence
    assert manifest.preprocessing.prompts == dict(model.prompts)
    assert bundle.read("tokenizer.json") == model.tokenizer


def test_int8_ranges_span_what_was_seen_and_are_never_empty(bundle: Bundle) -> None:
    seen = embed_in_torch(trained().encoder, texts())
    ranges = bundle.manifest.ranges
    assert ranges is not None
    low, high = np.array(ranges.low), np.array(ranges.high)
    assert (low < high).all()
    np.testing.assert_allclose(low, seen.min(axis=0), rtol=1e-6)
    np.testing.assert_allclose(high, seen.max(axis=0), rtol=1e-6)


def test_every_variant_has_the_wide_part(tmp_path: Path) -> None:
    wide = widened(trained().encoder)
    assert wide.wide is not None
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        wide.wide.expand.weight.normal_(std=200)
    expected = embed_in_torch(wide, texts())
    assert cosine(embed_in_torch(trained().encoder, texts()), expected).mean() < 0.95
    exported = export_text(
        tmp_path / "wide.attar",
        replace(trained(), encoder=wide),
        name="wide",
        texts=texts(),
        probe=None,
        metric=None,
        variants=("fp32_fused", "int8"),
    )
    assert not exported.refused
    for variant, least in (("fp32", 1 - 1e-6), ("fp32_fused", 1 - 1e-6), ("int8", 0.98)):
        vectors = (
            attar.load(exported.bundle, variant=variant)
            .embed(texts(), truncation="truncate")
            .vectors
        )
        assert cosine(vectors, expected).min() > least


def test_a_taken_path_is_refused_before_any_work(bundle: Bundle) -> None:
    with pytest.raises(AlreadyExists, match="exists; choose another path"):
        export_text(bundle.path, trained(), name="x", texts=[], probe=None, metric=None)


def test_no_texts_no_export(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="texts are empty; pass some"):
        export_text(tmp_path / "x", trained(), name="x", texts=[], probe=None, metric=None)
    assert list(tmp_path.iterdir()) == []
