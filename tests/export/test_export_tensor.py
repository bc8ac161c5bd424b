"""Images take the same road as texts: one bundle, the torch encoder's numbers and probes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import attar
from attar.bundle import Bundle
from attar.errors import AlreadyExists, InvalidInput, ShapeError
from attar.export.bundling import Exported
from attar.export.tensor import export_model, export_tensor
from attar.manifest import TensorSpec
from attar.runtime import Encoder
from attar.training.checkpoints.encoder_folder import TensorModel
from attar.training.data.source import embed
from attar.training.encoders.encoder import TensorEncoder
from attar.training.loop import fit
from attar.training.probes.knn import knn_accuracy
from attar.training.recipes.image.barlow_twins import recipe

from ..support.images import Digits, load

IMAGE = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8))


@pytest.fixture(scope="module")
def digits() -> Digits:
    return load()


@pytest.fixture(scope="module")
def encoder(digits: Digits) -> TensorEncoder:
    """Give the recipe's encoder after some steps at unit length, still in training mode."""
    training = recipe.build(digits.source, replace(recipe.settings, steps=10, warmup=2))
    training = replace(training, probe=None)
    fit(training, accelerator="cpu", progress=False)
    trained = training.method.encoder
    assert isinstance(trained, TensorEncoder)
    return trained.at_unit_length().train()


