"""An encoder comes back from disk bit for bit, or not at all and with the file named."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as weights

from attar.errors import InvalidInput
from attar.heads import LinearClassifier
from attar.training.checkpoints.encoder_folder import (
    TensorModel,
    TextModel,
    attention_kinds,
    load,
    load_text,
    save,
)
from attar.training.data.text import pad
from attar.training.encoders.mlp import MlpConfig, MlpEncoder
from attar.training.encoders.pooling import Dense, HeadConfig, LayerNorm
from attar.training.encoders.text import TextConfig, TextEncoder
from attar.training.hashing import Hashing, binarize
from benchmarks.support.bundles import tokenizer_json
from benchmarks.support.encoders import ATTENTIONS, random_rows, tiny_encoder, tiny_shape

FILES = ("encoder.json", "encoder.safetensors", "tokenizer.json")


def model(shape: TextConfig | None = None) -> TextModel[TextEncoder]:
    return TextModel(
        encoder=tiny_encoder(shape),
        tokenizer=tokenizer_json(),
        prompts={"query": "query: ", "passage": ""},
        lineage={"recipe": "distil", "teacher": {"imported": "größer"}, "seed": 3},
        licence="Apache-2.0",
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(model(), tmp_path / "encoder")
    return tmp_path / "encoder"


HEAD = HeadConfig(
    pooling=("cls", "weightedmean"),
    dense=(Dense(width=8, activation="tanh"), LayerNorm(eps=1e-6), Dense(width=6, bias=False)),
)


@pytest.mark.parametrize(
    "shape",
    [
        tiny_shape(),
        tiny_shape(rank=3, dim=8, norm="pre"),
        replace(tiny_shape(), head=HEAD),
    ],
    ids=["plain", "factorised", "head"],
)
def test_what_was_saved_comes_back_bit_for_bit(tmp_path: Path, shape: TextConfig) -> None:
    saved = model(shape)
    save(saved, tmp_path)
    loaded = load_text(tmp_path)
    assert loaded.encoder.shape == saved.encoder.shape
    assert not loaded.encoder.training
    ours, theirs = loaded.encoder.state_dict(), saved.encoder.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (loaded.tokenizer, loaded.prompts) == (saved.tokenizer, saved.prompts)
    assert (loaded.lineage, loaded.licence) == (saved.lineage, saved.licence)


def test_saving_again_replaces_what_was_there(folder: Path) -> None:
    save(model(tiny_shape(hidden=8)), folder)
    assert load_text(folder).encoder.shape.transformer.hidden == 8
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)


def test_a_folder_of_before_there_was_a_choice_of_positions_has_learned_ones(folder: Path) -> None:
    expected = load_text(folder).encoder.state_dict()
    about = json.loads((folder / "encoder.json").read_text())
    assert about["shape"].pop("positions") is True
    (folder / "encoder.json").write_text(json.dumps(about))
    again = load_text(folder).encoder.state_dict()
    assert again.keys() == expected.keys()
    assert all(torch.equal(again[name], expected[name]) for name in expected)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(InvalidInput, match=rf"encoder/{name} is missing or damaged"):
        load_text(folder)


def test_a_folder_that_is_not_there_is_refused_by_its_first_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"nowhere/encoder.json is missing"):
        load_text(tmp_path / "nowhere")


def rewrite(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Give a damage to encoder.json that is still JSON."""

    def damage(folder: Path) -> None:
        path = folder / "encoder.json"
        about = json.loads(path.read_text())
        change(about)
        path.write_text(json.dumps(about))

    return damage


