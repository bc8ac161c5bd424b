"""A static encoder's bundle: a look-up and a sum, in float and in int8, with torch's numbers."""

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import numpy_helper

import attar
from attar.errors import InvalidInput
from attar.export.exporting import export
from attar.export.measure import cosine
from attar.export.passes.quantize import quantize_int8
from attar.export.text import export_text, text_feeds, text_graph
from attar.inputs import TextInput
from attar.manifest import Variant
from attar.training.binarizing import Conversion
from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.encoders.static import StaticEncoder
from attar.training.loop import fit
from attar.training.probes.text_retrieval import embed
from attar.training.recipes.text import static
from attar.training.static_init import static_shape

from ..support.students import corpus, data, texts, tokenizer

DIM = 32


@pytest.fixture(scope="module")
def model() -> TextModel[StaticEncoder]:
    """Train a table for a moment, so that its rows differ much in length."""
    shape = static_shape(tokenizer(), dim=DIM, max_length=24)
    settings = static.Settings(steps=30, batch_size=32, rate=0.03, widths=(8,), shape=shape)
    training = static.recipe.build(data(), settings)
    fit(training, accelerator="cpu", progress=False)
    encoder = training.method.encoder
    assert isinstance(encoder, StaticEncoder)
    return TextModel(encoder=encoder.eval(), tokenizer=tokenizer(), dims=(8,))


@pytest.fixture(scope="module")
def bundle(model: TextModel[StaticEncoder], tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("static") / "x.attar"
    export_text(path, model, name="x", texts=texts(), probe=None, metric=None)
    return path


def in_torch(model: TextModel[StaticEncoder], items: list[str]) -> NDArray[np.float32]:
    host = TextInput(model.tokenizer, max_length=24, prompts={})
    rows = host.prepare(items, role="passage", truncation="truncate")
    return embed(model.encoder, [row.arrays[0] for row in rows])


@pytest.mark.parametrize(("variant", "least"), [("fp32", 0.999999), ("int8", 0.999)])
def test_a_variant_gives_torchs_numbers(
    model: TextModel[StaticEncoder], bundle: Path, variant: str, least: float
) -> None:
    encoder = attar.load(bundle, variant=variant, threads=1)
    items = texts()
    embeddings = encoder.embed(items)
    assert cosine(embeddings.vectors, in_torch(model, items)).min() >= least
    alone = np.concatenate([encoder.embed([item]).vectors for item in items[:20]])
    np.testing.assert_allclose(embeddings.vectors[:20], alone, atol=1e-6)
    assert encoder.embed(items[:2], dims=8).vectors.shape == (2, 8)


@pytest.mark.parametrize("variant", ["fp32", "int8"])
def test_texts_without_a_token_that_counts_are_the_first_axis(bundle: Path, variant: str) -> None:
    encoder = attar.load(bundle, variant=variant, threads=1)
    hostile = ["", " \n\t ", "\u200b", "\U0010ffff", "[CLS][SEP][PAD]"]
    for dims in (DIM, 8):
        vectors = encoder.embed(["ba ko", *hostile], dims=dims).vectors
        np.testing.assert_array_equal(vectors[1:], np.eye(1, dims).repeat(len(hostile), axis=0))
        assert vectors[0, 0] != 1


def test_the_manifest_says_that_nothing_attends(bundle: Path) -> None:
    variants: tuple[Variant, ...] = attar.Bundle.open(bundle).manifest.variants
    assert [(variant.name, variant.attention) for variant in variants] == [
        ("fp32", None),
        ("int8", None),
    ]


def test_the_graph_looks_rows_up_and_sums_them(model: TextModel[StaticEncoder]) -> None:
    read = onnx.load_from_string(text_graph(model.encoder)).graph
    operators = Counter(node.op_type for node in read.node)
    assert operators["MatMul"] == operators["ReduceL2"] == operators["Where"] == 1
    assert {node.domain for node in read.node} == {""}


def test_int8_rows_are_within_half_a_scale_and_take_a_byte_a_number(
    model: TextModel[StaticEncoder],
) -> None:
    host = TextInput(model.tokenizer, max_length=24, prompts={})
    feeds = text_feeds(host, host.prepare(texts(), role="passage", truncation="truncate"))
    graph = quantize_int8(text_graph(model.encoder), feeds)
    constants = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(graph).graph.initializer
    }
    codes, scales = (constants[f"table.weight.{part}.rows"] for part in ("int8", "scale"))
    table = model.encoder.table.weight.detach().numpy()
    assert codes.dtype == np.int8
    assert (codes.shape, scales.shape) == (table.shape, (len(table), 1))
    assert (np.abs(codes * scales - table) <= scales * 0.501).all()
    assert len(graph) < codes.nbytes + scales.nbytes + 4 * DIM + 3000


def test_binarize_says_that_there_is_no_attention(
    model: TextModel[StaticEncoder], tmp_path: Path
) -> None:
    encoder_folder.save(model, tmp_path / "static")
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(
        "".join(f'{{"summary": "{p.summary}", "body": "{p.body}"}}\n' for p in corpus().train)
    )
    with pytest.raises(InvalidInput, match="the encoder is static, a table of tokens without att"):
        export(
            tmp_path / "static",
            tmp_path / "x.attar",
            data=str(pairs),
            binarized=Conversion(),
            required=True,
        )


def test_training_leaves_special_tokens_at_zero(model: TextModel[StaticEncoder]) -> None:
    special = list(model.encoder.shape.special)
    assert len(special) == 4
    assert not model.encoder.table.weight[special].any()
    assert torch.linalg.vector_norm(model.encoder.table.weight, dim=1).ne(0).sum() > 200
