"""The repository: what is tracked is what the wheel, the changelog and the map say."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ..support.requirements import EXTRAS, PINNED, PROJECT, closure

ROOT = Path(__file__).parents[2]
LINKS = ROOT / "src" / "attar"
SUBPACKAGES = ("cli", "client", "export", "server", "training")
"""The root folders that are subpackages; device/ is the package itself, and v1 is generated."""
PACKAGED = (".py", ".pyi", ".proto")


def tracked() -> list[Path]:
    done = subprocess.run(
        ["git", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return [ROOT / name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]


def test_the_version_is_the_changelogs_newest() -> None:
    newest = re.search(r"^## \[([^]]+)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)

    assert newest
    assert newest[1] == PROJECT["version"]


def test_the_readmes_map_names_every_folder_at_the_root_and_no_other() -> None:
    mapped = re.findall(r"^\| `([\w-]+)/`", (ROOT / "README.md").read_text("utf-8"), re.MULTILINE)
    folders = {path.relative_to(ROOT).parts[0] for path in tracked() if path.parent != ROOT}

    assert sorted(mapped) == sorted(name for name in folders if not name.startswith("."))


def test_every_module_is_imported_by_its_path() -> None:
    here, links = (
        [path for path in folder.iterdir() if path.name != "__pycache__"]
        for folder in (ROOT / "device", LINKS)
    )
    targets = {path.name: path for path in here}
    targets |= {name: ROOT / name for name in SUBPACKAGES} | {"v1": ROOT / "protos/attar/v1"}

    assert {path.name: path.resolve() for path in links} == targets, (
        "in src/attar: ln -s ../../device/NAME ."
    )
    assert not [path for path in links if path.readlink().is_absolute()]


def test_every_folder_of_modules_is_a_package() -> None:
    roots = {ROOT / name for name in ("device", *SUBPACKAGES)}
    folders = {
        path.parent for path in tracked() if path.suffix == ".py" and roots & {*path.parents}
    }

    assert [folder for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_no_tracked_file_is_larger_than_a_megabyte() -> None:
    assert [str(path) for path in tracked() if path.stat().st_size > 1_000_000] == []


def test_nothing_tracked_is_made_by_a_tool() -> None:
    ignored = subprocess.run(
        ["git", "ls-files", "--cached", "--ignored", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert ignored.stdout == ""


def test_everything_that_make_installs_is_pinned() -> None:
    assert closure("attar[dev]") <= PINNED.keys()


def test_the_pins_satisfy_every_requirement() -> None:
    own = [*PROJECT["dependencies"], *(need for extra in EXTRAS.values() for need in extra)]

    for need in map(Requirement, own):
        version = PINNED.get(canonicalize_name(need.name))
        assert version is None or need.specifier.contains(version), f"{need}, but {version}"


def test_the_wheel_holds_the_packages_whatever_an_earlier_build_left(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    for path in tracked():
        copy = tree / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, copy, follow_symlinks=False)
    stale = tree / "build" / "lib" / "attar" / "stale.py"
    stale.parent.mkdir(parents=True)
    stale.write_text("left by an earlier build\n", "utf-8")

    # Without --wheel it builds the source distribution, and the wheel from that alone.
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(tmp_path), str(tree)],
        check=True,
        capture_output=True,
        env={**os.environ, "PYTHONWARNINGS": "default"},
        timeout=110,
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}

    expected = {
        f"attar/{path.relative_to(LINKS).as_posix()}"
        for folder, _, names in os.walk(LINKS, followlinks=True)
        for path in (Path(folder) / name for name in names)
        if path.name == "py.typed" or path.suffix in PACKAGED
    }
    assert held == expected