@pytest.fixture(scope="module")
def exported(
    encoder: TensorEncoder, digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    def knn(model: Encoder) -> dict[str, float]:
        train, test = (
            model.embed(part.numpy()).vectors for part in (digits.train[:500], digits.test[:200])
        )
        labels = digits.train_labels[:500], digits.test_labels[:200]
        return {"knn": knn_accuracy(train, labels[0], test, labels[1])}

    return export_tensor(
        tmp_path_factory.mktemp("digits") / "digits.attar",
        encoder,
        name="digits",
        spec=IMAGE,
        items=digits.train[:200].numpy(),
        probe=knn,
        metric="knn",
        lineage={"recipe": "digits"},
        licence="Apache-2.0",
    )


def test_a_loaded_bundle_gives_torchs_embeddings(
    exported: Exported, encoder: TensorEncoder, digits: Digits
) -> None:
    loaded = attar.load(exported.bundle.path, threads=1)
    given = loaded.embed(digits.test.numpy()).vectors

    assert encoder.training
    expected = embed(encoder.eval(), digits.test)
    encoder.train()

    assert given.shape == (540, encoder.dim)
    assert np.abs(given - expected).max() <= 1e-6


def test_the_probe_of_the_bundle_is_the_probe_of_torch(
    exported: Exported, encoder: TensorEncoder, digits: Digits
) -> None:
    train, test = (embed(encoder.eval(), part) for part in (digits.train[:500], digits.test[:200]))
    encoder.train()
    knn = knn_accuracy(train, digits.train_labels[:500], test, digits.test_labels[:200])

    assert exported.bundle.variant("fp32").probe == {"knn": knn}
    assert knn > 0.8


def test_the_manifest_says_what_the_tensor_is(exported: Exported, encoder: TensorEncoder) -> None:
    manifest = Bundle.open(exported.bundle.path).manifest
    assert (manifest.modality, manifest.inputs) == ("image", (IMAGE,))
    assert (manifest.max_length, manifest.preprocessing.tokenizer) == (None, None)
    assert (manifest.output.dim, manifest.output.normalized) == (encoder.dim, True)
    assert (manifest.lineage, manifest.licence) == ({"recipe": "digits"}, "Apache-2.0")
    assert manifest.variants[0].tolerance == 1e-6


def test_an_encoder_without_unit_length_says_so(digits: Digits, tmp_path: Path) -> None:
    images = digits.train[:40].numpy()
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
    exported = export_tensor(tmp_path / "x", flat, name="x", spec=IMAGE, items=images)
    assert not exported.bundle.manifest.output.normalized
    given = attar.load(exported.bundle.path, threads=1).embed(images).vectors
    assert np.abs(given - embed(flat, digits.train[:40])).max() <= 1e-5


def test_a_bundle_has_the_unit_length_that_a_projector_did_not_see(
    digits: Digits, tmp_path: Path
) -> None:
    encoder = recipe.build(digits.source, recipe.settings).method.encoder.eval()
    assert isinstance(encoder, TensorEncoder)
    images = digits.train[:40]
    features = embed(encoder, images)
    model = TensorModel(encoder=encoder, normalize=True)
    bundle = export_model(tmp_path / "x", model, name="x", items=images.numpy()).bundle
    assert bundle.manifest.output.normalized
    given = attar.load(bundle.path, threads=1).embed(images.numpy()).vectors
    lengths = np.linalg.norm(features, axis=1, keepdims=True)
    assert not np.allclose(lengths, 1, rtol=0.01)
    np.testing.assert_allclose(given, features / lengths, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(embed(encoder, images), features)  # the encoder is as it was


def test_items_that_do_not_fit_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    flat = nn.Sequential(nn.Flatten(), nn.Linear(64, 12))
    path = tmp_path / "x"
    for items, error, words in (
        (np.zeros((3, 1, 8, 9), np.float32), ShapeError, r"item 0 has shape \(1, 8, 9\)"),
        (np.zeros((1, 1, 8, 8), np.float32), InvalidInput, "two items or more, of image; got 1"),
    ):
        with pytest.raises(error, match=words):
            export_tensor(path, flat, name="x", spec=IMAGE, items=items)
    assert list(tmp_path.iterdir()) == []


def test_int8_without_anything_to_quantise_is_refused(digits: Digits, tmp_path: Path) -> None:
    items = digits.train[:40].numpy()
    flat = nn.Flatten()
    with pytest.raises(InvalidInput, match="no convolution and no table, so int8 would change"):
        export_tensor(tmp_path / "x", flat, name="x", spec=IMAGE, items=items, variants=("int8",))
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_variant_is_refused_before_any_work(tmp_path: Path) -> None:
    items = np.zeros((3, 1, 8, 8), np.float32)
    with pytest.raises(InvalidInput, match="no variant 'int3' to attempt; besides fp32"):
        export_tensor(
            tmp_path / "x", nn.Flatten(), name="x", spec=IMAGE, items=items, variants=("int3",)
        )


@pytest.fixture(scope="module")
def variants(
    encoder: TensorEncoder, digits: Digits, tmp_path_factory: pytest.TempPathFactory
) -> Exported:
    """Export the variants that an encoder of tensors may have."""
    items, path = digits.train[:200].numpy(), tmp_path_factory.mktemp("variants") / "x"
    return export_tensor(
        path, encoder, name="x", spec=IMAGE, items=items, variants=("int8", "fp16")
    )


def test_a_convolutional_encoder_has_an_int8_variant(variants: Exported, digits: Digits) -> None:
    made = variants
    assert not made.refused
    report = json.loads(made.bundle.read("report.json"))["variants"]["int8"]
    assert report["int8_layers"] + len(report["float_layers"]) == 3  # the convolutions
    vectors = {
        name: attar.load(made.bundle.path, variant=name, threads=1).embed(digits.test.numpy())[:]
        for name in ("fp32", "int8")
    }
    assert (vectors["fp32"] * vectors["int8"]).sum(axis=1).mean() >= 0.995


def test_items_of_several_shapes_are_held_to_torch_each(tmp_path: Path) -> None:
    spec = replace(IMAGE, shape=("batch", 1, "height", "width"))
    draw = np.random.default_rng(0)
    items = [draw.standard_normal((1, *s)).astype(np.float32) for s in ((8, 8), (6, 9), (8, 8))]
    pool = nn.Sequential(nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    made = export_tensor(tmp_path / "x", pool, name="x", spec=spec, items=items)
    given = attar.load(made.bundle.path, threads=1).embed(items).vectors
    expected = np.concatenate([embed(pool, torch.from_numpy(item[None])) for item in items])
    assert np.abs(given - expected).max() <= 1e-5


class Pixels(nn.Module):
    """Products with constant matrices on every row of an image, then unit length."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(8, 32), nn.Linear(32, 16)

    def forward(self, image: Tensor) -> Tensor:
        rows = self.second(self.first(image[:, 0]).relu())
        return nn.functional.normalize(rows.mean(1), dim=1)


def test_int8_is_a_variant_where_there_is_something_to_quantise(
    digits: Digits, tmp_path: Path
) -> None:
    items = digits.train[:200].numpy()
    exported = export_tensor(
        tmp_path / "x", Pixels(), name="x", spec=IMAGE, items=items, variants=("int8",)
    )
    assert not exported.refused
    vectors = {
        name: attar.load(exported.bundle.path, variant=name, threads=1).embed(items).vectors
        for name in ("fp32", "int8")
    }
    assert 0.98 <= (vectors["fp32"] * vectors["int8"]).sum(axis=1).min() < 1


def test_a_taken_path_is_refused(
    exported: Exported, encoder: TensorEncoder, digits: Digits
) -> None:
    with pytest.raises(AlreadyExists, match="exists"):
        export_tensor(
            exported.bundle.path, encoder, name="x", spec=IMAGE, items=digits.test.numpy()
        )


def test_an_encoder_of_tensors_has_the_variants_that_need_no_data(variants: Exported) -> None:
    made = variants
    assert made.bundle.variant("fp16").requires.provider == "CUDAExecutionProvider"
    half, full = (made.bundle.manifest.file(f"variants/{v}.onnx").bytes for v in ("fp16", "fp32"))
    assert half < 0.6 * full
