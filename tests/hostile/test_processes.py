"""An encoder works in every process that it gets into, or the refusal says what to do."""

from pathlib import Path

import pytest

from benchmarks.hostile.processes import CASES, Case, run
from benchmarks.support.bundles import tiny_tensor_bundle


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle whose product ONNX Runtime shares among its threads."""
    path = tmp_path_factory.mktemp("images") / "images.attar"
    return tiny_tensor_bundle(path, shape=(1, 64, 64), dim=64)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_encoder_serves_in_another_process_or_says_why_not(
    case: Case, bundle_path: Path, images: Path, tmp_path: Path
) -> None:
    done = run(case, bundle=bundle_path, images=images, folder=tmp_path)

    assert done.returncode == 0, done.stderr
    for text in case.output:
        assert text in done.stdout
