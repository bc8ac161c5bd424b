"""The loop: one way to run every method, seeded, resumable to the exact step, and observable."""

import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal

import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch.optim import Optimizer

from attar.errors import NotSupported

from .checkpoint import load_checkpoint, save_checkpoint
from .method import Batch, Method
from .metrics import MetricsLog, Row
from .sampler import seed_at
from .schedules import Schedule

Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Generic[Batch]):
    """Everything that decides a run's result: two equal ones give the same bits on one CPU.

    `batches` gives the batch of a step, on any device, and is a pure function of the step (see
    `Sampler`); so is `rate`, the learning rate. `probe` measures the method in evaluation mode,
    without gradients; its argument is the number of steps made.
    """

    method: Method[Batch]
    batches: Callable[[int], Batch]
    optimiser: Optimizer
    rate: Schedule
    steps: int
    seed: int
    probe: Callable[[int], Mapping[str, float]] | None = None


@dataclass(frozen=True, slots=True)
class History:
    """What a run logged, in order: each row has `step` (steps made) and some named figures."""

    rows: tuple[Row, ...]

    def series(self, name: str) -> list[tuple[int, float]]:
        """Give the (steps made, value) pairs logged under `name`."""
        return [(int(row["step"]), row[name]) for row in self.rows if name in row]


def fit(
    training: Training[Batch],
    *,
    out: Path | None = None,
    log_every: int = 20,
    probe_every: int = 0,
    save_every: int = 0,
    resume: bool = True,
    accelerator: str = "auto",
    precision: Precision = "32-true",
    progress: bool = True,
) -> History:
    """Train `training.method` in place and give what was logged.

    With `out`, that folder gets `checkpoint.safetensors` (every `save_every` steps and at the end),
    `metrics.jsonl` and TensorBoard events, and a run found there is taken up after its last
    checkpoint unless `resume` is false. The loss is logged every `log_every` steps. The probe runs
    before the first step, every `probe_every` steps and after the last; 0 leaves out the middle.

    Torch's global generators are seeded from (seed, step) before each step, so dropout and views
    need no state in a checkpoint; they are put back to what they were at the end.

    Raises:
        NotSupported: started by torchrun in more than one process.
        FloatingPointError: the loss became infinite or not a number; the message names the step.
        InvalidInput: the checkpoint in `out` belongs to another run.
    """
    ...
