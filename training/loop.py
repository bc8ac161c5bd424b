"""The loop: one way to run every method, seeded, resumable to the exact step, and observable."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal

import torch
from lightning_fabric import Fabric
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim import Optimizer

from attar.errors import NotSupported

from .checkpoint import load_checkpoint, save_checkpoint
from .method import Batch, Method, Metrics
from .metrics import MetricsLog, Row
from .sampler import seed_at
from .schedules import Schedule

Precision = Literal["32-true", "bf16-mixed"]


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
    save_every: int = 500,
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
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise NotSupported(
            f"WORLD_SIZE is {os.environ['WORLD_SIZE']}, but the loop runs in one process: "
            "objectives need the global batch, which is not gathered yet; start it without torchrun"
        )
    method, optimiser, seed = training.method, training.optimiser, training.seed
    fabric = Fabric(accelerator=accelerator, devices=1, precision=precision)
    model, stepper = fabric.setup(method, optimiser)
    model.mark_forward_method("loss")  # so that `precision` applies to it

    done, checkpoint = 0, None
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        checkpoint = out / "checkpoint.safetensors"
        if resume and checkpoint.exists():
            done = load_checkpoint(checkpoint, method=method, optimiser=optimiser, seed=seed)

    with (
        torch.random.fork_rng([fabric.device] if fabric.device.type == "cuda" else []),
        MetricsLog(out, after=done) as log,
        _progress(visible=progress) as bar,
    ):
        task = bar.add_task("", total=training.steps, completed=done)
        if done == 0:
            _probe(training, log, made=0)
        began = time.perf_counter()
        for step in range(done, training.steps):
            loss, metrics = _step(fabric, model, stepper, training, step)
            made, last = step + 1, step + 1 == training.steps
            if last or _due(log_every, made):
                row = {"step": made, "loss": loss.item(), "rate": training.rate(step)}
                row |= {name: float(value) for name, value in metrics.items()}
                log.write(row | {"seconds": time.perf_counter() - began})
                bar.update(task, description=f"loss {row['loss']:.4g}")
            if last or _due(probe_every, made):
                _probe(training, log, made=made)
            if checkpoint is not None and (last or _due(save_every, made)):
                save_checkpoint(
                    checkpoint, method=method, optimiser=optimiser, seed=seed, step=made
                )
            bar.update(task, completed=made)
        return History(tuple(log.rows))


def _step(
    fabric: Fabric, model: Any, stepper: Any, training: Training[Batch], step: int
) -> tuple[Tensor, Metrics]:
    """Make one step with the method and optimiser as `fabric` wrapped them."""
    torch.manual_seed(seed_at(training.seed, step))
    rate = training.rate(step)
    for group in training.optimiser.param_groups:
        group["lr"] = rate
    training.method.train()
    loss, metrics = model.loss(fabric.to_device(training.batches(step)), step)
    if not torch.isfinite(loss):
        raise FloatingPointError(
            f"the loss is {loss.item()} at step {step}, rate {rate:.3g}: lower the rate, "
            f"warm up longer, or look at that step's batch, training.batches({step})"
        )
    stepper.zero_grad()
    fabric.backward(loss)
    stepper.step()
    training.method.after_step(step)
    return loss, metrics


def _due(every: int, made: int) -> bool:
    return every > 0 and made % every == 0


def _probe(training: Training[Batch], log: MetricsLog, *, made: int) -> None:
    if training.probe is not None:
        training.method.eval()
        with torch.no_grad():
            log.write({"step": made, **training.probe(made)})


def _progress(*, visible: bool) -> Progress:
    return Progress(
        TextColumn("training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
        disable=not visible,
    )
