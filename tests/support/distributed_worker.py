"""What each of two processes does for the tests of several processes, in one start.

torchrun runs this module with the folder to write.
"""

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Final

from torch import distributed as dist

from attar.cli.main import main

from . import sharding_worker, world_worker

PRETRAIN: Final = ("pretrain", "table/t_jepa", "--steps", "3", "--set", "batch_size=16", "--out")


def pretrain(out: Path) -> None:
    """Run the command as torchrun starts it, and keep what this process prints."""
    sys.argv = ["attar", *PRETRAIN, str(out / "pretrained")]
    said = out / f"pretrain{os.environ['RANK']}.txt"
    with said.open("w", encoding="utf-8") as file, redirect_stdout(file):
        try:
            main()
        except SystemExit as leaving:
            if leaving.code:
                raise


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    pretrain(folder)  # first, since these processes have not joined yet
    world_worker.run(folder)
    sharding_worker.run(folder)
    dist.destroy_process_group()
