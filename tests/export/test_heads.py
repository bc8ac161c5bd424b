"""The classifiers that a run learnt come with its bundle, and give its own probabilities."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

import attar
from attar.bundle import Bundle
from attar.export import export
from attar.heads import LinearClassifier
from attar.training import load_checkpoint, pretrain
from attar.training.checkpoints.encoder_folder import TensorModel
from attar.training.data.objects import read_objects
from attar.training.datasets.stars import MODALITIES, variable_stars

SETTINGS = ("encoder=tiny", "batch_size=8", "rate=0.01", "warmup=0")
STAGES = ("tuning_steps=2", "tuning_rate=0.05", "distil_steps=3")


def images(path: Path) -> NDArray[np.float32]:
    """Write images of cats and dogs, and give them as an encoder takes them."""
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, 255, (24, 16, 16), dtype=np.uint8)
    np.savez(path, x=pixels, y=np.array(["cat", "dog"] * 12))
    return (pixels[:, None] / 255).astype(np.float32)


def probabilities(
    run: Path, checkpoint: Path, layer: str, items: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Run the torch encoder and the layer of that name in the run's checkpoint."""
    model = load_checkpoint(run)
    assert isinstance(model, TensorModel)
    weights = load_file(checkpoint / "checkpoint.safetensors")
    weight, bias = (weights[f"method.{layer}.{part}"] for part in ("weight", "bias"))
    with torch.no_grad():
        logits: Tensor = model.encoder(torch.from_numpy(items)) @ weight.T + bias
    assert weight.abs().max() > 0
    return logits.softmax(1).numpy()


def used(bundle: Path, name: str, items: NDArray[np.float32]) -> tuple[LinearClassifier, Any]:
    """Load a bundle and give its head of that name, with what it makes of the items."""
    encoder = attar.load(bundle, variant="fp32", threads=1)
    head = encoder.heads[name]
    assert isinstance(head, LinearClassifier)
    embeddings = encoder.embed(items)
    return head, head.probabilities(embeddings.vectors, fingerprint=embeddings.fingerprint)


@pytest.mark.parametrize("recipe", ["image/simclr_v2", "image/ssld"])
def test_the_students_classifier_is_in_its_bundle(tmp_path: Path, recipe: str) -> None:
    data, run, bundle = (tmp_path / name for name in ("x.npz", "run", "x.attar"))
    items = images(data)
    pretrain(recipe, run, data=str(data), changes=(*SETTINGS, *STAGES), steps=1)
    export(run, bundle)
    head, found = used(bundle, "classifier", items)
    assert head.labels == ("cat", "dog")
    assert head.model == "x"
    expected = probabilities(run, run / "distil", "encoder.head", items)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_joint_and_the_single_classifier_of_label_augmentation_are_in_its_bundle(
    tmp_path: Path,
) -> None:
    data, run, bundle = (tmp_path / name for name in ("x.npz", "run", "x.attar"))
    items = images(data)
    pretrain("image/label_augmentation", run, data=str(data), changes=SETTINGS, steps=2)
    export(run, bundle)
    for name, layer, labels in (
        ("single", "plain", ("cat", "dog")),
        ("joint", "joint", tuple(f"{w}, form {i}" for w in ("cat", "dog") for i in range(4))),
    ):
        head, found = used(bundle, name, items)
        assert head.labels == labels
        np.testing.assert_allclose(found, probabilities(run, run, layer, items), atol=1e-5)


def test_the_centroids_of_classes_are_in_the_bundle_of_each_modality(tmp_path: Path) -> None:
    sky = variable_stars(each=8, samples=32, bins=512)
    rows = torch.arange(len(sky.train_labels))
    arrays: dict[str, Any] = {
        f"{name}_x_train": items[rows].numpy() for name, items in sky.train.items()
    }
    arrays |= {f"{name}_y_train": sky.train_labels for name in sky.train}
    np.savez(tmp_path / "stars.npz", **arrays)
    small = ("dim=12", "width=8", "hidden=8", "depth=1", "warmup=0")
    run = tmp_path / "space"
    pretrain("multimodal/astro_m3", run, data=str(tmp_path / "stars.npz"), changes=small, steps=1)
    export(run / "metadata", tmp_path / "rows.attar")
    known = read_objects(tmp_path / "stars.npz", MODALITIES)
    items = known.train["metadata"]
    stars = items[torch.arange(len(items))].numpy()
    head, found = used(tmp_path / "rows.attar", "centroids", stars)
    classes = np.unique(known.train_labels)
    assert head.labels == tuple(map(str, classes))
    vectors = attar.load(tmp_path / "rows.attar", variant="fp32", threads=1).embed(stars).vectors
    centroids = np.stack([vectors[known.train_labels == label].mean(0) for label in classes])
    cosines = vectors @ (centroids / np.linalg.norm(centroids, axis=1, keepdims=True)).T
    np.testing.assert_array_equal(found.argmax(1), cosines.argmax(1))
    assert head.examples == len(stars)


def test_a_bundle_without_heads_has_none_and_the_space_is_that_of_one_with_heads(
    tmp_path: Path,
) -> None:
    data, run = tmp_path / "x.npz", tmp_path / "run"
    images(data)
    pretrain("image/label_augmentation", run, data=str(data), changes=SETTINGS, steps=1)
    headed = export(run, tmp_path / "x.attar").bundle
    files = {
        entry.path: headed.read(entry.path)
        for entry in headed.manifest.files
        if not entry.path.startswith("heads/")
    }
    bare = Bundle.write(tmp_path / "bare.attar", headed.manifest, files)
    assert attar.load(bare, threads=1).heads == {}
    assert bare.manifest.fingerprint == headed.manifest.fingerprint
