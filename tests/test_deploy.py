"""deploy/: images that this project does not build are linted, and every path in them exists."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "deploy").glob("*.Dockerfile"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint is part of attar[dev]"
    done = subprocess.run(  # noqa: S603 (the linter of our own environment)
        [hadolint, "--format", "json", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_copied_path_exists_and_reaches_the_build(path: Path) -> None:
    let_in = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    copied = [
        source
        for rest in re.findall(r"^COPY (.+)$", path.read_text("utf-8"), re.MULTILINE)
        for source in rest.split()[:-1]
    ]

    assert copied
    for source in copied:
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_in, f".dockerignore keeps {source} out"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_named_in_the_words_exists(path: Path) -> None:
    for name in re.findall(r"\b(?:deploy|tests|benchmarks)/[\w.]+\b", path.read_text("utf-8")):
        assert (ROOT / name).exists(), name
