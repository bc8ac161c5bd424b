"""A variant that fails a gate is not written, and the report says by which bound."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import attar
from attar.bundle import Bundle
from attar.errors import AlreadyExists, BackendError, InvalidInput
from attar.export.bundling import Candidate, Exported, assemble
from attar.export.gates import FP32, Gate, failures
from attar.export.measure import LEAST_TOLERANCE, Measured, Probe, tolerance
from attar.export.onnx_graph import node_counts
from attar.host import instruction_set
from attar.inputs import Prepared, TextInput
from attar.manifest import Latency, Manifest
from attar.runtime import Encoder
from benchmarks.support.bundles import WORDS, text_graph, text_manifest, tokenizer_json

LOOSE = Gate(cosine_mean=0.5, cosine_worst=0.0, max_drop=1.0)
STRICT = Gate(cosine_mean=0.99999, cosine_worst=0.9999, max_drop=0.0)
TEXTS = ["", *(" ".join(WORDS[i : i + 1 + i % 5]) for i in range(12)), "the " * 40]


def candidate(name: str, *, noise: float = 0.0, gate: Gate = LOOSE, **more: Any) -> Candidate:
    return Candidate(name=name, graph=text_graph(noise=noise), precision="fp32", gate=gate, **more)


@cache
def rows() -> list[Prepared]:
    host = TextInput(tokenizer_json(), max_length=16, prompts={})
    return host.prepare(TEXTS, role="passage", truncation="truncate")


def reference(folder: Path) -> NDArray[np.float32]:
    """Give the embeddings of a graph without noise: the torch encoder of these tests."""
    path = folder / "reference"
    manifest = replace(text_manifest(), ranges=None)
    files = {"tokenizer.json": tokenizer_json(), "variants/fp32.onnx": text_graph()}
    encoder = attar.load(Bundle.write(path, manifest, files).path, threads=1)
    return np.concatenate([encoder.infer([row]) for row in rows()])


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> NDArray[np.float32]:
    return reference(tmp_path_factory.mktemp("truth"))


Assemble = Callable[..., Exported]


@pytest.fixture
def assembled(truth: NDArray[np.float32]) -> Assemble:
    def run(path: Path, *candidates: Candidate, **options: Any) -> Exported:
        manifest: Manifest = replace(
            text_manifest(), variants=(), ranges=None, lineage={"recipe": "r", "seed": 7}
        )
        given = {"probe": None, "metric": None, "overwrite": False, "reference": truth}
        files = {"tokenizer.json": tokenizer_json()}
        return assemble(path, manifest, files, candidates, rows=rows(), **{**given, **options})

    return run


def closeness(truth: NDArray[np.float32]) -> Probe:
    """Give a probe that falls as an encoder moves away from the truth."""

    def probe(encoder: Encoder) -> dict[str, float]:
        vectors = encoder.embed(TEXTS).vectors
        return {"closeness": float((vectors * truth).sum(axis=1).mean()), "one": 1.0}

    return probe


def test_what_passes_is_written_and_what_fails_is_not(assembled: Assemble, tmp_path: Path) -> None:
    exported = assembled(
        tmp_path / "x",
        candidate("fp32", gate=FP32),
        candidate("near", noise=1e-4),
        candidate("far", noise=1.0, gate=STRICT),
    )
    bundle = Bundle.open(tmp_path / "x")
    assert [variant.name for variant in bundle.manifest.variants] == ["fp32", "near"]
    assert not (tmp_path / "x" / "variants" / "far.onnx").exists()
    assert bundle.manifest.reference == "fp32"
    assert exported.refused.keys() == {"far"}


def test_the_report_says_each_broken_bound(
    assembled: Assemble, truth: NDArray[np.float32], tmp_path: Path
) -> None:
    exported = assembled(
        tmp_path / "x",
        candidate("fp32", gate=FP32),
        candidate("far", noise=1.0, gate=STRICT),
        probe=closeness(truth),
        metric="closeness",
    )
    (mean, worst, drop) = exported.refused["far"]
    figures = exported.measured["far"]
    assert mean == f"mean cosine {figures.cosine_mean:.5f} is below 0.99999"
    assert worst == f"worst cosine {figures.cosine_worst:.5f} is below 0.9999"
    assert drop.startswith("closeness lost 0.")
    assert drop.endswith("more than 0.0")
    report: Any = exported.bundle.report["variants"]
    assert report["far"]["refused_because"] == [mean, worst, drop]
    assert report["fp32"]["refused_because"] == []


def test_the_report_has_every_candidates_figures(
    assembled: Assemble, truth: NDArray[np.float32], tmp_path: Path
) -> None:
    candidates = (
        candidate("fp32", gate=FP32),
        candidate("far", noise=1.0, gate=STRICT, notes={"layers": [0]}),
    )
    exported = assembled(tmp_path / "x", *candidates, probe=closeness(truth), metric="closeness")
    report = json.loads((tmp_path / "x" / "report.json").read_text("utf-8"))
    assert report["metric"] == "closeness"
    assert {"cpu", "onnxruntime"} <= report["host"].keys()
    assert report["variants"].keys() == {"fp32", "far"}
    for made in candidates:
        row, figures = report["variants"][made.name], exported.measured[made.name]
        assert row["bytes"] == len(made.graph)
        assert row["nodes"] == node_counts(made.graph)
        assert row["peak_mb"] == figures.peak_mb
        assert row["written"] == (made.name == "fp32")
        assert row["gate"] == asdict(made.gate)
        assert row["probe"] == dict(figures.probe)
        assert row["probe"].keys() == {"closeness", "one"}
        assert row["latency"]["p50_ms"] > 0
        assert (row["cosine_mean"], row["cosine_worst"], row["tolerance"]) == (
            figures.cosine_mean,
            figures.cosine_worst,
            figures.tolerance,
        )
    assert report["variants"]["far"]["layers"] == [0]


@pytest.mark.usefixtures("in_a_process")
def test_the_manifest_records_what_was_measured(assembled: Assemble, tmp_path: Path) -> None:
    exported = assembled(tmp_path / "x", candidate("fp32", gate=FP32, attention="softmax"))
    variant, figures = exported.bundle.variant("fp32"), exported.measured["fp32"]
    assert variant.parity["cosine_worst"] == figures.cosine_worst > 0.9999
    assert variant.tolerance == figures.tolerance == LEAST_TOLERANCE
    assert variant.latency == figures.latency
    assert (variant.latency.threads, variant.latency.batch, variant.latency.length) == (1, 1, 16)
    assert variant.latency_all_threads == figures.latency_all_threads
    assert figures.latency_all_threads.length == 16
    assert variant.peak_mb == figures.peak_mb
    assert variant.proven_on == (instruction_set(),)
    assert variant.attention == "softmax"
    assert exported.bundle.manifest.lineage == {"recipe": "r", "seed": 7}


def test_what_is_made_for_another_provider_is_gated_here_and_proven_nowhere(
    assembled: Assemble, tmp_path: Path
) -> None:
    gpu = candidate("fp16", gate=FP32, provider="CUDAExecutionProvider")
    exported = assembled(tmp_path / "x", candidate("fp32", gate=FP32), gpu)
    variant = exported.bundle.variant("fp16")
    assert variant.requires.provider == "CUDAExecutionProvider"
    assert variant.parity["cosine_worst"] > 0.9999
    assert (variant.latency, variant.latency_all_threads, variant.peak_mb) == (None, None, None)
    assert variant.proven_on == ()
    assert attar.load(tmp_path / "x", threads=1).variant.name == "fp32"


def test_a_reference_that_fails_is_an_error_and_nothing_is_written(
    assembled: Assemble, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"reference variant fp32 .* mean cosine .* worst cos"):
        assembled(tmp_path / "x", candidate("fp32", noise=1.0, gate=FP32), candidate("other"))
    assert list(tmp_path.iterdir()) == []


def test_a_graph_that_gives_nan_is_an_error_and_nothing_is_written(
    assembled: Assemble, tmp_path: Path
) -> None:
    with pytest.raises(BackendError, match="variant broken gave NaN or infinity"):
        assembled(tmp_path / "x", candidate("fp32"), candidate("broken", noise=float("nan")))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("in_a_process")
def test_the_same_export_gives_the_same_bundle_but_for_latency(
    assembled: Assemble, tmp_path: Path
) -> None:
    def timeless(folder: Path) -> tuple[Any, ...]:
        manifest = json.loads((folder / "manifest.json").read_text("utf-8"))
        report = json.loads((folder / "report.json").read_text("utf-8"))
        manifest["files"] = [f for f in manifest["files"] if f["path"] != "report.json"]
        for variant in (*manifest["variants"], *report["variants"].values()):
            assert variant.pop("latency")["p50_ms"] > 0
            assert variant.pop("latency_all_threads")["p50_ms"] > 0
            assert variant.pop("peak_mb") > 10
        return manifest, report

    for name in ("one", "two"):
        assembled(tmp_path / name, candidate("fp32"), candidate("near", noise=1e-3))
    assert timeless(tmp_path / "one") == timeless(tmp_path / "two")


def test_a_bundle_is_replaced_only_on_request(assembled: Assemble, tmp_path: Path) -> None:
    assembled(tmp_path / "x", candidate("fp32"), candidate("near"))
    with pytest.raises(AlreadyExists, match="exists"):
        assembled(tmp_path / "x", candidate("fp32"))
    assert len(Bundle.open(tmp_path / "x").manifest.variants) == 2
    assembled(tmp_path / "x", candidate("fp32"), overwrite=True)
    assert len(Bundle.open(tmp_path / "x").manifest.variants) == 1
    assert [entry.name for entry in tmp_path.iterdir()] == ["x"]


def test_a_constant_dimension_still_has_a_range(
    assembled: Assemble, truth: NDArray[np.float32], tmp_path: Path
) -> None:
    flat = truth.copy()
    flat[:, 3] = 0.25
    exported = assembled(tmp_path / "x", candidate("fp32"), reference=flat)
    ranges = exported.bundle.manifest.ranges
    assert ranges is not None
    assert ranges.low[3] == 0.25
    assert 0 < ranges.high[3] - ranges.low[3] < 1e-5
    assert all(low < high for low, high in zip(ranges.low, ranges.high, strict=True))


def test_a_metric_must_be_the_probes(
    assembled: Assemble, truth: NDArray[np.float32], tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match="probe gives no 'knn'; it gives closeness, one"):
        assembled(tmp_path / "x", candidate("fp32"), probe=closeness(truth), metric="knn")
    with pytest.raises(InvalidInput, match="probe and metric go together; got None and 'knn'"):
        assembled(tmp_path / "x", candidate("fp32"), metric="knn")


def figures(mean: float, worst: float, quality: float) -> Measured:
    return Measured(
        cosine_mean=mean,
        cosine_worst=worst,
        tolerance=1e-6,
        probe={"recall": quality},
        latency=Latency(p50_ms=1, threads=1, batch=1, length=1, host=""),
        latency_all_threads=Latency(p50_ms=1, threads=2, batch=1, length=1, host=""),
        peak_mb=1.0,
    )


BEST = figures(1.0, 1.0, 0.64)


@pytest.mark.parametrize(
    ("measured", "broken"),
    [
        (figures(0.9, 0.8, 0.63), 0),  # on every bound
        (figures(0.95, 0.85, 0.7), 0),
        (figures(0.89, 0.85, 0.7), 1),
        (figures(0.95, 0.79, 0.7), 1),
        (figures(0.95, 0.85, 0.62), 1),
        (figures(0.1, 0.1, 0.1), 3),
        (figures(float("nan"), float("nan"), float("nan")), 3),
    ],
)
def test_a_bound_is_inclusive_and_nan_breaks_it(measured: Measured, broken: int) -> None:
    gate = Gate(cosine_mean=0.9, cosine_worst=0.8, max_drop=0.01)
    assert len(failures(measured, gate, metric="recall", reference=BEST)) == broken


def test_without_a_metric_parity_alone_decides() -> None:
    gate = Gate(cosine_mean=0.9, cosine_worst=0.8, max_drop=0.01)
    assert failures(figures(1, 1, 0.0), gate, metric=None, reference=BEST) == []


@given(st.floats(0, 10))
def test_a_tolerance_is_the_difference_rounded_up_to_one_digit(difference: float) -> None:
    rounded = tolerance(difference)
    assert difference <= rounded * (1 + 1e-12)
    assert rounded <= max(2 * difference, LEAST_TOLERANCE) * (1 + 1e-12)
    assert float(f"{rounded:.0e}") == rounded
