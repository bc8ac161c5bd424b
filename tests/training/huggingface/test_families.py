"""An imported encoder gives what the library that saved it gives, whatever its family and head.

Tiny models with random weights, made and saved by transformers and sentence-transformers, go
through import, ONNX and the device runtime.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import attar
from attar.export.importing import import_folder
from attar.runtime import Encoder
from attar.training.checkpoints.encoder_folder import token_transformer
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
    pooling: str = "mean"
    dense: tuple[tuple[int, nn.Module], ...] = ()
    normalize: bool = True

    def __str__(self) -> str:
        layers = [type(activation).__name__ for _, activation in self.dense]
        return "-".join(
            [self.family, self.pooling, *layers, *["any-length"] * (not self.normalize)]
        )

    def folder(self, root: Path) -> Path:
        return sentence_folder(
            root / "theirs",
            self.family,
            pooling=self.pooling,
            dense=self.dense,
            normalize=self.normalize,
        )


MODELS = (
    Model("roberta", "cls"),
    Model("distilbert", "max", dense=((24, nn.Tanh()), (8, nn.Identity()))),
    Model("mpnet", "mean", normalize=False),
    Model("modernbert", "cls"),
    Model("nomic_bert", "mean"),
    Model("gte", "lasttoken"),
)
"""The BERT of tests/export/test_importing.py has the mean and unit length."""


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


@pytest.fixture(scope="module", params=MODELS, ids=str)
def imported(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Encoder]:
    root = tmp_path_factory.mktemp("imported")
    folder = request.param.folder(root)
    return folder, attar.load(import_folder(folder, root / "mine.attar").bundle.path, threads=1)


@pytest.mark.slow
def test_a_bundle_gives_what_sentence_transformers_gives(imported: tuple[Path, Encoder]) -> None:
    folder, encoder = imported
    expected = theirs(folder, TEXTS)
    given = encoder.embed(TEXTS).vectors
    assert given.shape == expected.shape
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    # The texts are not all one direction, which would agree whatever was read.
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    assert (units @ units.T).min() < 0.95


@pytest.mark.slow
def test_each_text_alone_is_what_it_is_in_a_batch(imported: tuple[Path, Encoder]) -> None:
    _, encoder = imported
    alone = np.concatenate([encoder.embed([text]).vectors for text in TEXTS])
    np.testing.assert_allclose(encoder.embed(TEXTS).vectors, alone, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_the_manifest_says_what_the_head_gives(imported: tuple[Path, Encoder]) -> None:
    folder, encoder = imported
    vectors = encoder.embed(TEXTS).vectors
    output, limit = encoder.manifest.output, encoder.manifest.max_length
    unit = bool(np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5))
    assert (output.dim, output.normalized, limit) == (vectors.shape[1], unit, LENGTH)
    assert encoder.manifest.lineage == {"imported": folder.name}


def in_transformers(folder: Path, pooling: str) -> Vectors:
    """Give what the library's own classes give of the texts, pooled without their padding."""
    with libraries() as (transformers, _):
        words = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModel.from_pretrained(folder)
        batch = words(TEXTS, padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            states = model(**batch).last_hidden_state
    real = batch["attention_mask"].bool()
    pools: dict[str, Callable[[Tensor], Tensor]] = {
        "mean": lambda row: row.mean(0),
        "cls": lambda row: row[0],
        "last": lambda row: row[-1],
        "max": lambda row: row.amax(0),
    }
    rows = [pools[pooling](row[mask]) for row, mask in zip(states, real, strict=True)]
    vectors: Vectors = torch.stack(rows).numpy()
    return vectors


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("pooling", ["mean", "cls", "last", "max"])
def test_a_plain_folder_gives_what_transformers_gives(
    family: str, pooling: Any, tmp_path: Path
) -> None:
    folder = plain_folder(tmp_path / "plain", family)
    given = in_torch(folder, TEXTS, Declared(pooling=pooling))
    np.testing.assert_allclose(given, in_transformers(folder, pooling), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_checkpoint_with_a_language_models_head_gives_its_encoder(
    family: str, tmp_path: Path
) -> None:
    folder = plain_folder(tmp_path / "plain", family, architecture="AutoModelForMaskedLM")
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


def test_half_precision_weights_are_widened(tmp_path: Path) -> None:
    folder = sentence_folder(tmp_path / "theirs", "mpnet")
    with libraries() as (transformers, _):
        model = transformers.AutoModel.from_pretrained(folder, dtype=torch.bfloat16)
        model.save_pretrained(folder)
    expected = theirs(folder, TEXTS)
    given = in_torch(folder, TEXTS)
    assert given.dtype == np.float32
    np.testing.assert_allclose(given, expected, rtol=0, atol=0.05)  # theirs multiplies in bfloat16
