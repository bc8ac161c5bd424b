"""What each of two processes does for test_distributed.py and test_fsdp.py, in one start.

torchrun runs this module with the folder to write.
"""

import sys
from pathlib import Path

from torch import distributed as dist

from . import sharding_worker, world_worker

if __name__ == "__main__":
    out = Path(sys.argv[1])
    world_worker.run(out)
    sharding_worker.run(out)
    dist.destroy_process_group()
