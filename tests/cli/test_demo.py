"""The demo, on few documents: every stage runs, and its report has the promised shape."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

import attar
from attar.bundle import Bundle
from attar.cli.demo.corpus import read_corpus
from attar.cli.demo.stages import QUICK
from attar.cli.demo.teacher import PACKAGE, teacher_folder
from attar.export import importing
from attar.training.run_folder import source
from benchmarks.support.teachers import minilm, small_minilm

from ..support.imported import assert_same_as_torch

Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1.000001)]

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks" / "results" / "demo.json"
BUNDLES = ("minilm.attar", "adapted.attar", "student.attar", "static.attar")


@dataclass(frozen=True, slots=True)
class DemoRun:
    """What a run of the demo left: its folder, and what it printed."""

    folder: Path
    out: str


class Strict(BaseModel):
    """What is read of one part of the report; more may be there."""

    model_config = ConfigDict(strict=True, extra="allow")


class Corpus(Strict):
    documents: int
    held_out: int
    searched: int


class Encoder(Strict):
    recall_at_1: Share
    recall_at_10: Share
    mrr: Share
    bytes: Annotated[int, Field(gt=0)]
    texts_per_second: Annotated[float, Field(gt=0)]
    variant: str


class Variant(Strict):
    recall_at_10: Share
    cosine_mean: Cosine
    cosine_worst: Cosine
    bytes: Annotated[int, Field(gt=0)]
    p50_ms: Annotated[float, Field(gt=0)]


class Parity(Strict):
    max_abs_difference: Annotated[float, Field(ge=0)]


class Threshold(Strict):
    requested: Share
    false_alarms: Share
    detected: Share


class Detector(Strict):
    auroc: Share
    thresholds: Annotated[Sequence[Threshold], Field(min_length=2)]


class Detectors(Strict):
    knn: Detector
    mahalanobis: Detector


class Anomaly(Strict):
    adapted: Detectors
    student: Detectors


class Classes(Strict):
    accuracy: Share
    majority: Share


class Report(Strict):
    corpus: Corpus
    teacher: Encoder
    adapted: Encoder
    student: Encoder
    static: Encoder
    variants: Mapping[str, Mapping[str, Variant]]
    parity: Parity
    anomaly: Anomaly
    classify: Classes
    seconds: Mapping[str, float]
    cpu_seconds: Mapping[str, float]
    machine: Mapping[str, Any]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """Run the demo once, in a process of its own, as a user starts it.

    Python finds a smaller all-MiniLM before the installed one.
    """
    folder, packages = (tmp_path_factory.mktemp(name) for name in ("demo", "packages"))
    package = packages / PACKAGE
    small_minilm(package / "model")
    (package / "__init__.py").touch()
    done = subprocess.run(
        [Path(sys.executable).with_name("attar"), "demo", "--quick", "--out", folder],
        env=os.environ | {"PYTHONPATH": str(packages)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return DemoRun(folder, done.stdout)


@pytest.mark.slow
def test_the_demo_runs_every_stage_and_reports_in_the_promised_shape(demo: DemoRun) -> None:
    """It leaves bundles, report and plot."""
    report = Report.model_validate_json((demo.folder / "report.json").read_bytes())
    assert report.corpus.held_out == 40
    stages = {"corpus", "import", "adapt", "distill", "static", "export", "serve", "total"}
    assert stages == set(report.seconds) == set(report.cpu_seconds)
    assert all("fp32" in variants for variants in report.variants.values())
    assert report.parity.max_abs_difference <= 1e-6
    assert (demo.folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "make serve" in demo.out
    bundles = [attar.load(demo.folder / name) for name in BUNDLES]
    # Two steps may make no weights better than the base's, which are then the adapted ones.
    unchanged = (
        json.loads((demo.folder / "adapted" / "report.json").read_bytes())["soup"]["share"] == 0
    )
    assert len({bundle.fingerprint for bundle in bundles}) == len(bundles) - unchanged
    assert report.student.bytes < report.teacher.bytes
    assert report.static.texts_per_second > report.teacher.texts_per_second


def test_what_the_demo_trains_on_is_apart_from_what_it_holds_out() -> None:
    splits = read_corpus(QUICK.packages, per_package=40, held_out=40, seed=0)

    assert splits.train
    for key in ("name", "summary", "body"):
        trained, held_out = (
            {getattr(pair, key) for pair in part} for part in (splits.train, splits.held_out)
        )
        assert not trained & held_out


@pytest.mark.slow
def test_no_training_of_the_demo_reads_a_held_out_pair(demo: DemoRun) -> None:
    lines = (demo.folder / "corpus.jsonl").read_text("utf-8").splitlines()
    trained = [json.loads(line) for line in lines]
    held_out = read_corpus(QUICK.packages, per_package=40, held_out=40, seed=0).held_out

    assert trained
    for key in ("name", "summary", "body"):
        assert not {row[key] for row in trained} & {getattr(pair, key) for pair in held_out}
    for name in ("adapted", "student", "static"):
        lineage = Bundle.open(demo.folder / f"{name}.attar").manifest.lineage
        assert lineage["data"] == source(str(demo.folder / "corpus.jsonl"), demo.folder / name)


@pytest.mark.slow
def test_all_minilm_is_imported_with_its_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Texts of eight lengths are enough of a folder that is known; `import_folder` has 64."""
    monkeypatch.setattr(importing, "PARITY_TEXTS", 8)
    path = tmp_path / "minilm.attar"
    bundle = importing.import_folder(teacher_folder(), path, name="all-minilm-l6-v2").bundle
    assert_same_as_torch(path, minilm())
    assert bundle.manifest.name == "all-minilm-l6-v2"
    assert bundle.manifest.output.dim == 384


def test_the_figures_that_the_pages_quote_have_the_shape_of_a_report() -> None:
    """benchmarks/results/demo.json is a whole report of a full run, not a hand-made excerpt."""
    report = Report.model_validate_json(KEPT.read_bytes())
    assert report.corpus.held_out == 800
    assert 3 * report.student.bytes <= report.teacher.bytes
