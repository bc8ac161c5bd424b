"""The loop: one way to run every method, seeded, resumable to the exact step, and observable."""

import os
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Literal, Self, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from rich.progress import Progress
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.optim import Optimizer

from attar.errors import InvalidInput

from .checkpoints.run import CHECKPOINT, Record, load_checkpoint, save_checkpoint
from .choices import Strategy
from .encoders.transformer import TokenTransformer
from .fsdp import Sharded
from .gradient_cache import micro_batches
from .lineage import Lineage, stretch
from .method import Batch, Method, Metrics
from .metrics import EVENTS, METRICS, MetricsLog, Row
from .optimisers import decaying, lay_out
from .progress import progress_bar
from .sampler import seed_at
from .schedules import Schedule
from .workers import batches_ahead

Precision = Literal["32-true", "bf16-mixed"]
COLLAPSED = 0.1  # of the RankMe that a run began with
PROBED = ("rankme", "knn")  # shown next to the progress, the last value of each


class CollapseWarning(UserWarning):
    """The embeddings of a run collapse to few dimensions."""


def as_it_is(items: Any, step: int) -> Any:
    """Give a step's items as the batch."""
    return items


@dataclass(frozen=True, slots=True)
class History:
    """What a run logged, in order: each row has `step` (steps made) and some named figures."""

    rows: tuple[Row, ...]

    def series(self, name: str) -> list[tuple[int, float]]:
        """Give the (steps made, value) pairs logged under `name`."""
        return [(int(row["step"]), row[name]) for row in self.rows if name in row]


@dataclass(frozen=True, slots=True, kw_only=True)
class Training(Generic[Batch]):
    """Everything that decides the result of a run: equal values give the same bits on one CPU.

    `batches` gives the items of a step, on any device, and is a pure function of the step (see
    `Sampler`), so that it may be called ahead and in a worker process. `views` makes the method's
    batch of them, where the method is: by default the items are the batch. `rate` is the learning
    rate of a step. `probe` measures the method in evaluation mode, without gradients; its argument
    is the number of steps made. `stop` looks at what was logged after each probe, and ends the run
    there where it is true (see `early_stopping`). `weight_decay` is that of a step, for the
    parameters that decay, where it is not the optimiser's own. `clip` is the largest norm of the
    gradient of all parameters, to which a larger one is scaled (Pascanu et al. 2013,
    arXiv:1211.5063). Torch's global generators are seeded from (seed,
    step) before each step, so dropout and views need no state in a checkpoint; `fit` restores them
    at the end.
    """

    method: Method[Batch]
    batches: Callable[[int], Any]
    optimiser: Optimizer
    rate: Schedule
    steps: int
    seed: int
    views: Callable[[Any, int], Batch] = as_it_is
    probe: Callable[[int], Mapping[str, float]] | None = None
    stop: Callable[[History], bool] | None = None
    weight_decay: Schedule | None = None
    clip: float | None = None


def fit(
    training: Training[Batch],
    *,
    out: Path | None = None,
    log_every: int = 20,
    probe_every: int = 0,
    save_every: int = 500,
    restart: bool = False,
    lineage: Lineage | None = None,
    accelerator: str = "auto",
    precision: Precision = "32-true",
    strategy: Strategy = "ddp",
    micro_batch: int | None = None,
    compiled: bool = False,
    workers: int = 0,
    progress: bool = True,
) -> History:
    """Train `training.method` in place and give what was logged.

    With `out`, that folder gets `checkpoint.safetensors` (every `save_every` steps and at the end),
    `metrics.jsonl` and TensorBoard events, and a run found there continues after its last
    checkpoint; with `restart` its files are removed instead. `lineage`, as JSON, is what the run
    is made of besides its seed, such as its data: a run with another one does not continue. The
    loss is logged every `log_every` steps. The probe runs before the first step, every
    `probe_every` steps and after the last; 0 leaves out the middle.

    `micro_batch` is the number of rows whose activations the encoder keeps together: the gradient
    is that of the whole batch. `compiled` compiles the method's parts (torch.compile). `workers`
    processes make batches ahead. Under torchrun every process has a shard of each batch and the
    first one writes; `strategy` "fsdp" also shards parameters, gradients and optimiser state. Warns
    with CollapseWarning when RankMe falls to a tenth of what it began with.

    Raises:
        FloatingPointError: the loss became infinite or not a number; the message names the step.
        InvalidInput: `out` has another run's checkpoint or more steps; or a batch is too small.
    """
    run = _Run.of(training, _fabric(accelerator, precision), precision, strategy, compiled=compiled)
    first = run.fabric.is_global_zero
    if out is not None:
        _prepare_folder(out, restart=restart and first)
    checkpoint = None if out is None else out / CHECKPOINT
    record = run.taken_up(None if restart else checkpoint, lineage or {})
    intervals = _Intervals(log=log_every, probe=probe_every, save=save_every)
    with (
        run.own_randomness(),
        run.micro_batches(micro_batch),
        MetricsLog(out if first else None, after=record.step) as log,
        progress_bar("training", visible=progress) as bar,
    ):
        run.finish(record, intervals, log, bar, checkpoint=checkpoint, workers=workers)
    return History(tuple(log.rows))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Intervals:
    """The steps between two rows of the log, two probes and two checkpoints; 0 is never."""

    log: int
    probe: int
    save: int


