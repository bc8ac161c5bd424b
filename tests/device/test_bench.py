"""A device times every variant that it can run, and a budget picks one and says why."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attar.bench import WARM_UP, Budget, bench, choose, items
from attar.bench import Timing as Row
from attar.bundle import Bundle
from attar.errors import BackendError, InvalidInput, NotFound
from benchmarks.support.bundles import tiny_bundle, tiny_tensor_bundle


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Time two variants that run here, and one that no CPU does."""
    path = tiny_bundle(
        tmp_path_factory.mktemp("bench") / "x",
        variants=("fp32", "int8", "future"),
        cpu_flags={"future": ("flux9",)},
    )
    return bench(path, lengths=(4, 16), batches=(2, 1), threads=(1,), seconds=0.01)


def test_every_variant_length_and_batch_is_timed(report: dict[str, Any]) -> None:
    rows = [(r["variant"], r["threads"], r["batch"], r["length"]) for r in report["rows"]]
    assert rows == [
        (variant, 1, batch, length)
        for variant in ("fp32", "int8")
        for length in (4, 16)
        for batch in (1, 2)
    ]
    for row in report["rows"]:
        assert 0 < row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
        assert row["runs"] >= 5


def test_a_variant_that_cannot_run_here_is_listed_with_the_reason(report: dict[str, Any]) -> None:
    assert report["skipped"].keys() == {"future"}
    assert "needs CPU flag flux9, which this machine lacks" in report["skipped"]["future"]


def test_the_report_says_of_what_and_where_it_is_and_fits_json(report: dict[str, Any]) -> None:
    assert json.loads(json.dumps(report)) == report
    assert (report["bundle"], report["reference"], report["warm_up"]) == ("tiny", "fp32", WARM_UP)
    assert report["fingerprint"].startswith("sha256:")
    assert report["variants"]["int8"].keys() == {"precision", "attention", "bytes", "sha256"}
    assert {"cpu", "onnxruntime", "cores"} <= report["host"].keys()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process's peak")
def test_memory_is_the_processs_own_and_grows(report: dict[str, Any]) -> None:
    for variant in ("fp32", "int8"):
        peaks = [row["peak_mb"] for row in report["rows"] if row["variant"] == variant]
        assert peaks == sorted(peaks)
        assert 10 < peaks[0] < 1000


def test_a_device_needs_no_torch_and_no_rich(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "x")
    code = (
        "import sys; from attar.bench import bench\n"
        "bench(sys.argv[1], lengths=(4,), batches=(1,), threads=(1,), seconds=0.01)\n"
        "print(*({'torch', 'rich', 'typer', 'onnx', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


def test_an_encoder_of_one_shape_has_no_length(tmp_path: Path) -> None:
    path = tiny_tensor_bundle(tmp_path / "x")
    rows = bench(path, batches=(3,), threads=(1,), seconds=0.01)["rows"]

    assert [(row["batch"], row["length"]) for row in rows] == [(3, None)]
    with pytest.raises(InvalidInput, match=r"takes image of one shape, \[1, 8, 8\]"):
        bench(path, lengths=(8,))


def test_lengths_default_to_powers_of_two_up_to_the_bundles(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "x", max_length=100)
    rows = bench(path, batches=(1,), threads=(1,), seconds=0.01)["rows"]
    assert [row["length"] for row in rows] == [16, 64, 100]


def test_items_have_exactly_the_requested_length(bundle_path: Path) -> None:
    made = items(Bundle.open(bundle_path), length=9, count=4)

    assert [row.tokens for row in made] == [9] * 4
    assert {tuple(row.arrays[0]) for row in made} != {tuple(made[0].arrays[0])}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lengths": (17,)}, r"lengths must be from 1 to 16; got \[17\]"),
        ({"lengths": (0,)}, "lengths must be from 1"),
        ({"batches": ()}, "batches must be 1 or more"),
        ({"threads": (0,)}, "threads must be 1 or more"),
        ({"seconds": 0.0}, "seconds must be above 0"),
    ],
)
def test_numbers_that_cannot_be_are_refused_before_anything_runs(
    options: dict[str, Any], message: str, bundle_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=message):
        bench(bundle_path, **options)


