"""`attar export --target`: what it makes of a bundle, and a mistake is one line and status 2."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from attar.cli.main import main

from ..support.bundles import tiny_bundle

Export = Callable[..., tuple[int, str, str]]


@pytest.fixture
def export(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Export:
    """Give `attar export` as a function of its arguments: status, output, errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["attar", "export", *map(str, arguments)])
        status: object = 0
        try:
            main()
        except SystemExit as leaving:
            status = leaving.code or 0
        assert isinstance(status, int)
        return status, *capfd.readouterr()

    return run


def test_triton_writes_a_repository_and_says_how_to_serve_it(
    export: Export, bundle_path: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    status, out, err = export(
        bundle_path, models, "--target", "triton", "--device", "gpu", "--max-batch", 8
    )

    assert (status, err) == (0, "")
    assert f"tiny and tiny_graph, version 1, written to {models}" in out
    assert "tritonserver --model-repository" in out
    assert 'key: "graph"' in (models / "tiny" / "config.pbtxt").read_text("utf-8")
    assert "max_batch_size: 8" in (models / "tiny_graph" / "config.pbtxt").read_text("utf-8")


def test_triton_is_written_without_torch_and_onnx() -> None:
    """The server's environment can do it, which has neither."""
    done = subprocess.run(
        [sys.executable, "-c", "import sys, attar.cli.export_targets; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert not {"torch", "onnx"} & {*done.stdout.split()}


def test_tensorrt_plans_before_it_asks_for_the_library(
    export: Export, bundle_path: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "engines"
    status, _, err = export(bundle_path, cache, "--target", "tensorrt", "--lengths", "8")
    assert (status, err) == (
        2,
        "attar: lengths must end at the longest text that tiny takes, 16; got [8]\n",
    )
    status, _, err = export(bundle_path, cache, "--target", "tensorrt", "--lengths", "4,16")
    needs = "building a TensorRT engine needs the tensorrt extra: pip install 'attar[tensorrt]'"
    assert (status, err) == (2, f"attar: {needs}\n")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--target", "triton", "--data", "x"), "--data says nothing to `attar export` of "),
        (("--target", "triton", "--lengths", "8"), "--lengths says nothing to `attar export` of "),
        (("--target", "tensorrt", "--device", "gpu"), "--device says nothing to `attar export` "),
        (("--device", "gpu"), "--device says nothing to `attar export` of an encoder without "),
        (("--target", "triton", "--variant", "fp16"), "tiny has no variant 'fp16'; it has fp32"),
        (("--target", "tensorrt", "--variant", "fp16"), "tiny has no variant 'fp16'; it has fp32"),
        (
            ("--target", "tensorrt", "--lengths", "8;16"),
            "--lengths must be whole numbers with commas; got '8;16'",
        ),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    flags: tuple[str, ...], said: str, export: Export, bundle_path: Path, tmp_path: Path
) -> None:
    status, out, err = export(bundle_path, tmp_path / "out", *flags)

    assert (status, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("attar: ")
    assert said in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ["triton", "tensorrt"])
def test_a_missing_or_damaged_bundle_is_refused(
    target: str, export: Export, tmp_path: Path
) -> None:
    status, _, err = export(tmp_path / "none.attar", tmp_path / "out", "--target", target)
    assert (status, err.count("\n")) == (2, 1)
    assert "no bundle at" in err

    damaged = tiny_bundle(tmp_path / "tiny.attar")
    graph = damaged / "variants" / "fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\xff")
    status, _, err = export(damaged, tmp_path / "out", "--target", target)
    assert (status, err.count("\n")) == (2, 1)
    assert "[refused: wrong-hash]" in err
    assert not (tmp_path / "out").exists()