def _refuse_small_batch(training: Training[Batch]) -> None:
    """Raise InvalidInput where this process's batches have too few items for the method."""
    least = training.method.least_items
    if least == 1:
        return
    part: Any = training.batches(0)
    while not isinstance(part, Tensor):
        part = next(iter(part.values() if isinstance(part, Mapping) else part))
    if len(part) < least:
        raise InvalidInput(
            f"a batch has {len(part)} item, and {type(training.method).__name__} compares its "
            f"items with one another: it needs {least} or more; give more items, or a larger "
            "batch_size"
        )


def _prepare_folder(out: Path, *, restart: bool) -> None:
    """Make the folder of a run; with `restart`, remove the files of the run before."""
    out.mkdir(parents=True, exist_ok=True)
    if restart:
        for path in (out / CHECKPOINT, out / METRICS, *out.glob(EVENTS)):
            path.unlink(missing_ok=True)


def _fabric(accelerator: str, precision: Precision) -> Fabric:
    """Join the processes that torchrun started, or run in this one alone, whatever started it.

    Raises InvalidInput for variables that torchrun would not have set.
    """
    size = _processes("WORLD_SIZE", 1)
    if size == 1:  # without a look at what Slurm, LSF or MPI say of other processes
        alone = LightningEnvironment()
        return Fabric(accelerator=accelerator, devices=1, precision=precision, plugins=alone)
    here = _processes("LOCAL_WORLD_SIZE", 0)
    if here == 0 or size % here:
        raise InvalidInput(
            f"WORLD_SIZE is {size} and LOCAL_WORLD_SIZE {here or 'not set'}; start the processes "
            "by torchrun, which sets both, or take WORLD_SIZE away to train in this one alone"
        )
    fabric = Fabric(
        accelerator=accelerator,
        devices=here,
        num_nodes=size // here,
        strategy="ddp",
        precision=precision,
    )
    fabric.launch()
    return fabric


def _processes(variable: str, default: int) -> int:
    """Read a number of processes from the environment."""
    value = os.environ.get(variable, "")
    if not value:
        return default
    if not value.isdecimal() or int(value) < 1:
        raise InvalidInput(
            f"{variable} is {value!r}, and no number of processes; start them by torchrun, which "
            "sets it, or take it away"
        )
    return int(value)


