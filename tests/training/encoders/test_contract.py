"""Every encoder keeps one contract: sizes it tells, the same bits from disk, the same from ONNX.

Where there is a transformer its layers attend each in another way, so that every adapter meets
every attention in one graph.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import FrozenInstanceError, fields
from functools import cache
from itertools import cycle
from pathlib import Path
from pkgutil import iter_modules
from typing import Any, cast

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from numpy.typing import NDArray
from torch import Tensor, nn

import attar
from attar.bundle import Bundle
from attar.errors import InvalidInput, ShapeError
from attar.export.random_inputs import noise
from attar.export.tensor import export_model
from attar.export.text import export_text
from attar.manifest import Range
from attar.training import encoders
from attar.training.checkpoints.encoder_folder import (
    ENCODERS,
    TensorModel,
    TextModel,
    attention_kinds,
    load,
    load_text,
    save,
)
from attar.training.data.text import tokenize
from attar.training.encoders.backbone import Backbone, BackboneConfig
from attar.training.encoders.conv import SmallConv, SmallConvConfig
from attar.training.encoders.conv1d import Conv1dConfig, Conv1dEncoder
from attar.training.encoders.encoder import TensorEncoder
from attar.training.encoders.log_mel import LogMelConfig
from attar.training.encoders.mlp import MlpConfig, MlpEncoder
from attar.training.encoders.resnet import ResNet, ResNetConfig
from attar.training.encoders.scattering import ScatteringConfig, ScatteringEncoder
from attar.training.encoders.series import SeriesConfig, SeriesEncoder
from attar.training.encoders.spectrogram import SpectrogramConfig, SpectrogramEncoder
from attar.training.encoders.table import TableConfig, TableEncoder
from attar.training.encoders.text import TextConfig, TextEncoder
from attar.training.encoders.tokens import MOST_TOKENS, TokenEncoder
from attar.training.encoders.transformer import Attention, TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder
from attar.training.probes.text_retrieval import embed
from attar.training.tokenizers.smiles import smiles_tokenizer
from benchmarks.support.encoders import ATTENTIONS

from ...support.checked import checked

ROUTES = ("softmax", "linear", "binarized")
EVERY = "binarized+linear+softmax"
BLOCKS = TransformerConfig(
    width=16, depth=len(ROUTES), heads=2, hidden=24, norm="pre", norm_eps=1e-5
)
MOLECULES = ("CCO", "c1ccccc1", "CC(=O)O", "C[C@@H](N)C(=O)O", "BrCCCl", "C#N")


def in_turn() -> Attention:
    """Give each layer the next of the attentions."""
    routes = cycle(ROUTES)

    def attention(width: int, heads: int) -> nn.Module:
        return ATTENTIONS[next(routes)](width, heads)

    return attention


ENCODER: Mapping[str, TensorEncoder] = {
    "backbone": Backbone(
        BackboneConfig(name="torch:benchmarks.support.networks:tiny", side=8, normalized=False)
    ),
    "small_conv": SmallConv(SmallConvConfig(side=9, width=4, normalized=False)),
    "small_conv-flat": SmallConv(SmallConvConfig(side=9, width=4, pooling="flat", dim=5)),
    "resnet": ResNet(ResNetConfig(side=8, blocks=(1, 1), width=4, normalized=False)),
    "resnet-selective": ResNet(
        ResNetConfig(
            side=66, channels=1, blocks=(1, 1), width=4, bottleneck=True, selective=True, dim=6
        )
    ),
    "scattering": ScatteringEncoder(
        ScatteringConfig(side=8, angles=3, width=6, blocks=1, kernel=3, grid=2)
    ),
    "conv1d": Conv1dEncoder(Conv1dConfig(channels=2, samples=30, widths=(4, 6), dim=5)),
    "mlp": MlpEncoder(MlpConfig(features=7, hidden=(8, 6), dim=5)),
    "vit": VitEncoder(VitConfig(side=8, patch=4, transformer=BLOCKS), attention=in_turn()),
    "vit-cls": VitEncoder(
        VitConfig(side=8, patch=2, channels=1, transformer=BLOCKS, pooling="cls", dim=5),
        attention=in_turn(),
    ),
    "series": SeriesEncoder(
        SeriesConfig(channels=2, window=8, hop=4, transformer=BLOCKS), attention=in_turn()
    ),
    "spectrogram": SpectrogramEncoder(
        SpectrogramConfig(mels=5, transformer=BLOCKS, dim=6, normalized=False), attention=in_turn()
    ),
    "spectrogram-waveform": SpectrogramEncoder(
        SpectrogramConfig(
            mels=5,
            transformer=BLOCKS,
            frames=LogMelConfig(hertz=800, window=32, hop=20, bands=5),
        ),
        attention=in_turn(),
    ),
    "table": TableEncoder(
        TableConfig(numeric=3, categories=(2, 5), transformer=BLOCKS), attention=in_turn()
    ),
    "table-mean": TableEncoder(
        TableConfig(numeric=4, transformer=BLOCKS, pooling="mean"), attention=in_turn()
    ),
    "table-flatten": TableEncoder(
        TableConfig(numeric=4, transformer=BLOCKS, first=False, pooling="flatten"),
        attention=in_turn(),
    ),
}

POOLED_OTHERWISE = {"small_conv-flat", "vit", "table-mean", "table-flatten"}
"""Encoders that are exported with their other pooling."""
EXPORTED_ELSEWHERE = {"spectrogram-waveform"}  # tests/training/recipes/test_audio.py


def prepared(encoder: TensorEncoder) -> TensorEncoder:
    """Make every number of an encoder random, so that none can be lost unseen."""
    draw = torch.Generator().manual_seed(0)
    for name, tensor in encoder.state_dict().items():
        if name.endswith("running_var"):
            tensor.uniform_(0.5, 2, generator=draw)
        elif tensor.ndim == 1 and tensor.is_floating_point():
            tensor.add_(torch.randn(tensor.shape, generator=draw), alpha=0.3)
    return encoder.eval()


def items(encoder: TensorEncoder) -> list[NDArray[Any]]:
    """Draw items of every example shape; a table's codes are known and unknown ones."""
    drawn = noise(encoder.input, encoder.examples)
    if isinstance(encoder, TableEncoder) and encoder.shape.categories:
        codes = np.array([[0, 4], [1, -1]], np.float32)
        return [np.concatenate([row[:3], code]) for row, code in zip(drawn, codes, strict=True)]
    return drawn


