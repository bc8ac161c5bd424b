"""A sentence-transformers folder becomes a bundle with the same numbers, or nothing at all."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import attar
from attar.bundle import Bundle
from attar.errors import AlreadyExists, InvalidInput
from attar.export.importing import import_folder, texts_of_every_length
from attar.inputs import TextInput
from benchmarks.support.bundles import tokenizer_json
from benchmarks.support.teachers import LENGTH, bert_folder, write_json

from ..support.imported import assert_same_as_torch


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bert_folder(tmp_path / "theirs")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Import a folder; give it, and its bundle, to read."""
    folder = bert_folder(tmp_path_factory.mktemp("imported") / "theirs")
    return folder, import_folder(folder, folder.parent / "mine.attar").bundle.path


def test_an_imported_bundle_gives_the_torch_encoders_numbers(imported: tuple[Path, Path]) -> None:
    folder, path = imported
    assert_same_as_torch(path, folder)

    manifest = Bundle.open(path).manifest
    assert (manifest.name, manifest.max_length) == ("mine", LENGTH)
    assert [variant.name for variant in manifest.variants] == ["fp32"]
    assert manifest.lineage == {"imported": "theirs"}
    assert manifest.variants[0].parity["cosine_worst"] >= 0.9999


def test_a_folder_that_cuts_long_texts_at_their_start_says_so_in_its_bundle(folder: Path) -> None:
    words = ["the", "cat", "sat", "on", "the", "mat", "the", "dog", "ran"]
    names = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
    write_json(folder / "tokenizer_config.json", {**names, "truncation_side": "left"})
    path = import_folder(folder, folder.parent / "mine.attar").bundle.path
    encoder = attar.load(path, threads=1)
    assert encoder.manifest.preprocessing.truncation_side == "left"
    whole = encoder.embed([" ".join(words * 3), " ".join((words * 3)[2 - LENGTH :])])
    assert whole.truncated.tolist() == [True, False]
    np.testing.assert_allclose(whole.vectors[0], whole.vectors[1], rtol=0, atol=1e-6)
    assert_same_as_torch(path, folder)


def test_a_folder_that_cuts_them_at_their_end_has_the_fingerprint_of_before(
    imported: tuple[Path, Path],
) -> None:
    folder, path = imported
    written = json.loads((path / "manifest.json").read_text("utf-8"))
    assert written["preprocessing"] == {
        "tokenizer": "tokenizer.json",
        "prompts": {"query": "", "passage": ""},
    }
    assert (path / "tokenizer.json").read_bytes() == (folder / "tokenizer.json").read_bytes()


def drop(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).unlink()


def configure(**changes: object) -> Callable[[Path], None]:
    def change(root: Path) -> None:
        config = json.loads((root / "config.json").read_text("utf-8"))
        write_json(root / "config.json", {**config, **changes})

    return change


def pool_by_another_rule(root: Path) -> None:
    write_json(root / "1_Pooling" / "config.json", {"pooling_mode_median_tokens": True})


def add_a_convolution(root: Path) -> None:
    modules = json.loads((root / "modules.json").read_text("utf-8"))
    added = {"path": "3_CNN", "type": "sentence_transformers.models.CNN"}
    write_json(root / "modules.json", [*modules, added])


def garble_weights(root: Path) -> None:
    (root / "model.safetensors").write_bytes(b"garbage")


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (drop("modules.json"), "says nothing of pooling"),
        (drop("config.json"), r"config\.json"),
        (drop("tokenizer.json"), r"tokenizer\.json"),
        (drop("model.safetensors"), r"model\.safetensors"),
        (configure(model_type="gpt2"), "model_type 'gpt2'"),
        (configure(hidden_act="relu"), "hidden_act 'relu'"),
        (configure(hidden_size=32), r"model\.safetensors"),
        (pool_by_another_rule, "pooling_mode_median_tokens"),
        (add_a_convolution, "CNN"),
        (garble_weights, r"model\.safetensors"),
    ],
)
def test_a_refused_folder_is_named_and_nothing_is_written(
    folder: Path, harm: Callable[[Path], None], message: str
) -> None:
    harm(folder)
    with pytest.raises(InvalidInput, match=message):
        import_folder(folder, folder.parent / "mine.attar")
    assert [entry.name for entry in folder.parent.iterdir()] == ["theirs"]


def test_a_taken_path_is_refused_before_anything_is_read(folder: Path) -> None:
    path = folder.parent / "mine.attar"
    path.mkdir()
    shutil.rmtree(folder)
    with pytest.raises(AlreadyExists, match=r"mine\.attar exists"):
        import_folder(folder, path)


def test_parity_texts_are_of_every_length_and_always_the_same() -> None:
    texts = texts_of_every_length(tokenizer_json(), longest=20)
    host = TextInput(tokenizer_json(), max_length=1000, prompts={})
    tokens = [row.tokens for row in host.prepare(texts, role="passage", truncation="error")]
    assert texts[0] == ""
    assert {*range(2, 22)} <= {*tokens}  # [CLS] and [SEP] around 0 to 19 words
    assert texts == texts_of_every_length(tokenizer_json(), longest=20)
    assert texts != texts_of_every_length(tokenizer_json(), longest=20, seed=1)
