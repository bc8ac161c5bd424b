"""Two processes that torchrun starts and that talk by gloo."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from . import distributed_worker, sharding_worker
from .session_cache import once

ROOT = Path(__file__).parents[2]


def torchrun(module: str, out: Path) -> None:
    """Run a module with the folder that it writes, in two processes of one thread."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ran = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", "-m", module, str(out)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr


def distributed_run(factory: pytest.TempPathFactory) -> Path:
    """Give the folder that two processes of `distributed_worker` wrote, once a session.

    Before that, one process makes half of a run there for them to take up.
    """

    def run() -> Path:
        out = factory.mktemp("distributed")
        moco = sharding_worker.methods()["moco"]
        sharding_worker.trained(moco, "ddp", out=out / "one", steps=2)
        torchrun(distributed_worker.__name__, out)
        return out

    return once("distributed_run", run)