@dataclass(frozen=True, slots=True)
class _Run(Generic[Batch]):
    """A training with its method and optimiser as Fabric wrapped them."""

    training: Training[Batch]
    fabric: Fabric
    model: Any
    stepper: Any
    precision: Precision
    sharded: Sharded | None = None

    @classmethod
    def of(
        cls,
        training: Training[Batch],
        fabric: Fabric,
        precision: Precision,
        strategy: Strategy,
        *,
        compiled: bool,
    ) -> Self:
        _refuse_small_batch(training)
        method, optimiser = training.method, training.optimiser
        sharded = strategy == "fsdp" and fabric.world_size > 1
        # What tensor cores, and bfloat16 units of a CPU, take without copies; float32 on a CPU may
        # be slower for it.
        dense = fabric.device.type == "cuda" or precision == "bf16-mixed"
        if dense and not sharded:
            nn.Module.to(method, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if compiled:  # transformers too, for methods that look at tokens go past an encoder's call
            inner = (part for part in method.modules() if isinstance(part, TokenTransformer))
            for part in dict.fromkeys((*method.children(), *inner)):
                part.compile()
        if sharded:
            mesh = init_device_mesh(fabric.device.type, (fabric.world_size,))
            sharded_method = Sharded(method, optimiser, mesh)
            return cls(training, fabric, method, optimiser, precision, sharded_method)
        model, stepper = fabric.setup(method, optimiser)
        model.mark_forward_method("loss")  # so that gradients are averaged over processes
        return cls(training, fabric, model, stepper, precision)

    def taken_up(self, checkpoint: Path | None, lineage: Lineage) -> Record:
        """Read the run's checkpoint, if there is one, and give what its next one is to say."""
        what = self.training
        record = Record(seed=what.seed, step=0, lineage=lineage)
        if checkpoint is not None and checkpoint.exists():
            record = load_checkpoint(
                checkpoint,
                method=what.method,
                optimiser=what.optimiser,
                seed=what.seed,
                lineage=lineage,
                steps=what.steps,
            )
        lay_out(what.optimiser)
        ahead = stretch(start=record.step, steps=what.steps, precision=self.precision)
        last = {**record.stretches[-1], "from_step": record.step} if record.stretches else None
        if ahead == last:
            return record
        return replace(record, stretches=(*record.stretches, ahead))

    def save(self, checkpoint: Path, record: Record) -> None:
        save_checkpoint(
            checkpoint,
            method=self.training.method,
            optimiser=self.training.optimiser,
            record=record,
            write=self.fabric.is_global_zero,
        )

    def own_randomness(self) -> AbstractContextManager[None]:
        """Put torch's global generators back at the end."""
        cuda = self.fabric.device.type == "cuda"
        return torch.random.fork_rng([self.fabric.device] if cuda else [])

    def micro_batches(self, rows: int | None) -> AbstractContextManager[object]:
        """Keep the activations of so many rows of the encoder, or of all for None."""
        if rows is None:
            return nullcontext()
        return micro_batches(self.training.method.encoder, rows)

    def finish(
        self,
        record: Record,
        intervals: _Intervals,
        log: MetricsLog,
        bar: Progress,
        *,
        checkpoint: Path | None,
        workers: int,
    ) -> None:
        """Make the steps after those of `record`; log, probe and save on the way."""
        training = self.training
        task = bar.add_task("", total=training.steps, completed=record.step)
        if record.step == 0:
            _probe(self, log, steps_done=0)
        began = time.perf_counter()
        steps = range(record.step, record.step if _stops(training, log) else training.steps)
        batches = batches_ahead(training.batches, steps, workers)
        for step, items in zip(steps, batches, strict=True):
            figures = self.step(step, items)
            steps_done, last = step + 1, step + 1 == training.steps
            if last or _due(intervals.log, steps_done):
                row = self.logged(figures) | {"seconds": time.perf_counter() - began}
                log.write({"step": steps_done, "rate": training.rate(step)} | row)
                bar.update(task, description=f"loss {row['loss']:.4g}{log.latest(PROBED)}")
            if last or _due(intervals.probe, steps_done):
                _probe(self, log, steps_done=steps_done)
                last = last or _stops(training, log)
            if checkpoint is not None and (last or _due(intervals.save, steps_done)):
                self.save(checkpoint, replace(record, step=steps_done))
            bar.update(task, completed=steps_done)
            if last:
                break
        if self.sharded is not None:
            self.sharded.undo()

    def step(self, step: int, items: Any) -> Metrics:
        """Make one step; give its loss and metrics."""
        training = self.training
        torch.manual_seed(seed_at(training.seed, step))
        rate = training.rate(step)
        for group in training.optimiser.param_groups:
            group["lr"] = group.get("constant_rate", rate)  # see `hold_rate`
        training.method.train()
        batch = training.views(self.fabric.to_device(items), step)
        with self.fabric.autocast():
            loss, metrics = self.model.loss(batch, step)
        if not torch.isfinite(loss):
            raise FloatingPointError(
                f"the loss is {loss.item()} at step {step}, rate {rate:.3g}: lower the rate, "
                f"warm up longer, or look at that step's batch, training.batches({step})"
            )
        self.stepper.zero_grad()
        self.fabric.backward(loss)
        if training.clip is not None:
            nn.utils.clip_grad_norm_(training.method.parameters(), training.clip)
        decay = None if training.weight_decay is None else training.weight_decay(step)
        with decaying(training.optimiser, decay):
            self.stepper.step()
        training.method.after_step(step)
        return {"loss": loss.detach(), **metrics}

    def logged(self, figures: Metrics) -> Row:
        """Give the figures' means over the processes."""
        if self.fabric.world_size == 1:
            return {name: float(value) for name, value in figures.items()}
        names = sorted(figures)
        values = torch.tensor([float(figures[name]) for name in names], device=self.fabric.device)
        means = cast("Tensor", self.fabric.all_reduce(values, reduce_op="mean"))
        return dict(zip(names, means.tolist(), strict=True))


def _due(every: int, steps_done: int) -> bool:
    return every > 0 and steps_done % every == 0


def _stops(training: Training[Batch], log: MetricsLog) -> bool:
    return training.stop is not None and training.stop(History(tuple(log.rows)))


def _probe(run: _Run[Batch], log: MetricsLog, *, steps_done: int) -> None:
    training = run.training
    if training.probe is None:
        return
    probe = training.probe
    training.method.eval()
    with torch.no_grad():
        figures = training.method.during(lambda: probe(steps_done))
    if run.sharded is not None:
        run.sharded.reshard()
    log.write({"step": steps_done, **figures})
    ranks = [row["rankme"] for row in log.rows if "rankme" in row]
    fallen = [rank < COLLAPSED * ranks[0] for rank in ranks]
    if fallen and fallen[-1] and not any(fallen[:-1]):
        warnings.warn(
            f"after {steps_done} steps RankMe is {ranks[-1]:.1f}, of {ranks[0]:.1f} at the start: "
            "the embeddings collapse; lower the rate, or look for a missing stop-gradient, "
            "predictor, variance term or negatives",
            CollapseWarning,
            stacklevel=2,
        )
