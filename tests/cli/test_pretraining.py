"""`attar pretrain` of recipes whose data is not one set of tensors or of pairs of texts."""

import json
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import attar
from attar.training import evaluate
from attar.training.checkpoints import encoder_folder
from attar.training.claims.series.eegformer import claim
from attar.training.datasets.invented_language import invented_language
from attar.training.datasets.stars import variable_stars
from attar.training.datasets.tones import Timbre, tones

from ..support.commands import Attar
from ..support.distributed_worker import PRETRAIN
from ..support.torchrun import distributed_run


def write_wav(path: Path, clip: Tensor) -> None:
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes((clip * 2**15).to(torch.int16).numpy().tobytes())


def test_pretrain_takes_molecules_and_export_the_same_table(attar_: Attar, tmp_path: Path) -> None:
    table, out, bundle = (tmp_path / name for name in ("smiles.csv", "encoder", "smiles.attar"))
    table.write_text("smiles\n" + "\n".join(f"{'C' * n}O\nc1ccccc1{'N' * n}" for n in range(1, 9)))
    ran = attar_(
        *("pretrain", "molecule/molformer", "--data", table, "--steps", 2, "--out", out),
        *("--set", "max_length=24", "--set", "transformer.depth=1"),
    )
    assert ran.status == 0, ran.err
    exported = attar_("export", out, bundle, "--data", table)
    assert exported.status == 0, exported.err
    assert "binarized is left out" in exported.out
    refused = attar_("binarize", out, tmp_path / "x.attar", "--data", table, "--bits", 8)
    assert refused.status == 2
    assert "is read as SMILES" in refused.err
    vectors = attar.load(bundle).embed(["CCO", "c1ccccc1N"]).vectors
    assert not np.allclose(vectors[0], vectors[1])


def test_pretrain_writes_an_encoder_for_every_modality_of_a_space(
    attar_: Attar, tmp_path: Path
) -> None:
    sky = variable_stars(each=8, samples=32, bins=512)
    rows = torch.arange(len(sky.train_labels))
    arrays: dict[str, Any] = {
        f"{name}_x_train": items[rows].numpy() for name, items in sky.train.items()
    }
    arrays |= {f"{name}_y_train": sky.train_labels for name in sky.train}
    stars, out = tmp_path / "stars.npz", tmp_path / "space"
    np.savez(stars, **arrays)
    ran = attar_(
        *("pretrain", "multimodal/astro_m3", "--data", stars, "--steps", 2, "--out", out),
        *("--set", "dim=12", "--set", "width=8", "--set", "hidden=8"),
    )
    assert ran.status == 0, ran.err
    spaces = set()
    for name in sky.train:
        model = encoder_folder.load(out / name)
        assert isinstance(model, encoder_folder.TensorModel)
        assert model.encoder.dim == 12
        space = model.lineage["space"]
        assert isinstance(space, dict)
        spaces.add(space["id"])
    assert len(spaces) == 1
    arrays["spectra_y_train"] = sky.train_labels[::-1]
    np.savez(stars, **arrays)
    ran = attar_("pretrain", "multimodal/astro_m3", "--data", stars, "--steps", 2, "--out", out)
    assert ran.status == 2
    assert "spectra and photometry of" in ran.err
    assert "differ in their labels" in ran.err


def test_pretrain_goes_on_from_one_group_to_another(attar_: Attar, tmp_path: Path) -> None:
    data, out = tmp_path / "voices", tmp_path / "encoder"
    for group in ("related", "target"):
        timbre: Timbre = "flute" if group == "related" else "reed"
        clips = tones(timbre, train=8, test=1).train[torch.arange(8)]
        (data / group).mkdir(parents=True)
        for number, clip in enumerate(clips.reshape(8, -1)):
            write_wav(data / group / f"{number}.wav", clip)
    ran = attar_(
        *("pretrain", "audio/continued", "--data", data, "--steps", 2, "--out", out),
        *("--set", "further_steps=2"),
    )
    assert ran.status == 0, ran.err
    assert {"base", "continued"} <= {path.name for path in out.iterdir()}
    none = attar_("pretrain", "audio/continued", "--data", data / "target", "--out", out)
    assert none.status == 2
    assert "has no related and no target: put the images or recordings of the first" in none.err
    slower = attar_(
        *("pretrain", "audio/continued", "--data", data, "--read", "rate=4000", "--steps", 2),
        *("--set", "further_steps=2", "--set", "frames.hertz=4000", "--out", tmp_path / "slower"),
    )
    assert slower.status == 0, slower.err
    assert "shape (1, 4000)" in slower.out
    whole = attar_(
        "pretrain", "multimodal/astro_m3", "--data", data, "--read", "rate=8000", "--out", out
    )
    assert whole.status == 2
    assert "the recipe reads" in whole.err


