"""The floors: arrows of import only point down, and a device loads only what it needs."""

import subprocess
import sys
from pathlib import Path

import pytest

from ..support.source import ROOT, files, imports, root_of, short

FLOORS = {
    "device": {"device", "protos"},
    "protos": {"protos"},
    "client": {"client", "device", "protos"},
    "training": {"training", "device"},
    "export": {"export", "training", "device"},
    "server": {"server", "device", "protos"},
    "cli": {"cli", "server", "export", "training", "client", "device", "protos"},
}
"""What each root folder may import, of ours."""

FORBIDDEN = {
    "device": {
        *("torch", "grpc", "pydantic", "pydantic_settings", "sklearn", "transformers", "onnx"),
        "typer",
    },
    "client": {"torch", "pydantic", "onnxruntime"},
    "training": {"grpc", "pydantic", "onnx", "onnxruntime"},
    "server": {"torch", "kornia", "lightning_fabric", "onnx", "transformers"},
}
"""What each root folder never imports, of others': not even inside a function."""

FRONT_DOOR = "device/__init__.py"
"""It gives `attar.Client` to those that ask for it, by a function that nobody else calls."""

WIRE = {"device/wire.py"}
"""The modules of `device` that may import the generated messages; a device loads none."""


@pytest.mark.parametrize("root", FLOORS)
def test_arrows_only_point_down(root: str) -> None:
    climbs = [
        f"{short(path)} imports {name}"
        for path in files(root)
        for _, name in imports(path)
        if name.startswith("attar.") and root_of(name) not in FLOORS[root]
        if not (path == ROOT / FRONT_DOOR and root_of(name) == "client")
    ]
    assert not climbs


def test_recipes_do_not_know_their_claims() -> None:
    climbs = [
        f"{short(path)} imports {name}"
        for path in files("training/recipes")
        for _, name in imports(path)
        if name.startswith("attar.training.claim")
    ]
    assert not climbs


@pytest.mark.parametrize("root", FORBIDDEN)
def test_a_floor_imports_only_what_it_may(root: str) -> None:
    strays = [
        f"{short(path)} imports {name}"
        for path in files(root)
        for _, name in imports(path)
        if name.split(".")[0] in FORBIDDEN[root]
    ]
    assert not strays


def test_on_a_device_only_the_wire_knows_messages() -> None:
    strays = [
        f"{short(path)} imports {name}"
        for path in files("device")
        if short(path) not in WIRE
        for _, name in imports(path)
        if name.split(".")[0] in ("grpc", "google") or name.startswith("attar.v1")
    ]
    assert not strays


LEFT_OUT = (
    "torch grpc google.protobuf pydantic pydantic_settings sklearn transformers scipy onnx "
    "lightning_fabric kornia rich typer attar.client attar.server attar.training"
)


def run(code: str, *arguments: str | Path) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_a_device_that_embeds_loads_neither_torch_nor_grpc(bundle_path: Path) -> None:
    loaded = run(
        "import sys, attar\n"
        "assert attar.load(sys.argv[1], threads=1).embed(['the cat']).vectors.shape == (1, 16)\n"
        "print(*(name for name in sys.argv[2:] if name in sys.modules))",
        bundle_path,
        *LEFT_OUT.split(),
    )
    assert loaded.split() == []


def test_a_server_that_fits_nothing_loads_no_scikit_learn() -> None:
    loaded = run(
        "import sys, attar.server.app\n"
        "print(*(name for name in sys.argv[1:] if name in sys.modules))",
        *("torch", "sklearn", "scipy", "transformers", "qdrant_client", "opentelemetry.sdk"),
    )
    assert loaded.split() == []


def test_every_public_name_is_there_and_the_clients_are_imported_on_first_use() -> None:
    assert run(
        "import sys, attar\n"
        "assert 'attar.client' not in sys.modules\n"
        "assert all(hasattr(attar, name) for name in attar.__all__)\n"
        "print('attar.client' in sys.modules)"
    ).split() == ["True"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert run("import attar; print(hasattr(attar, 'Bundles'))").strip() == "False"
