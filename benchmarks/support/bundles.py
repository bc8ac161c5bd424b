"""Real bundles in milliseconds: small graphs from onnx.helper, no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing

from attar.bundle import Bundle
from attar.host import instruction_set
from attar.manifest import (
    Compatible,
    Latency,
    Manifest,
    Output,
    Preprocessing,
    Ranges,
    Requires,
    TensorSpec,
    TokenOutput,
    Variant,
)

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
WORDS = (
    "the",
    "cat",
    "sat",
    "on",
    "mat",
    "dog",
    "ran",
    "sun",
    "rain",
    "blue",
    "red",
    "sky",
    "query",
    "passage",
)
VOCABULARY = (
    *SPECIALS,
    *WORDS,
    *LETTERS,
    *(f"##{letter}" for letter in LETTERS),
    *"0123456789.,:?!",
)


def tokenizer_json() -> bytes:
    """Give a WordPiece tokenizer of whole words and single letters, [CLS] ... [SEP] around."""
    vocabulary = {word: i for i, word in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(s, VOCABULARY.index(s)) for s in ("[CLS]", "[SEP]")],
    )
    return tokenizer.to_str().encode()


def graph_model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    dim: int,
    weights: Mapping[str, np.ndarray],
    tokens: Sequence[int | str] | None = None,
    *,
    output: str = "embedding",
) -> bytes:
    """Give an ONNX model of these nodes whose `output` is (batch, dim), or `tokens` of a shape."""
    outputs: dict[str, Sequence[int | str]] = {output: ["batch", dim]}
    if tokens:
        outputs["tokens"] = tokens
    graph = helper.make_graph(
        list(nodes),
        "tiny",
        list(inputs),
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in outputs.items()
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model.SerializeToString(deterministic=True)


def text_graph(*, dim: int = 16, seed: int = 0, noise: float = 0.0, tokens: bool = False) -> bytes:
    """Give an encoder that averages a random vector a token; `noise` moves the vectors.

    With `tokens` it gives those too.
    """
    rows = "tokens" if tokens else "rows"
    rng = np.random.default_rng(seed)
    table = rng.standard_normal((len(VOCABULARY), dim)).astype(np.float32)
    table += noise * np.random.default_rng(seed + 1).standard_normal(table.shape).astype(np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], [rows]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", [rows, "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["pooled"], keepdims=0),
        helper.make_node("LpNormalization", ["pooled"], ["embedding"], axis=1, p=2),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    weights = {"table": table, "last": np.array([2]), "middle": np.array([1])}
    shape = ("batch", "length", dim) if tokens else None
    return graph_model(nodes, inputs, dim, weights, shape)


def text_manifest(
    *,
    dim: int = 16,
    max_length: int = 16,
    variants: Sequence[str] = ("fp32",),
    name: str = "tiny",
    dims: Sequence[int] | None = None,
    latency_ms: Mapping[str, float] | None = None,
    cpu_flags: Mapping[str, Sequence[str]] | None = None,
    prompts: Mapping[str, str] | None = None,
    proven_on: Sequence[str] | None = None,
    tokens: bool = False,
) -> Manifest:
    """Give the manifest that fits `text_graph`; the first variant is the reference.

    Without `proven_on`, every variant was proven on this machine's instruction set.
    """
    return Manifest(
        name=name,
        version="1",
        modality="text",
        inputs=tuple(
            TensorSpec(name=tensor, dtype="int64", shape=("batch", "length"))
            for tensor in ("input_ids", "attention_mask")
        ),
        max_length=max_length,
        preprocessing=Preprocessing(
            tokenizer="tokenizer.json", prompts=prompts or {"query": "", "passage": ""}
        ),
        output=Output(dim=dim, dims=tuple(dims or (dim,))),
        ranges=(ranges := Ranges(low=(-1.0,) * dim, high=(1.0,) * dim)),
        tokens=TokenOutput(dim=dim, ranges=ranges) if tokens else None,
        reference=variants[0],
        lineage={"recipe": "benchmarks.support.bundles", "seed": 0},
        licence="Apache-2.0",
        variants=tuple(
            Variant(
                name=variant,
                file=f"variants/{variant}.onnx",
                precision=variant,
                attention="softmax",
                requires=Requires(cpu_flags=tuple((cpu_flags or {}).get(variant, ()))),
                parity={"cosine_mean": 1.0, "cosine_worst": 1.0},
                tolerance=1e-6,
                proven_on=tuple([instruction_set()] if proven_on is None else proven_on),
                latency=Latency(
                    p50_ms=latency_ms[variant], threads=1, batch=1, length=max_length, host="test"
                )
                if latency_ms and variant in latency_ms
                else None,
            )
            for variant in variants
        ),
    )


def text_files(manifest: Manifest, *, seed: int = 0) -> dict[str, bytes]:
    """Give the files of that manifest; each variant after the first is a little further off."""
    graphs = {
        variant.file: text_graph(
            dim=manifest.output.dim, seed=seed, noise=0.001 * i, tokens=manifest.tokens is not None
        )
        for i, variant in enumerate(manifest.variants)
    }
    return {"tokenizer.json": tokenizer_json(), "report.json": b'{"host": "test"}\n', **graphs}


def tiny_bundle(
    path: str | Path,
    *,
    dim: int = 16,
    max_length: int = 16,
    variants: Sequence[str] = ("fp32",),
    name: str = "tiny",
    seed: int = 0,
    dims: Sequence[int] | None = None,
    latency_ms: Mapping[str, float] | None = None,
    cpu_flags: Mapping[str, Sequence[str]] | None = None,
    prompts: Mapping[str, str] | None = None,
    proven_on: Sequence[str] | None = None,
    tokens: bool = False,
) -> Path:
    """Write a text bundle folder at `path` and give that path; another `seed` is another space."""
    manifest = text_manifest(
        dim=dim,
        max_length=max_length,
        variants=variants,
        name=name,
        dims=dims,
        latency_ms=latency_ms,
        cpu_flags=cpu_flags,
        prompts=prompts,
        proven_on=proven_on,
        tokens=tokens,
    )
    return Bundle.write(path, manifest, text_files(manifest, seed=seed)).path


def compatible_bundle(
    path: str | Path, teacher: str | Path, *, name: str = "student", noise: float = 0.1
) -> Path:
    """Write a text bundle close to that of `tiny_bundle` at `teacher`, which it declares."""
    theirs = Bundle.open(teacher).manifest
    manifest = text_manifest(name=name, dim=theirs.output.dim, dims=theirs.output.dims)
    graph = text_graph(dim=theirs.output.dim, noise=noise)
    files = {**text_files(manifest), "variants/fp32.onnx": graph}
    own = Bundle.write(path, manifest, files).manifest.fingerprint
    entry = Compatible(
        fingerprint=theirs.fingerprint, query_fingerprint=own, cosine=0.99, recall_at_10=0.9
    )
    declared = replace(manifest, compatible_with=(entry,))
    return Bundle.write(path, declared, files, replace=True).path


def pair_tokenizer_json() -> bytes:
    """Give that tokenizer with a template for pairs: [CLS] ... [SEP] ... [SEP], as BERT's."""
    tokenizer = Tokenizer.from_str(tokenizer_json().decode())
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(s, VOCABULARY.index(s)) for s in ("[CLS]", "[SEP]")],
    )
    return tokenizer.to_str().encode()


