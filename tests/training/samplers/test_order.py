"""Which rows meet at a step does not depend on how often a run stopped, or on how many run it."""

import subprocess
import sys
from pathlib import Path

import pytest

from attar.training.sampler import Sampler

WORKER = """
import sys
from torch import distributed as dist
from attar.training.datasets.digits import digits
from attar.training.sampler import Sampler
from attar.training.distributed import shard

rank, size, meeting = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if size > 1:
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=size)
data = digits()
sampler = Sampler(items=len(data.train), batch_size=12, seed=5)
for step in range(int(sys.argv[4]), 4):
    rows = shard(sampler(step))
    print(step, *rows.tolist(), *data.train[rows].sum((1, 2, 3)).tolist())
"""


def run(folder: Path, size: int, *, start: int = 0) -> list[list[list[float]]]:
    """Give what each process saw of each step: its rows, and sums of what they hold."""
    arguments = [str(size), str(folder / f"meeting{size}"), str(start)]
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(rank), *arguments],
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    said = [worker.communicate(timeout=100)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * size
    return [[[float(word) for word in line.split()] for line in text.splitlines()] for text in said]


def test_a_later_start_meets_the_rows_of_an_unbroken_run() -> None:
    unbroken = [Sampler(items=50, batch_size=7, seed=3)(step).tolist() for step in range(20)]
    resumed = [Sampler(items=50, batch_size=7, seed=3)(step).tolist() for step in range(11, 20)]
    assert resumed == unbroken[11:]


@pytest.mark.slow
def test_the_halves_of_two_processes_are_the_whole_of_one(tmp_path: Path) -> None:
    (alone,) = run(tmp_path, 1)
    first, second = run(tmp_path, 2, start=1)
    assert len(first) == len(second) == 3
    for whole, one, two in zip(alone[1:], first, second, strict=True):
        half = len(whole) // 4
        rows, sums = whole[1 : 1 + 2 * half], whole[1 + 2 * half :]
        assert one[1 : 1 + half] + two[1 : 1 + half] == rows
        assert one[1 + half :] + two[1 + half :] == sums