def cut(name: str) -> Callable[[Path], object]:
    """Give a damage that keeps the first half of a file."""
    return lambda folder: (folder / name).write_bytes(
        (folder / name).read_bytes()[: (folder / name).stat().st_size // 2]
    )


DAMAGES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "cut JSON": ("encoder.json", cut("encoder.json")),
    "JSON of a list": ("encoder.json", lambda folder: (folder / "encoder.json").write_text("[]")),
    "not UTF-8": ("encoder.json", lambda f: (f / "encoder.json").write_bytes(b'{"a": "\xff"}')),
    "no shape": ("encoder.json", rewrite(lambda about: about.pop("shape"))),
    "no prompts": ("encoder.json", rewrite(lambda about: about.pop("prompts"))),
    "prompts of a number": ("encoder.json", rewrite(lambda about: about.update(prompts=3))),
    "an unknown size": ("encoder.json", rewrite(lambda about: about.update(shape={"a": 1}))),
    "a shape of text": ("encoder.json", rewrite(lambda about: about.update(shape="small"))),
    "cut weights": ("encoder.safetensors", cut("encoder.safetensors")),
    "weights of JSON": (
        "encoder.safetensors",
        lambda folder: (folder / "encoder.safetensors").write_text("{}"),
    ),
    "weights of another encoder": (
        "encoder.safetensors",
        lambda folder: (folder / "encoder.safetensors").write_bytes(
            weights({n: w + 1 for n, w in tiny_encoder().state_dict().items()})
        ),
    ),
    "a tokenizer of another encoder": (
        "tokenizer.json",
        lambda folder: (folder / "tokenizer.json").write_bytes(tokenizer_json() + b" "),
    ),
    "digests of a list": ("encoder.json", rewrite(lambda about: about.update(sha256=[1]))),
    "weights of another shape": (
        "encoder.safetensors",
        lambda folder: (folder / "encoder.safetensors").write_bytes(
            weights(tiny_encoder(tiny_shape(width=8)).state_dict())
        ),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_named(folder: Path, damage: str) -> None:
    name, spoil = DAMAGES[damage]
    spoil(folder)
    with pytest.raises(InvalidInput, match=rf"encoder/{name} is missing or damaged"):
        load_text(folder)


@pytest.mark.parametrize("new", [FILES[1:2], FILES[1:], FILES[:1], FILES[2:], FILES[::2]])
def test_files_of_two_models_are_never_read_as_one(
    folder: Path, new: tuple[str, ...], tmp_path: Path
) -> None:
    other = replace(model(), tokenizer=tokenizer_json() + b"\n", lineage={"recipe": "another"})
    with torch.no_grad():
        other.encoder.tokens.table.weight += 1
    save(other, tmp_path / "other")
    for name in new:  # as a kill while saving leaves them
        shutil.copy(tmp_path / "other" / name, folder / name)
    with pytest.raises(InvalidInput, match=r"not the file that encoder.json was written with"):
        load_text(folder)


def test_a_folder_older_than_the_words_holds_a_text_encoder_of_softmax(folder: Path) -> None:
    tokens = pad(random_rows(4))
    expected = load_text(folder).encoder(*tokens)

    def forget(about: dict[str, Any]) -> None:
        for word in ("encoder", "attention", "dims"):
            del about[word]
        del about["shape"]["head"]

    rewrite(forget)(folder)
    assert torch.equal(load_text(folder).encoder(*tokens), expected)


@pytest.mark.parametrize("name", ATTENTIONS)
def test_every_attention_comes_back(tmp_path: Path, name: str) -> None:
    encoder = tiny_encoder(attention=ATTENTIONS[name])
    save(TextModel(encoder=encoder, tokenizer=tokenizer_json()), tmp_path / name)
    again = load_text(tmp_path / name).encoder
    tokens = pad(random_rows(4))
    assert torch.equal(again(*tokens), encoder(*tokens))
    assert attention_kinds(again) == attention_kinds(encoder)


def test_layers_that_attend_otherwise_come_back_each_as_it_was(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    hashing = Hashing(bits=4, beta=9.0)
    draw = torch.Generator().manual_seed(0)
    binarize(encoder, pad(random_rows(8)), layers=(1,), hashing=hashing, generator=draw)
    save(TextModel(encoder=encoder, tokenizer=tokenizer_json()), tmp_path / "hashed")
    again = load_text(tmp_path / "hashed").encoder
    tokens = pad(random_rows(4))
    assert torch.equal(again(*tokens), encoder(*tokens))
    assert attention_kinds(again) == "binarized+softmax"


def test_an_attention_of_another_library_is_not_saved(tmp_path: Path) -> None:
    encoder = tiny_encoder()
    encoder.transformer.blocks[0].attention = torch.nn.Identity()
    with pytest.raises(InvalidInput, match="Identity cannot be saved; attention is one of softmax"):
        save(TextModel(encoder=encoder, tokenizer=tokenizer_json()), tmp_path / "odd")
    assert not (tmp_path / "odd").exists()


def test_heads_come_back_and_are_those_that_were_written_with_the_encoder(tmp_path: Path) -> None:
    encoder = MlpEncoder(MlpConfig(features=3, hidden=(), dim=2))
    weights, bias = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    head = LinearClassifier(weights, bias, ("cat", "dog"), 5, "", "")
    saved = TensorModel(encoder=encoder, heads={"one": head, "two": head})
    save(saved, tmp_path)
    loaded = load(tmp_path)
    assert isinstance(loaded, TensorModel)
    assert {name: head.to_bytes() for name, head in loaded.heads.items()} == {
        "one": head.to_bytes(),
        "two": head.to_bytes(),
    }
    save(replace(saved, heads={"one": head}), tmp_path)
    assert [path.name for path in (tmp_path / "heads").iterdir()] == ["one.npz"]
    (tmp_path / "heads" / "one.npz").write_bytes(replace(head, examples=6).to_bytes())
    with pytest.raises(InvalidInput, match=r"one\.npz is missing or damaged"):
        load(tmp_path)
    (tmp_path / "heads" / "one.npz").unlink()
    with pytest.raises(InvalidInput, match=r"one\.npz is missing or damaged"):
        load(tmp_path)
