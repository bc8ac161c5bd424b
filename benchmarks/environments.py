"""Environments of the rivals: a virtual one each, so that their pins cannot disturb each other."""

import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path


def environment(folder: Path, requirements: Sequence[str], *, shared: bool = False) -> Path:
    """Build an environment of `requirements`, unless it is there, and give its Python.

    A `shared` one also has the packages of the environment that runs this, such as torch; what
    it installs comes first. Raises RuntimeError with pip's last words.
    """
    python, built = folder / "bin" / "python", folder / "built"
    wanted = "\n".join(requirements)
    if not built.exists() or built.read_text("utf-8") != wanted:
        venv.create(folder, with_pip=True, clear=True)
        if shared:
            _share(folder)
        run([python, "-m", "pip", "install", "--quiet", *requirements])
        built.write_text(wanted, "utf-8")
    return python


def _share(folder: Path) -> None:
    """Let an environment import the packages of this one."""
    (site,) = folder.glob("lib/python*/site-packages")
    ours = [path for path in sys.path if Path(path).name == "site-packages"]
    (site / "shared.pth").write_text("\n".join(ours) + "\n", "utf-8")


def run(command: Sequence[str | Path]) -> None:
    """Run a command to its end, or raise RuntimeError with its last words."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(f"{Path(command[0]).name} failed: {said[-1] if said else 'in silence'}")
