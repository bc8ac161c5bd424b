"""An imported encoder gives what the library that saved it gives, whatever its family and head.

Tiny models with random weights, made and saved by transformers and sentence-transformers, go
through import, ONNX and the device runtime.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import attar
from attar.export.importing import import_folder
from attar.runtime import Encoder
from attar.training.checkpoints.encoder_folder import token_transformer
from attar.training.choices import Pooling
from attar.training.data.text import tokenize
from attar.training.huggingface import loading
from attar.training.huggingface.config import Declared
from attar.training.probes.text_retrieval import embed
from benchmarks.support.encoders import random_texts
from benchmarks.support.families import (
    FAMILIES,
    LENGTH,
    WIDTH,
    libraries,
    plain_folder,
    sentence_folder,
)

# Of every length up to the limit and beyond it, so that a batch of them pads all but one.
TEXTS = ["", "rain", "blue sky sun " * 9, *random_texts(16, length=(1, LENGTH))]

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Model:
    """One folder to import; across the table every family and every head is met."""

    family: str
    pooling: str | tuple[str, ...] = "mean"
    dense: tuple[tuple[int, nn.Module], ...] = ()
    layer_norm: bool = False
    normalize: bool = True
    padding_side: str = "right"

    def __str__(self) -> str:
        poolings = [self.pooling] if isinstance(self.pooling, str) else self.pooling
        layers = [type(activation).__name__ for _, activation in self.dense]
        return "-".join([self.family, *poolings, *layers, *["any-length"] * (not self.normalize)])

    def folder(self, root: Path) -> Path:
        return sentence_folder(
            root / "theirs",
            self.family,
            pooling=self.pooling,
            dense=self.dense,
            layer_norm=self.layer_norm,
            normalize=self.normalize,
            padding_side=self.padding_side,
        )


MODELS = (
    Model("roberta", "cls"),
    Model("distilbert", "max", dense=((24, nn.Tanh()), (8, nn.Identity()))),
    Model("mpnet", "mean", normalize=False),
    Model("modernbert", "cls"),
    Model("nomic_bert", "mean"),
    Model("gte", "lasttoken"),
    # Qwen3-Embedding's form, and EmbeddingGemma's.
    Model("qwen3", "lasttoken", padding_side="left"),
    Model("gemma3_text", "mean", dense=((24, nn.Identity()), (WIDTH, nn.Identity()))),
    Model("deberta-v2", "cls"),
    Model("t5", "mean", dense=((8, nn.Identity()),)),
)
"""The BERT of tests/export/test_importing.py has the mean and unit length."""

QUICK = frozenset({"roberta", "qwen3", "t5"})
"""Of attar's own blocks, of the library's with a left side and of those with a decoder."""

HEADS = (
    Model("bert", "weightedmean", normalize=False),
    Model("roberta", ("cls", "max", "mean_sqrt_len_tokens"), dense=((8, nn.Tanh()),)),
    Model("distilbert", dense=((24, nn.Tanh()),), layer_norm=True),
    Model("mistral", "weightedmean", padding_side="left"),
    Model("albert", ("mean", "weightedmean"), layer_norm=True),
)
"""What may stand after a transformer, of attar's own blocks and of the library's."""


def theirs(folder: Path, texts: Sequence[str]) -> Vectors:
    with libraries() as (_, library):
        made = library.SentenceTransformer(str(folder), device="cpu")
        vectors: Vectors = made.encode(list(texts), show_progress_bar=False)
    return vectors


def in_torch(folder: Path, texts: Sequence[str], declared: Declared = loading.SILENT) -> Vectors:
    model = loading.read(folder, declared)
    return embed(
        model.encoder, tokenize(texts, model.tokenizer, max_length=model.encoder.max_length)
    )


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(model, id=str(model), marks=[pytest.mark.slow] * (model.family not in QUICK))
        for model in MODELS
    ],
)
def imported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Encoder]:
    root = tmp_path_factory.mktemp("imported")
    folder = request.param.folder(root)
    return folder, attar.load(import_folder(folder, root / "mine.attar").bundle.path, threads=1)


def test_a_bundle_gives_what_sentence_transformers_gives(imported: tuple[Path, Encoder]) -> None:
    folder, encoder = imported
    expected = theirs(folder, TEXTS)
    given = encoder.embed(TEXTS).vectors
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    # The texts are not all one direction, which would agree whatever was read.
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert (units @ units.T).min() < 0.95


def test_each_text_alone_is_what_it_is_in_a_batch(imported: tuple[Path, Encoder]) -> None:
    _, encoder = imported
    alone = np.concatenate([encoder.embed([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(encoder.embed(TEXTS).vectors, alone, rtol=1e-5, atol=1e-5)


def test_the_manifest_says_what_the_head_gives(imported: tuple[Path, Encoder]) -> None:
    folder, encoder = imported
    vectors = encoder.embed(TEXTS).vectors
    output, limit = encoder.manifest.output, encoder.manifest.max_length
    unit = bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5))
    assert (output.dim, output.normalized, limit) == (vectors.shape[1], unit, LENGTH)
    assert encoder.manifest.lineage == {"imported": folder.name}


@pytest.mark.parametrize("model", HEADS, ids=str)
def test_a_head_gives_what_sentence_transformers_gives(model: Model, tmp_path: Path) -> None:
    folder = model.folder(tmp_path)
    np.testing.assert_allclose(in_torch(folder, TEXTS), theirs(folder, TEXTS), rtol=1e-5, atol=1e-5)


def in_transformers(folder: Path, pooling: str) -> Vectors:
    """Give what the library's own classes give of the texts, pooled without their padding."""
    with libraries() as (transformers, _):
        words = transformers.AutoTokenizer.from_pretrained(folder)
        kind = transformers.AutoConfig.from_pretrained(folder).model_type
        architecture = {"t5": "T5EncoderModel", "mt5": "MT5EncoderModel"}.get(kind, "AutoModel")
        model = getattr(transformers, architecture).from_pretrained(folder)
        batch = words(TEXTS, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            states = model(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    pools: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": lambda row: row.mean(0),
        "cls": lambda row: row[0],
        "last": lambda row: row[-1],
        "max": lambda row: row.amax(0),
        "weightedmean": lambda row: (
            sum((state * (at + 1) for at, state in enumerate(row)), row[0] * 0)
            / sum(range(1, len(row) + 1))
        ),
        "mean_sqrt_len_tokens": lambda row: row.sum(0) / len(row) ** 0.5,
    }
    rows = [pools[pooling](row[mask]) for row, mask in zip(states, real, strict=True)]
    vectors: Vectors = torch.stack(rows).numpy()
    return vectors


@pytest.mark.parametrize(
    ("family", "pooling"),
    [
        *((family, "mean") for family in FAMILIES),
        *((family, pooling) for family in ("bert", "qwen3") for pooling in get_args(Pooling)[1:]),
    ],
)
def test_a_plain_folder_gives_what_transformers_gives(
    family: str, pooling: Any, tmp_path: Path
) -> None:
    folder = plain_folder(tmp_path / "plain", family)
    given = in_torch(folder, TEXTS, Declared(pooling=pooling))
    np.testing.assert_allclose(given, in_transformers(folder, pooling), rtol=1e-5, atol=1e-5)


LANGUAGE_MODELS = {
    **dict.fromkeys(("qwen2", "qwen3", "llama", "mistral", "gemma3_text"), "AutoModelForCausalLM"),
    **dict.fromkeys(("t5", "mt5"), "AutoModelForSeq2SeqLM"),
}
"""Those that predict no masked token."""


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_with_a_language_models_head_gives_its_encoder(
    family: str, tmp_path: Path
) -> None:
    architecture = LANGUAGE_MODELS.get(family, "AutoModelForMaskedLM")
    folder = plain_folder(tmp_path / "plain", family, architecture=architecture)
    given = in_torch(folder, TEXTS, Declared(pooling="mean"))
    np.testing.assert_allclose(given, in_transformers(folder, "mean"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "camembert", "distilbert"])
def test_berts_kin_become_attars_own_blocks(family: str, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "theirs", family)
    model = token_transformer(loading.read(folder))
    assert len(model.encoder.transformer.blocks) == 1
    assert model.encoder.dim == WIDTH


@pytest.mark.parametrize("family", ["bert", "roberta", "mpnet"])
def test_learned_positions_bound_the_length_whatever_the_folder_says(
    family: str, tmp_path: Path
) -> None:
    folder = sentence_folder(tmp_path / "theirs", family, max_position_embeddings=10)
    most = loading.read(folder).encoder.max_length
    # RoBERTa and MPNet number positions from the padding's id, 1, on.
    assert most == {"bert": 10, "roberta": 8, "mpnet": 8}[family]
    assert np.isfinite(in_torch(folder, ["the cat " * 20])).all()


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_weights_in_shards_are_those_of_one_file(family: str, tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "theirs", family)
    whole = in_torch(folder, TEXTS)
    with libraries() as (transformers, _):
        architecture = "T5EncoderModel" if family == "t5" else "AutoModel"
        model = getattr(transformers, architecture).from_pretrained(folder)
        (folder / "model.safetensors").unlink()
        model.save_pretrained(folder, max_shard_size="4KB")
    assert len([*folder.glob("model-*.safetensors")]) > 1
    np.testing.assert_array_equal(in_torch(folder, TEXTS), whole)


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "theirs", "mpnet")
    with libraries() as (transformers, _):
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
        model.save_pretrained(folder)
    expected = theirs(folder, TEXTS)
    given = in_torch(folder, TEXTS)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, rtol=0, atol=0.05)  # theirs multiplies in bfloat16
