"""Two processes that torchrun starts and that talk by gloo."""

import os
import subprocess
import sys


def torchrun(*command: object) -> str:
    """Run a script, or `-m` and a module, with its arguments in two processes of one thread.

    Gives what both printed.
    """
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    ran = subprocess.run(
        [*torchrun, "--nproc-per-node", "2", *map(str, command)],
        env=os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