@pytest.mark.parametrize("name", ["image/infinite_schedule", "image/further_pretraining"])
def test_a_recipe_of_two_domains_reads_two_folders_of_images(
    attar_: Attar, tmp_path: Path, name: str
) -> None:
    data, out = tmp_path / "domains", tmp_path / "encoder"
    draw = np.random.default_rng(0)
    for group, count, side in (("related", 6, 12), ("target", 4, 9)):
        (data / group).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 255, (side, side), dtype=np.uint8)
            Image.fromarray(pixels).save(data / group / f"{number}.png")
    command = "pretrain", name, "--data", data, "--steps", 2, "--set", "encoder=tiny", "--out", out
    sizes = attar_(*command)
    assert sizes.status == 2
    assert "related has the shape (1, 12, 12) and one of target (1, 9, 9); bring both" in sizes.err
    ran = attar_(*command, "--read", "side=8")
    assert ran.status == 0, ran.err
    assert "6 items of shape (1, 8, 8)" in ran.out
    assert "4 items of shape (1, 8, 8)" in ran.out
    model = encoder_folder.load(out)
    assert isinstance(model, encoder_folder.TensorModel)
    assert model.values is not None


@pytest.mark.parametrize(
    "name",
    [
        "text/simcse",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("text/mlm", "text/mcl")),
    ],
)
def test_a_folder_of_documents_without_a_teacher_becomes_a_bundle(
    attar_: Attar, tmp_path: Path, name: str
) -> None:
    documents, out, bundle = (tmp_path / part for part in ("documents", "encoder", "x.attar"))
    documents.mkdir()
    for number, pair in enumerate(invented_language(count=24)):
        (documents / f"{number}.{'md' if number % 2 else 'txt'}").write_text(pair.body)
    small = {"width": 16, "heads": 2, "hidden": 16, "depth": 1}
    ran = attar_(
        *("pretrain", name, "--data", documents, "--steps", 2, "--micro-batch", 8, "--out", out),
        *(f"--set=shape.transformer.{part}={value}" for part, value in small.items()),
    )
    assert ran.status == 0, ran.err
    assert evaluate(out, documents).keys() >= {"recall_at_10", "rankme"}
    exported = attar_("export", out, bundle, "--data", documents)
    assert exported.status == 0, exported.err
    assert len(attar.load(bundle, threads=1).embed(["a word"])) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("image/byol", "--tokenizer", "t.json"), "--tokenizer says nothing to image/byol"),
        (("text/simclr", "--read", "side=8"), "--read side=8 says nothing to text/simclr"),
        (("series/eegformer", "--read", "side=8"), "how --data is read, and there is none"),
    ],
)
def test_an_option_that_would_not_be_read_is_refused(
    attar_: Attar, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    ran = attar_("pretrain", *arguments, "--out", tmp_path / "out")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert message in ran.err
    assert not (tmp_path / "out").exists()


def test_two_processes_pretrain_as_one_does(
    attar_: Attar, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    started = distributed_run(tmp_path_factory)
    assert attar_(*PRETRAIN, tmp_path / "one").status == 0
    said = [(started / f"pretrain{rank}.txt").read_text("utf-8") for rank in (0, 1)]
    assert "".join(said).count("items of shape") == 1  # one process speaks for both
    folders = tmp_path / "one", started / "pretrained"
    one, two = (
        [json.loads(row) for row in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in folders
    )
    assert [row.keys() for row in two] == [row.keys() for row in one]  # the first process writes
    assert two[-2]["loss"] == pytest.approx(one[-2]["loss"], rel=0.05)  # each hides others
    alone, together = (encoder_folder.load(folder).lineage for folder in folders)
    assert together == alone


def test_a_recipe_of_what_is_not_shipped_runs_on_what_its_claim_is_shown_on(
    attar_: Attar, tmp_path: Path
) -> None:
    out = tmp_path / "encoder"
    ran = attar_("pretrain", "series/eegformer", "--steps", 1, "--out", out)
    assert ran.status == 0, ran.err
    assert encoder_folder.load(out).lineage["data"] == claim.data.__name__