def test_an_unknown_variant_is_named(bundle_path: Path) -> None:
    with pytest.raises(NotFound, match="has no variant 'fp64'; it has fp32"):
        bench(bundle_path, variants=("fp64",))


def test_a_bundle_of_which_nothing_runs_is_an_error(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "x", cpu_flags={"fp32": ("flux9",)})
    with pytest.raises(BackendError, match=r"no variant of tiny could be timed.*flux9"):
        bench(path, seconds=0.01)


# The budget.


def row(variant: str, ms: float, *, batch: int = 1, length: int = 16, mb: float = 50) -> Row:
    return Row(
        variant=variant,
        threads=1,
        batch=batch,
        length=length,
        runs=5,
        p50_ms=ms,
        p95_ms=ms,
        p99_ms=ms,
        peak_mb=mb,
    )


ROWS = (
    row("fp32", 2.0, length=4),
    row("fp32", 9.0),
    row("fp32", 40.0, batch=8),
    row("int8", 3.0, mb=30),
    row("small", 1.0, mb=20),
)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """Give a bundle of three variants; cosines to the reference are all 1."""
    folder = tmp_path_factory.mktemp("three") / "x"
    return Bundle.open(tiny_bundle(folder, variants=("fp32", "int8", "small")))


@pytest.mark.parametrize(
    ("text", "picked"),
    [
        ("latency=10", "small"),  # of equal quality the quickest
        ("latency=1", "small"),
        ("latency=0.5", None),
        ("memory=25", "small"),
        ("file=0.000001", None),
        ("latency=100,memory=1000,file=1000", "small"),
    ],
)
def test_the_best_of_what_fits_is_picked(three: Bundle, text: str, picked: str | None) -> None:
    assert choose(three, ROWS, Budget.parse(text)).variant == picked


def test_every_variant_has_a_reason_with_its_numbers(three: Bundle) -> None:
    why = choose(three, ROWS, Budget.parse("latency=2.5,memory=40")).why

    assert why["fp32"].startswith("9 ms, ")
    assert why["fp32"].endswith("the reference: more than 2.5 ms; more than 40 MB of memory")
    assert why["int8"].endswith("peak 30 MB, cosine 1.00000: more than 2.5 ms")
    assert why["small"].endswith("fits")


def test_quality_decides_before_speed(three: Bundle, tmp_path: Path) -> None:
    document = json.loads((three.path / "manifest.json").read_text("utf-8"))
    for variant, cosine in zip(document["variants"], (1.0, 0.99, 0.9), strict=True):
        variant["parity"]["cosine_mean"] = cosine
    folder = tiny_bundle(tmp_path / "x", variants=("fp32", "int8", "small"))
    (folder / "manifest.json").write_text(json.dumps(document), "utf-8")

    bundle = Bundle.open(folder)

    assert choose(bundle, ROWS, Budget.parse("latency=5")).variant == "int8"
    assert choose(bundle, ROWS, Budget.parse("latency=10")).variant == "fp32"


@pytest.mark.parametrize(
    "text", ["", "5", "latency", "latency=fast", "latency=-1", "latency=nan", "latency=inf",
             "speed=5", "latency=1,latency=2"],
)  # fmt: skip
def test_a_budget_that_cannot_be_read_is_shown_with_one_that_can(text: str) -> None:
    with pytest.raises(InvalidInput, match="a budget is like latency=5,file=30,memory=200"):
        Budget.parse(text)


def test_a_report_with_a_budget_has_the_choice(bundle_path: Path) -> None:
    budget = Budget(latency_ms=1000)
    report = bench(
        bundle_path, lengths=(4,), batches=(1,), threads=(1,), seconds=0.01, budget=budget
    )

    assert report["choice"]["variant"] == "fp32"
    assert report["budget"] == {"latency_ms": 1000, "file_mb": None, "memory_mb": None}