def embedded(encoder: TensorEncoder, items: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
    with torch.no_grad():
        rows = [encoder(torch.from_numpy(item[None])) for item in items]
    vectors: NDArray[np.float32] = torch.cat(rows).numpy()
    return vectors


def test_every_encoder_that_can_be_saved_is_held_to_the_contract() -> None:
    assert {name.partition("-")[0] for name in ENCODER} == set(ENCODERS)


@pytest.mark.parametrize("name", ENCODER)
def test_an_encoder_tells_its_sizes_and_keeps_them(name: str) -> None:
    encoder = prepared(ENCODER[name])
    vectors = embedded(encoder, items(encoder))
    assert vectors.shape == (len(items(encoder)), encoder.dim)
    lengths = np.linalg.norm(vectors, axis=1)
    assert np.allclose(lengths, 1, atol=1e-5) == getattr(encoder.shape, "normalized", True)
    with pytest.raises(FrozenInstanceError):
        setattr(encoder.shape, fields(encoder.shape)[0].name, 3)
    assert encoder.input.shape[0] == "batch"
    assert encoder.input.dtype == "float32"


@pytest.mark.parametrize("name", ENCODER)
def test_every_weight_of_an_encoder_learns(name: str) -> None:
    encoder = ENCODER[name].train()
    shape = encoder.examples[0]
    encoder(torch.randn(4, *shape)).square().sum(1).sqrt().sum().backward()
    unused = [key for key, weight in encoder.named_parameters() if weight.grad is None]
    encoder.zero_grad()
    assert not unused  # data-parallel training would wait for them


@pytest.mark.parametrize("name", ENCODER)
def test_an_encoder_comes_back_from_disk_with_equal_bits(tmp_path: Path, name: str) -> None:
    encoder = prepared(ENCODER[name])
    model = TensorModel(
        encoder=encoder,
        normalize=True,
        values=Range(min=0, max=1),
        facts={"unit": "m/s²"},
        lineage={"seed": 3},
        licence="CC0-1.0",
    )
    save(model, tmp_path)
    again = load(tmp_path)
    assert isinstance(again, TensorModel)
    assert (type(again.encoder), again.encoder.shape) == (type(encoder), encoder.shape)
    assert (again.normalize, again.facts, again.lineage, again.licence) == (
        model.normalize,
        model.facts,
        model.lineage,
        model.licence,
    )
    assert (again.input, again.limits) == (model.input, model.limits)
    assert again.limits.values == model.values
    assert not again.encoder.training
    np.testing.assert_array_equal(
        embedded(again.encoder, items(encoder)), embedded(encoder, items(encoder))
    )
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "encoder.json",
        "encoder.safetensors",
    ]


