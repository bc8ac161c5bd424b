"""An imported cross-encoder gives the scores of sentence-transformers' CrossEncoder.

Tiny models with random weights, made and saved by transformers and sentence-transformers, go
through import, ONNX and the device runtime.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import attar
from attar.errors import InvalidInput, NotSupported
from attar.export.importing import import_folder
from attar.export.targets.triton import export_triton
from attar.export.verify import verify
from attar.runtime import Encoder
from attar.training.huggingface.config import Declared
from attar.training.huggingface.cross_encoder import FAMILIES
from benchmarks.support.families import libraries, pair_folder
from benchmarks.support.teachers import write_json

QUERIES = ("the cat", "", "blue sky sun rain " * 4)
DOCUMENTS = ["", "rain", "the cat sat on the mat", "blue sky sun " * 9, "red dog ran", "x y z"]


def theirs(folder: Path, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
    with libraries() as (_, library):
        model = library.CrossEncoder(str(folder), device="cpu")
        scores: NDArray[np.float32] = model.predict([(query, text) for text in documents])
    return scores


def in_order(encoder: Encoder, query: str, documents: Sequence[str]) -> NDArray[np.float32]:
    """Give the scores in the order of the documents."""
    ranking = encoder.rank(query, documents)
    return ranking.scores[np.argsort(ranking.indices)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pair_folder(tmp_path_factory.mktemp("bert") / "theirs", "bert", saved_by="CrossEncoder")


@pytest.fixture(scope="module")
def imported(folder: Path) -> Encoder:
    path = import_folder(folder, folder.parent / "reranker.attar").bundle.path
    return attar.load(path, threads=1)


def test_the_manifest_states_the_kind_and_what_makes_a_score(imported: Encoder) -> None:
    manifest = imported.manifest
    assert (manifest.modality, manifest.output.name, manifest.output.dim) == (
        "text_pair",
        "score",
        1,
    )
    assert manifest.output.activation == "sigmoid"
    assert [spec.name for spec in manifest.inputs][-1] == "token_type_ids"
    assert manifest.variants[0].parity["difference_worst"] <= 1e-4
    assert manifest.lineage == {"imported": "theirs"}


def test_scores_are_those_of_the_library_in_a_batch_and_alone(
    folder: Path, imported: Encoder
) -> None:
    for query in QUERIES:
        expected = theirs(folder, query, DOCUMENTS)
        np.testing.assert_allclose(in_order(imported, query, DOCUMENTS), expected, atol=1e-5)
        alone = [imported.rank(query, [document]).scores[0] for document in DOCUMENTS]
        np.testing.assert_allclose(alone, expected, atol=1e-5)
    assert np.ptp(expected) > 0.01  # they are not all one score


@pytest.mark.slow  # each family is built, saved, imported and scored by the library
@pytest.mark.parametrize("family", [family for family in FAMILIES if family != "bert"])
def test_every_family_gives_the_scores_of_the_library(family: str, tmp_path: Path) -> None:
    folder = pair_folder(tmp_path / "theirs", family, saved_by="transformers")
    encoder = attar.load(import_folder(folder, tmp_path / "x.attar").bundle, threads=1)
    for query in QUERIES:
        expected = theirs(folder, query, DOCUMENTS)
        np.testing.assert_allclose(in_order(encoder, query, DOCUMENTS), expected, atol=1e-5)


def configure(name: str, **changes: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        path = root / name
        write_json(path, {**json.loads(path.read_text("utf-8")), **changes})

    return change


def drop_weights(root: Path) -> None:
    (root / "model.safetensors").unlink()


def add_a_module(root: Path) -> None:
    modules = json.loads((root / "modules.json").read_text("utf-8"))
    kind = "sentence_transformers.sentence_transformer.modules.dense.Dense"
    write_json(root / "modules.json", [*modules, {"path": "1_Dense", "type": kind}])


SETTINGS = "config_sentence_transformers.json"


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (configure("config.json", model_type="t5"), "model_type 't5'; of cross-encoders attar"),
        (configure("config.json", id2label={"0": "no", "1": "yes"}), "has 2 labels"),
        (configure("config.json", auto_map={"AutoModel": "x.py"}), "auto_map"),
        (configure("config.json", hidden_size=32), "does not fit"),
        (configure("config.json", num_hidden_layers=99), "fewer weights"),
        (configure(SETTINGS, activation_fn="torch.nn.Tanh"), "activation_fn 'torch.nn.Tanh'"),
        (configure(SETTINGS, default_prompt_name="query"), "default_prompt_name 'query'"),
        (add_a_module, "one Transformer, in the folder itself"),
        (drop_weights, r"model\.safetensors is missing"),
    ],
)
def test_a_refused_folder_is_named_and_nothing_is_written(
    tmp_path: Path, folder: Path, harm: Callable[[Path], None], words: str
) -> None:
    root = tmp_path / "theirs"
    root.mkdir()
    for path in folder.iterdir():
        (root / path.name).write_bytes(path.read_bytes())
    harm(root)
    with pytest.raises(InvalidInput, match=words):
        import_folder(root, tmp_path / "mine.attar")
    assert [entry.name for entry in tmp_path.iterdir()] == ["theirs"]


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"declared": Declared(pooling="cls")}, "pooling, unit length, prompts and widths"),
        ({"side": "text"}, "leave --tower and --max-seconds"),
        ({"max_seconds": 3.0}, "leave --tower and --max-seconds"),
        ({"tokens": True}, "of tokens neither; leave --tokens out"),
        ({"variants": ("int8",)}, "it is written in fp32 only, so leave int8 out"),
    ],
)
def test_what_is_chosen_of_encoders_is_refused(
    folder: Path, tmp_path: Path, choice: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words):
        import_folder(folder, tmp_path / "mine.attar", **choice)
    assert not list(tmp_path.iterdir())


def test_what_takes_encoders_refuses_a_cross_encoder_by_its_name(
    imported: Encoder, tmp_path: Path
) -> None:
    words = "reranker is a cross-encoder: it scores a query with a document"
    with pytest.raises(NotSupported, match=words):
        verify(imported.bundle.path)
    with pytest.raises(NotSupported, match=words):
        export_triton(imported.bundle, tmp_path / "repository")
    assert not list(tmp_path.iterdir())
