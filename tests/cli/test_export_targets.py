"""`attar export-triton` and `attar export-tensorrt`: a mistake is one line and status 2."""

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.support.bundles import tiny_bundle

from ..support.commands import Attar


def test_triton_writes_a_repository_and_says_how_to_serve_it(
    attar_: Attar, bundle_path: Path, tmp_path: Path
) -> None:
    models = tmp_path / "models"
    ran = attar_("export-triton", bundle_path, models, "--device", "gpu", "--max-batch", 8)

    assert (ran.status, ran.err) == (0, "")
    assert f"tiny and tiny_graph, version 1, written to {models}" in ran.out
    assert "tritonserver --model-repository" in ran.out
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


def test_tensorrt_plans_before_it_needs_the_library(
    attar_: Attar, bundle_path: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "engines"
    ran = attar_("export-tensorrt", bundle_path, cache, "--lengths", "8")
    assert (ran.status, ran.err) == (
        2,
        "attar: lengths must end at the longest text that tiny takes, 16; got [8]\n",
    )
    ran = attar_("export-tensorrt", bundle_path, cache, "--lengths", "4,16")
    needs = "building a TensorRT engine needs the tensorrt extra: pip install 'attar[tensorrt]'"
    assert (ran.status, ran.err) == (2, f"attar: {needs}\n")
    assert not cache.exists()


@pytest.mark.parametrize(
    ("command", "option", "value", "message"),
    [
        ("export-triton", "--variant", "fp16", "tiny has no variant 'fp16'; it has fp32"),
        ("export-tensorrt", "--variant", "fp16", "tiny has no variant 'fp16'; it has fp32"),
        ("export-tensorrt", "--lengths", "8;16", "must be whole numbers with commas; got '8;16'"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_written(
    attar_: Attar, tmp_path: Path, *, command: str, option: str, value: str, message: str
) -> None:
    bundle = tiny_bundle(tmp_path / "tiny.attar")
    ran = attar_(command, bundle, tmp_path / "out", option, value)

    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert ran.err.startswith("attar: ")
    assert message in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--target=triton", "`attar export-triton` or `attar export-tensorrt`"),
        ("--lengths", "`attar export-triton` or `attar export-tensorrt`"),
        ("--attention", "`attar export --softmax` or `attar binarize`"),
        ("--native", "`attar binarize`"),
    ],
)
def test_export_names_the_command_that_an_option_moved_to(
    option: str, command: str, attar_: Attar, tmp_path: Path
) -> None:
    ran = attar_("export", tmp_path, tmp_path / "out", option, "8")

    name = option.split("=", maxsplit=1)[0]
    message = f"attar: {name} is no option of `attar export` any more; use {command}\n"
    assert (ran.status, ran.err) == (2, message)


@pytest.mark.parametrize("command", ["export-triton", "export-tensorrt"])
def test_a_missing_or_damaged_bundle_is_refused(
    command: str, attar_: Attar, tmp_path: Path
) -> None:
    ran = attar_(command, tmp_path / "none.attar", tmp_path / "out")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "no bundle at" in ran.err

    damaged = tiny_bundle(tmp_path / "tiny.attar")
    graph = damaged / "variants" / "fp32.onnx"
    graph.write_bytes(graph.read_bytes()[:-1] + b"\xff")
    ran = attar_(command, damaged, tmp_path / "out")
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "[refused: wrong-hash]" in ran.err
    assert not (tmp_path / "out").exists()
