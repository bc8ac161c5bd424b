"""The Dockerfiles: never built here, so every name in them is held against what it names."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from benchmarks.support.servers import free_port, serving, settings

from ..support.requirements import PINNED, PROJECT, closure

ROOT = Path(__file__).parents[2]
SERVER = ROOT / "Dockerfile"
DOCKERFILES = [SERVER, *sorted((ROOT / "deploy").glob("*.Dockerfile"))]


def arguments(instruction: str, path: Path = SERVER) -> list[str]:
    """Give the arguments of each such instruction, comments left out and continuations joined."""
    text = re.sub(r"^#.*\n", "", path.read_text("utf-8"), flags=re.MULTILINE)
    lines = re.sub(r"\\\n", " ", text).splitlines()
    return [
        rest
        for line in lines
        if line.strip()
        for name, rest in [line.split(maxsplit=1)]
        if name == instruction
    ]


def copied(path: Path) -> set[str]:
    """Give what a Dockerfile copies from the repository."""
    return {
        source
        for rest in arguments("COPY", path)
        if not rest.startswith("--from")
        for source in rest.split()[:-1]
    }


def environment() -> dict[str, str]:
    """The final image's environment."""
    return dict(pair.split("=", 1) for pair in arguments("ENV")[-1].split())


def test_nothing_that_runs_in_an_image_reports_to_onnx_runtimes_vendor() -> None:
    triton = (ROOT / "deploy" / "triton.Dockerfile").read_text("utf-8")

    assert all("ORT_DISABLE_TELEMETRY=1" in given.split() for given in arguments("ENV"))
    assert "ORT_DISABLE_TELEMETRY=1" in triton


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_hadolint_finds_nothing(path: Path) -> None:
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint, "hadolint is part of attar[dev]"
    done = subprocess.run(
        [hadolint, "--format", "json", str(path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_every_copied_path_exists_and_reaches_the_build(path: Path) -> None:
    let_in = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    sources = copied(path)

    assert sources
    for source in sorted(sources):
        assert (ROOT / source).exists(), source
        assert f"!{source}" in let_in, f".dockerignore keeps {source} out"


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_everything_that_the_wheel_is_made_of_is_copied(path: Path) -> None:
    links = (ROOT / "src" / "attar").iterdir()
    folders = {"src", *(link.resolve().relative_to(ROOT).parts[0] for link in links)}
    files = {"pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]}

    assert folders | files <= copied(path)


def test_every_extra_is_one_that_pyproject_has() -> None:
    (extras,) = re.findall(r'"\.\[([\w,-]+)\]"', " ".join(arguments("RUN")))

    assert extras.split(",") == ["server", "sign"]
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()


def test_the_server_needs_no_torch() -> None:
    needed = closure("attar[server]")

    assert {"onnxruntime", "grpcio", "qdrant-edge-py"} <= needed
    assert not needed & {"torch", "transformers", "lightning-fabric", "kornia", "onnx"}


def test_every_distribution_that_the_image_installs_is_pinned() -> None:
    assert closure("attar[server,sign]") | {"onnxruntime-gpu"} <= PINNED.keys()


def test_the_gpu_image_has_the_gpu_extras_distribution_and_not_both() -> None:
    (gpu,) = map(Requirement, PROJECT["optional-dependencies"]["gpu"])
    run = " ".join(" ".join(arguments("RUN")).split())

    assert gpu.specifier.contains(PINNED[gpu.name])
    swap = "pip uninstall --yes onnxruntime && pip install --constraint constraints.txt"
    assert f'{swap} "{gpu.name}[' in run


def test_the_command_and_its_settings_are_those_of_the_program() -> None:
    (entrypoint,) = arguments("ENTRYPOINT")
    program, *command = json.loads(entrypoint)
    assert program in PROJECT["scripts"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name(program)), *command, "--help"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    flags = set(re.findall(r"--[a-z-]+", done.stdout))
    chosen = environment()
    for name in chosen:
        if name.startswith("ATTAR_"):
            assert f"--{name.removeprefix('ATTAR_').lower().replace('_', '-')}" in flags, name
    ports = [chosen[f"ATTAR_{name}"] for name in ("HTTP_PORT", "PORT", "METRICS_PORT")]
    assert arguments("EXPOSE") == [" ".join(ports)]
    assert arguments("VOLUME") == [chosen["ATTAR_DATA_DIR"]]


def test_the_health_check_passes_on_a_server_that_serves_and_fails_without_one(
    bundle_path: Path, tmp_path: Path
) -> None:
    (check,) = arguments("HEALTHCHECK")
    program, *command = json.loads(check.split(" CMD ")[1])
    assert program == "python"

    def healthy(port: int) -> bool:
        done = subprocess.run(
            [sys.executable, *command],
            env={**os.environ, "ATTAR_METRICS_PORT": str(port)},
            capture_output=True,
            timeout=60,
            check=False,
        )
        return done.returncode == 0

    port = free_port()
    with serving(settings(bundle_path, data_dir=tmp_path, metrics_port=port)):
        assert healthy(port)
    assert not healthy(port)


def test_the_image_runs_as_nobody_in_particular() -> None:
    assert int(arguments("USER")[-1]) > 0