def test_a_small_encoder_of_an_older_folder_loads_as_it_was(tmp_path: Path) -> None:
    """Its shape says neither pooling nor unit length, and it had a map of all pixels, and both."""
    encoder = prepared(ENCODER["small_conv-flat"])
    assert "layers.10.weight" in encoder.state_dict()
    save(TensorModel(encoder=encoder), tmp_path)
    path = tmp_path / "encoder.json"
    about = json.loads(path.read_text("utf-8"))
    del about["normalize"], about["shape"]["pooling"], about["shape"]["normalized"]
    path.write_text(json.dumps(about), "utf-8")
    again = load(tmp_path)
    assert isinstance(again, TensorModel)
    assert not again.normalize
    vectors = embedded(again.encoder, items(encoder))
    np.testing.assert_array_equal(vectors, embedded(encoder, items(encoder)))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("name", ENCODER)
def test_a_copy_at_unit_length_leaves_the_encoder_as_it_was(name: str) -> None:
    encoder = prepared(ENCODER[name])
    before = embedded(encoder, items(encoder))
    copied = encoder.at_unit_length()
    unit = before / np.linalg.norm(before, axis=1, keepdims=True)
    np.testing.assert_allclose(embedded(copied, items(encoder)), unit, rtol=0, atol=1e-6)
    assert copied.shape.normalized
    np.testing.assert_array_equal(embedded(encoder, items(encoder)), before)


FACTS = {"unit": "m/s²"}

Exports = Callable[[str], tuple[TensorEncoder, Bundle]]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exports:
    """Export an encoder by its name once, and give it as it was then, with its bundle."""

    @cache
    def export(name: str) -> tuple[TensorEncoder, Bundle]:
        encoder = copy.deepcopy(prepared(ENCODER[name]))
        model = TensorModel(encoder=encoder, facts=FACTS, lineage={"seed": 3})
        path = tmp_path_factory.mktemp("exported") / "x.attar"
        given = items(encoder) if "table" in name else None
        return encoder, export_model(path, model, name="x", items=given).bundle

    return export


