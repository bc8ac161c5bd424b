"""The examples run, in few steps, and are short enough to be read."""

import json
import runpy
import tempfile
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
import torch
from PIL import Image

from attar.export.tensor import export_tensor
from attar.training.encoders.conv import SmallConv, SmallConvConfig
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.servers import serving, settings
from benchmarks.support.teachers import small_minilm

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXTS = "\n".join(f"Sort the rows of table {row} by column {row % 7}." for row in range(40))


def main_of(name: str) -> Any:
    return runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_is_under_forty_lines(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) < 40


def test_a_served_collection_is_searched_by_meaning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tiny_bundle(tmp_path / "student.attar", name="student")
    with serving(settings(bundle, data_dir=tmp_path / "data")) as target:
        main_of("serve_and_search")(target, "the cat")
        main_of("serve_and_search")(target, "the cat")  # the collection is there already

    assert len(capsys.readouterr().out.splitlines()) == 4


def test_a_detector_scores_what_is_new(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle = tiny_bundle(tmp_path / "student.attar", name="student")
    with serving(settings(bundle, data_dir=tmp_path / "data")) as target:
        main_of("detect_anomalies")(target)

    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.slow
def test_a_teacher_is_distilled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text(TEXTS, "utf-8")
    teacher = small_minilm(tmp_path / "teacher")
    main_of("distill_a_teacher")(str(teacher), str(tmp_path), str(texts), steps=2, min_cosine=0.0)

    assert "dimensions, cosine" in capsys.readouterr().out


def test_images_find_their_neighbours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for row, pixels in enumerate(
        np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), np.uint8)
    ):
        Image.fromarray(pixels).save(images / f"{row}.png")
    main_of("pretrain_your_images")(str(images), str(tmp_path / "out"), side=16, steps=2)

    assert capsys.readouterr().out.count("is most like") == 10


def test_a_region_of_an_image_is_searched_by_a_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, draw = tmp_path / "images", np.random.default_rng(0)
    images.mkdir()
    for row in range(3):
        pixels = draw.integers(0, 100, (16, 16, 3), np.uint8)
        if row == 1:
            pixels[8:, :8] = (250, 20, 20)
        Image.fromarray(pixels).save(images / f"{row}.png")
    (images / "damaged.png").write_bytes((images / "0.png").read_bytes()[:60])
    Image.new("RGB", (8, 8), (250, 20, 20)).save(tmp_path / "red.png")
    torch.manual_seed(0)
    encoder = SmallConv(SmallConvConfig(channels=3, side=16, width=8))
    bundle = export_tensor(
        tmp_path / "regions.attar",
        encoder,
        name="regions",
        spec=encoder.input,
        items=draw.random((16, 3, 16, 16), np.float32),
        tokens=True,
    ).bundle
    with serving(settings(bundle.path, data_dir=tmp_path / "data")) as target:
        main_of("search_regions")(target, str(images), str(tmp_path / "red.png"), "16")

    first, *others = capsys.readouterr().out.splitlines()
    assert first.endswith(" 1.png [0, 0.5, 0.5, 1]")
    assert len(others) == 2


def test_the_notebook_draws_a_map_of_embeddings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = json.loads((EXAMPLES / "embedding_map.ipynb").read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    program = "\n".join("".join(cell["source"]) for cell in cells)
    assert "steps=100" in program
    short = program.replace("steps=100", "steps=2").replace("plt.show()", "plt.savefig('map.png')")
    (tmp_path / "map.py").write_text(short, "utf-8")
    mpl.use("agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    runpy.run_path("map.py")

    assert (tmp_path / "map.png").stat().st_size > 10_000
    assert not any(cell["outputs"] for cell in cells)