def pair_graph() -> bytes:
    """Give a cross-encoder that counts the equal tokens of both texts, less three.

    Of texts without a token in common the score is -2: each has a [SEP] behind it.
    """
    nodes = [
        helper.make_node("Unsqueeze", ["input_ids", "last"], ["down"]),
        helper.make_node("Unsqueeze", ["input_ids", "middle"], ["across"]),
        helper.make_node("Equal", ["down", "across"], ["same"]),
        helper.make_node("Cast", ["same"], ["equal"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["token_type_ids"], ["second"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["one", "second"], ["first"]),
        helper.make_node("Mul", ["first", "mask"], ["query"]),
        helper.make_node("Mul", ["second", "mask"], ["document"]),
        helper.make_node("Unsqueeze", ["query", "last"], ["query_down"]),
        helper.make_node("Unsqueeze", ["document", "middle"], ["document_across"]),
        helper.make_node("Mul", ["equal", "query_down"], ["of_query"]),
        helper.make_node("Mul", ["of_query", "document_across"], ["matches"]),
        helper.make_node("ReduceSum", ["matches", "both"], ["count"], keepdims=0),
        helper.make_node("Sub", ["count", "three"], ["less"]),
        helper.make_node("Unsqueeze", ["less", "middle"], ["score"]),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    weights = {
        "last": np.array([2]),
        "middle": np.array([1]),
        "both": np.array([1, 2]),
        "one": np.array(1, np.float32),
        "three": np.array(3, np.float32),
    }
    return graph_model(nodes, inputs, 1, weights, output="score")


def tiny_cross_encoder(
    path: str | Path,
    *,
    name: str = "reranker",
    max_length: int = 16,
    activation: str = "sigmoid",
) -> Path:
    """Write a bundle of `pair_graph` at `path` and give that path."""
    base = text_manifest(name=name, max_length=max_length)
    segments = TensorSpec(name="token_type_ids", dtype="int64", shape=("batch", "length"))
    manifest = replace(
        base,
        schema_version="1.4",
        modality="text_pair",
        inputs=(*base.inputs, segments),
        preprocessing=Preprocessing(tokenizer="tokenizer.json"),
        output=Output(name="score", dim=1, dims=(1,), normalized=False, activation=activation),
        ranges=None,
    )
    files = {"tokenizer.json": pair_tokenizer_json(), "variants/fp32.onnx": pair_graph()}
    return Bundle.write(path, manifest, files).path


def row_bundle(path: str | Path, *, dim: int, normalized: bool, name: str) -> Path:
    """Write a bundle whose embedding is the item itself, a float32 row; of unit length or not."""
    node = (
        helper.make_node("LpNormalization", ["row"], ["embedding"], axis=1, p=2)
        if normalized
        else helper.make_node("Identity", ["row"], ["embedding"])
    )
    row = helper.make_tensor_value_info("row", TensorProto.FLOAT, ["batch", dim])
    manifest = Manifest(
        name=name,
        version="1",
        modality="table",
        inputs=(TensorSpec(name="row", dtype="float32", shape=("batch", dim)),),
        output=Output(dim=dim, dims=(dim,), normalized=normalized),
        reference="fp32",
        variants=(Variant(name="fp32", file="variants/fp32.onnx", precision="fp32"),),
    )
    graph = graph_model([node], [row], dim, {})
    return Bundle.write(path, manifest, {"variants/fp32.onnx": graph}).path


def tiny_tensor_bundle(
    path: str | Path,
    *,
    dim: int = 16,
    shape: Sequence[int] = (1, 8, 8),
    name: str = "tiny-image",
    seed: int = 0,
    tokens: bool = False,
) -> Path:
    """Write a bundle of a random projection of one float32 tensor `image`, (batch, *shape).

    With `tokens` every row of pixels is one.
    """
    width = int(np.prod(shape))
    weights = {
        "projection": np.random.default_rng(seed).standard_normal((width, dim)).astype(np.float32),
        "flat": np.array([-1, width]),
    }
    nodes = [
        helper.make_node("Reshape", ["image", "flat"], ["rows"]),
        helper.make_node("MatMul", ["rows", "projection"], ["projected"]),
        helper.make_node("LpNormalization", ["projected"], ["embedding"], axis=1, p=2),
    ]
    row, count = shape[-1], width // shape[-1]
    if tokens:
        weights["lines"] = np.array([-1, count, row])
        nodes.append(helper.make_node("Reshape", ["image", "lines"], ["tokens"]))
    lines = ("batch", count, row) if tokens else None
    inputs = [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *shape])]
    manifest = Manifest(
        name=name,
        version="1",
        modality="image",
        inputs=(TensorSpec(name="image", dtype="float32", shape=("batch", *shape)),),
        output=Output(dim=dim, dims=(dim,)),
        tokens=TokenOutput(dim=row, grid=(count, 1)) if tokens else None,
        reference="fp32",
        variants=(Variant(name="fp32", file="variants/fp32.onnx", precision="fp32"),),
    )
    graph = graph_model(nodes, inputs, dim, weights, lines)
    return Bundle.write(path, manifest, {"variants/fp32.onnx": graph}).path
