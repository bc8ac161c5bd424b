"""The demo, on few documents: every stage runs, and its report has the promised shape."""

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

import attar
from attar.bundle import Bundle
from benchmarks.support.teachers import minilm

from ..support.imported import assert_same_as_torch

Share = Annotated[float, Field(ge=0, le=1)]
Cosine = Annotated[float, Field(ge=-1, le=1.000001)]

ROOT = Path(__file__).parents[2]
KEPT = ROOT / "benchmarks" / "results" / "demo.json"


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


class Encoder(Strict):
    recall_at_1: Share
    recall_at_10: Share
    parameters: Annotated[int, Field(gt=0)]
    rankme: Annotated[float, Field(ge=1)]


class Variant(Strict):
    recall_at_10: Share
    cosine_mean: Cosine
    cosine_worst: Cosine
    bytes: Annotated[int, Field(gt=0)]
    p50_ms: Annotated[float, Field(gt=0)]


class Parity(Strict):
    max_abs_difference: Annotated[float, Field(ge=0)]


class Anomaly(Strict):
    auroc: Share


class Classes(Strict):
    accuracy: Share
    majority: Share


class Report(Strict):
    corpus: Corpus
    teacher: Encoder
    pretrained: Encoder
    distilled: Encoder
    pretrained_distilled: Encoder
    variants: Mapping[str, Variant]
    parity: Parity
    anomaly: Anomaly
    classify: Classes
    seconds: Mapping[str, float]
    machine: Mapping[str, Any]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoRun:
    """Run the demo once, in a process of its own, as a user starts it."""
    folder = tmp_path_factory.mktemp("demo")
    command = [str(Path(sys.executable).with_name("attar")), "demo", "--quick", "--out"]
    done = subprocess.run([*command, folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return DemoRun(folder, done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_demo_runs_every_stage_and_reports_in_the_promised_shape(demo: DemoRun) -> None:
    """It leaves bundles, report and plot."""
    report = Report.model_validate_json((demo.folder / "report.json").read_bytes())
    assert report.corpus.held_out == 40
    assert {"corpus", "import", "pretrain", "distill", "export", "serve", "total"} <= set(
        report.seconds
    )
    assert set(report.variants) >= {"fp32"}
    assert report.parity.max_abs_difference <= 1e-6
    assert (demo.folder / "plot.png").read_bytes().startswith(b"\x89PNG")
    assert "make serve" in demo.out
    student = attar.load(demo.folder / "student.attar")
    teacher = attar.load(demo.folder / "minilm.attar")
    assert student.fingerprint != teacher.fingerprint
    assert 3 * report.distilled.parameters <= report.teacher.parameters


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_all_minilm_is_imported_with_its_numbers(demo: DemoRun) -> None:
    path = demo.folder / "minilm.attar"
    assert_same_as_torch(path, minilm())
    manifest = Bundle.open(path).manifest
    assert manifest.name == "all-minilm-l6-v2"
    assert manifest.output.dim == 384


def test_the_figures_that_the_pages_quote_have_the_shape_of_a_report() -> None:
    """benchmarks/results/demo.json is a whole report of a full run, not a hand-made excerpt."""
    report = Report.model_validate_json(KEPT.read_bytes())
    assert report.corpus.held_out == 800
