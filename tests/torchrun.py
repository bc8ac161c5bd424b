"""Two processes that torchrun starts and that talk by gloo, each running one of our workers."""

import os
import subprocess
import sys
from pathlib import Path


def torchrun(worker: str, out: Path) -> None:
    """Run the script `worker`, beside this file, in two processes that write to `out`."""
    command = [sys.executable, "-P", "-m", "torch.distributed.run", "--standalone"]
    ran = subprocess.run(  # noqa: S603 - our own command
        [*command, "--nproc-per-node", "2", str(Path(__file__).with_name(worker)), str(out)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
