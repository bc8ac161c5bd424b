"""A small image encoder learns a large one's embeddings, and the report says how near it is."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attar.errors import InvalidInput
from attar.training import distill, load_checkpoint
from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.encoder_folder import TensorModel
from attar.training.encoders.mlp import MlpConfig, MlpEncoder
from attar.training.methods.image_distillation import ImageDistillation
from attar.training.objectives.distillation import embedding_match, similarity_match

TEACHER = "torch:benchmarks.support.networks:tiny"


def photographs(folder: Path, *, classes: bool) -> Path:
    """Write 48 small images of two colours."""
    draw = np.random.default_rng(0)
    for number in range(48):
        tint = np.array([[200, 40, 40], [40, 40, 200]][number % 2])
        pixels = np.clip(tint + draw.normal(0, 25, (12, 10, 3)), 0, 255).astype(np.uint8)
        path = folder / (str(number % 2) if classes else "") / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.mark.parametrize("classes", [True, False])
def test_a_student_learns_its_teachers_embeddings_of_a_folder(
    tmp_path: Path, *, classes: bool
) -> None:
    data = str(photographs(tmp_path / "photographs", classes=classes))
    cosines = []
    for steps in (1, 30):
        out = distill(
            *(TEACHER, tmp_path / f"run-{steps}"),
            data=data,
            reading=["side=8"],
            encoder="tiny",
            steps=steps,
        )
        facts = json.loads((out / "report.json").read_text())
        cosines.append(facts["agreement"]["cosine"])
        assert ("knn" in facts) == classes
    assert cosines[1] > cosines[0] + 0.5
    model = load_checkpoint(out)
    assert isinstance(model, TensorModel)
    assert (model.encoder.dim, model.licence, model.normalize) == (6, "CC0-1.0", True)
    assert model.lineage["teacher"] == {"name": TEACHER}


def test_the_loss_is_the_two_terms_that_match_the_teacher() -> None:
    student = torch.nn.Linear(4, 3)
    images, targets = torch.randn(5, 4), torch.randn(5, 3)
    loss, metrics = ImageDistillation(student, temperature=0.1).loss((images, targets), 0)
    match = embedding_match(student(images), targets)
    similarity = similarity_match(student(images), targets, temperature=0.1)
    torch.testing.assert_close(loss, match + similarity)
    assert metrics == {"match": match, "similarity": similarity}


def test_what_is_of_texts_alone_or_of_images_alone_is_refused(tmp_path: Path) -> None:
    data = str(photographs(tmp_path / "photographs", classes=False))
    with pytest.raises(InvalidInput, match="the teacher is of images, which have no length"):
        distill(TEACHER, tmp_path / "run", data=data, length=3)
    with pytest.raises(InvalidInput, match="only a student of images has an encoder by name"):
        distill(tmp_path, tmp_path / "run", data=data, encoder="tiny")
    encoder_folder.save(
        TensorModel(encoder=MlpEncoder(MlpConfig(features=3, dim=2))), tmp_path / "rows"
    )
    with pytest.raises(InvalidInput, match="holds an encoder of table; images need one of images"):
        distill(tmp_path / "rows", tmp_path / "run", data=data, reading=["side=8"])
    assert not (tmp_path / "run").exists()
