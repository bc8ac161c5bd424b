"""The public names of `attar.training`: few, listed, imported when used, and of use alone."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from attar import training
from attar.errors import InvalidInput, NotFound
from attar.training import adapt, distill, evaluate, load_checkpoint, pretrain, recipes, sweep
from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.encoder_folder import TensorModel, TextModel
from attar.training.recipes.image import byol
from benchmarks.support.teachers import bert_folder

from ..support.students import corpus, trained

WORDS = ("cat", "dog", "sun", "sky")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return pretrain("image/simclr", tmp_path_factory.mktemp("run") / "run", data="digits", steps=2)


def test_the_public_names_are_listed_and_there() -> None:
    assert training.__all__ == [
        "adapt",
        "distill",
        "evaluate",
        "evaluate_suite",
        "load_checkpoint",
        "pretrain",
        "recipes",
        "sweep",
    ]
    functions = adapt, distill, evaluate, load_checkpoint, pretrain, sweep
    assert all(callable(function) for function in functions)
    assert byol.__name__.startswith(f"{recipes.__name__}.")
    with pytest.raises(AttributeError, match="no attribute 'finetune'"):
        training.finetune  # noqa: B018 - the look-up is what is tested


def test_the_front_door_imports_torch_when_a_name_is_used_and_gives_the_recipes() -> None:
    code = "import sys, attar.training; assert 'torch' not in sys.modules; "
    code += "assert attar.training.recipes.find('image/byol')"  # an attribute of the package
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_recipe_is_listed_and_shows_its_paper_its_claim_and_its_numbers() -> None:
    assert "image/byol" in recipes.catalogue()
    recipe = recipes.find("image/byol")
    assert (recipe.settings, recipe.published) == (byol.SMALL, byol.PAPER)
    assert "arXiv:2006.07733" in recipe.paper
    assert recipes.claim_of("image/byol").statement.startswith("with five labels a class")
    assert recipes.__all__ == ["catalogue", "claim_of", "find"]
    with pytest.raises(AttributeError, match="no attribute 'simclr'"):
        recipes.simclr  # noqa: B018 - the look-up is what is tested


def test_a_student_is_distilled_and_loaded_in_two_lines(tmp_path: Path) -> None:
    teacher, texts = bert_folder(tmp_path / "teacher"), tmp_path / "texts.txt"
    texts.write_text("\n".join(f"the {a} {b}" for a in WORDS for b in WORDS), "utf-8")
    out = distill(teacher, tmp_path / "student", data=str(texts), steps=2)
    student = load_checkpoint(out)
    assert isinstance(student, TextModel)
    assert (student.encoder.dim, student.lineage["recipe"]) == (16, "distil")


def test_an_encoder_is_pretrained_loaded_and_evaluated_in_three_lines(run: Path) -> None:
    figures = evaluate(run, "digits")
    assert isinstance(load_checkpoint(run), TensorModel)
    assert figures.keys() == {"rankme", "knn", "linear", "scarce"}
    assert all(0.5 < figures[name] <= 1 for name in ("knn", "linear", "scarce"))
    assert figures == evaluate(str(run), "digits")


def test_the_moving_average_of_an_encoder_is_saved_where_a_setting_says_so(tmp_path: Path) -> None:
    changes = ["export_target=true", "encoder=tiny"]
    run = pretrain("image/byol", tmp_path / "run", data="digits", steps=2, changes=changes)
    saved = load_checkpoint(run).encoder.state_dict()
    with safe_open(run / "checkpoint.safetensors", framework="pt") as file:
        averaged = {name: file.get_tensor(f"method.target.copy.encoder.{name}") for name in saved}
        learned = {name: file.get_tensor(f"method.encoder.{name}") for name in saved}
    assert all(torch.equal(saved[name], averaged[name]) for name in saved)
    assert not all(torch.equal(saved[name], learned[name]) for name in saved)


def test_without_labels_rankme_alone_is_given(run: Path) -> None:
    assert evaluate(run, "digits", reading=["labels=none"]).keys() == {"rankme"}


def test_a_text_encoder_is_evaluated_on_a_corpus(tmp_path: Path) -> None:
    encoder_folder.save(trained(), tmp_path / "encoder")
    lines = [text for pair in corpus().train for text in (pair.summary, pair.body)]
    (tmp_path / "texts.txt").write_text("\n".join(lines), "utf-8")
    figures = evaluate(tmp_path / "encoder", tmp_path / "texts.txt")
    assert figures.keys() == {"recall_at_1", "recall_at_10", "mrr", "rankme"}
    assert 0 < figures["recall_at_1"] <= figures["recall_at_10"] <= 1


def test_what_cannot_be_evaluated_is_named(run: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file or folder nowhere"):
        evaluate(run, "nowhere")
    with pytest.raises(InvalidInput, match="--data is empty"):
        evaluate(run, "")
    with pytest.raises(InvalidInput, match=r"encoder\.json"):
        evaluate(tmp_path, "digits")