@pytest.mark.parametrize("name", sorted({*ENCODER} - POOLED_OTHERWISE - EXPORTED_ELSEWHERE))
def test_an_encoder_gives_its_numbers_through_the_runtime(exported: Exports, name: str) -> None:
    encoder, bundle = exported(name)
    model = TensorModel(encoder=encoder, facts=FACTS, lineage={"seed": 3})
    given = items(encoder)
    manifest = bundle.manifest
    assert (manifest.inputs, manifest.limits) == ((model.input,), model.limits)
    assert (manifest.modality, manifest.output.dim) == (encoder.modality, encoder.dim)
    assert manifest.variants[0].attention == attention_kinds(encoder)
    assert attention_kinds(encoder) == (EVERY if isinstance(encoder, TokenEncoder) else None)
    loaded = attar.load(bundle.path, threads=1)
    expected = embedded(encoder, given)
    for batch in (given, given[:1], [*given, *given[::-1]]):  # any number, and every size met
        found = loaded.embed(batch).vectors
        order = [*range(len(given)), *range(len(given))[::-1]][: len(batch)]
        np.testing.assert_allclose(found, expected[order], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", ["series", "spectrogram"])
def test_the_least_and_the_largest_item_are_embedded_and_none_beyond(
    exported: Exports, name: str
) -> None:
    encoder, bundle = exported(name)
    loaded = attar.load(bundle.path, threads=1)
    rows, axis = cast("tuple[int, str]", encoder.input.shape[1:])
    ((_, allowed),) = encoder.limits.axes.items()
    assert allowed.max == MOST_TOKENS * allowed.min
    for size in (allowed.min, allowed.max):
        item = np.ones((rows, size), np.float32)
        embeddings = loaded.embed([item])
        np.testing.assert_allclose(embeddings[:], embedded(encoder, [item]), rtol=0, atol=1e-4)
        assert embeddings.tokens.tolist() == [size // allowed.min]
    for size, words in ((allowed.min - 1, "or more"), (allowed.max + 1, "at most")):
        with pytest.raises(ShapeError, match=f"item 0 has {size} {axis} .* {words}"):
            loaded.embed([np.ones((rows, size), np.float32)])


def molecules() -> TextModel[TextEncoder]:
    """Give an encoder of SMILES, which are texts to all but their tokenizer."""
    torch.manual_seed(0)
    shape = TextConfig(vocabulary=32, max_length=24, transformer=BLOCKS)
    encoder = TextEncoder(shape, attention=in_turn()).eval()
    return TextModel(encoder=encoder, tokenizer=smiles_tokenizer(MOLECULES))


def test_molecules_take_the_road_of_texts(tmp_path: Path) -> None:
    model = molecules()
    save(model, tmp_path / "encoder")
    again = load_text(tmp_path / "encoder")
    rows = tokenize(MOLECULES, model.tokenizer, max_length=24)
    expected = embed(model.encoder, rows)
    np.testing.assert_array_equal(embed(again.encoder, rows), expected)
    made = export_text(
        tmp_path / "x.attar",
        again,
        name="x",
        texts=MOLECULES,
        probe=None,
        metric=None,
        variants=(),
    )
    assert made.bundle.manifest.variants[0].attention == EVERY
    found = attar.load(made.bundle.path, threads=1).embed(list(MOLECULES)).vectors
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_an_encoder_of_tensors_is_no_text_encoder(tmp_path: Path) -> None:
    save(TensorModel(encoder=ENCODER["mlp"]), tmp_path)
    with pytest.raises(InvalidInput, match="holds an encoder of table; this needs one of texts"):
        load_text(tmp_path)


def test_saving_over_a_text_encoder_leaves_no_tokenizer(tmp_path: Path) -> None:
    save(molecules(), tmp_path)
    save(TensorModel(encoder=ENCODER["mlp"]), tmp_path)
    assert not (tmp_path / "tokenizer.json").exists()


@pytest.mark.parametrize("lost", ["shape", "input", "lineage", "licence"])
def test_a_damaged_folder_names_its_file(tmp_path: Path, lost: str) -> None:
    save(TensorModel(encoder=ENCODER["mlp"]), tmp_path)
    about = tmp_path / "encoder.json"
    about.write_text(about.read_text().replace(f'"{lost}"', '"lost"'))
    with pytest.raises(InvalidInput, match=r"encoder\.json is missing or damaged"):
        load(tmp_path)


def test_weights_of_other_sizes_are_damage(tmp_path: Path) -> None:
    save(TensorModel(encoder=ENCODER["mlp"]), tmp_path)
    about = tmp_path / "encoder.json"
    about.write_text(about.read_text().replace('"features": 7', '"features": 8'))
    with pytest.raises(InvalidInput, match=r"encoder\.safetensors is missing or damaged"):
        load(tmp_path)


def test_an_encoder_of_a_later_version_is_named(tmp_path: Path) -> None:
    save(TensorModel(encoder=ENCODER["mlp"]), tmp_path)
    about = tmp_path / "encoder.json"
    about.write_text(about.read_text().replace('"mlp"', '"mamba"'))
    with pytest.raises(InvalidInput, match="is of a 'mamba' encoder; this version reads text, st"):
        load(tmp_path)


def test_the_annotated_shapes_are_true(tmp_path: Path) -> None:
    package = "attar.training.encoders"
    folder = "attar.training.checkpoints.encoder_folder"
    names = [f"{package}.{module.name}" for module in iter_modules(encoders.__path__)]
    with checked([*names, folder]) as m:
        saved, tokens = m[folder], m[f"{package}.tokens"]
    for name, encoder in ENCODER.items():
        save(TensorModel(encoder=prepared(encoder)), tmp_path / name)
        again = saved.load(tmp_path / name).encoder
        for shape in again.examples:
            x = torch.randn(3, *shape)
            torch.testing.assert_close(again(x), encoder(x))
            with pytest.raises(TypeCheckError):
                again(x[0, ..., 0].flatten())
        if not isinstance(again, tokens.TokenEncoder):
            continue
        x = again.spectrogram(x) if name.startswith("spectrogram") else x
        seen = again.tokens(x)
        places = torch.zeros(seen.shape[:2], dtype=torch.bool)
        places[:, 1] = True
        again.tokens(x, tokens.Hidden(places, torch.zeros(again.width)))
        again.embed(again.states(seen, ~places), ~places)
        assert tokens.take(seen, torch.zeros(3, 2, dtype=torch.long)).shape == (3, 2, again.width)


class Foreign(TensorEncoder):
    """An encoder that attar does not know."""

    shape = MlpConfig(features=3, dim=2)
    input = ENCODER["mlp"].input

    def forward(self, row: Tensor) -> Tensor:
        return row


def test_a_small_encoder_that_keeps_pixels_needs_a_width() -> None:
    with pytest.raises(InvalidInput, match="pooling must be 'mean', or 'flat' with a dim"):
        SmallConvConfig(side=9, pooling="flat")


def test_an_encoder_of_another_library_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="Foreign cannot be saved; an encoder is one of text"):
        save(TensorModel(encoder=Foreign()), tmp_path / "x")
    assert not (tmp_path / "x").exists()
