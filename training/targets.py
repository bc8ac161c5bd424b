"""Targets: what a student is compared with, other than the other view of itself.

Some targets need no code here: the student itself, a stop-gradient (`.detach()`), and functions of
the items, such as pixels or log-mel frames, which the batch carries with its views. A random target
is a `Frozen` network with its initial weights.
"""

from copy import deepcopy
from typing import Any, Self

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from .encoders.encoder import refuse_sizes_below_one
from .fsdp import full_tensor, shard_like
from .schedules import Schedule

BATCH_NORMS = nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d


class Ema(nn.Module):
    """An exponential moving average of the student's parameters, without gradient.

    `momentum` is a schedule: at 1 the copy stands still, at 0 it is the student. Call `update` in
    `after_step`; calling the target runs the copy. Source: Tarvainen and Valpola 2017
    (arXiv:1703.01780); with a rising momentum, BYOL (arXiv:2006.07733).
    """

    def __init__(self, student: nn.Module, momentum: Schedule) -> None:
        super().__init__()
        self.copy = deepcopy(student).requires_grad_(requires_grad=False)
        self.momentum = momentum

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Any:
        """Give the copy's output for what the student takes."""
        return self.copy(*inputs)

    @torch.no_grad()
    def update(self, student: nn.Module, step: int) -> None:
        """Move each parameter by 1 - momentum(step) of its way to the student's; copy buffers."""
        towards = 1 - self.momentum(step)
        for own, its in zip(self.copy.parameters(), student.parameters(), strict=True):
            own.lerp_(its, towards)
        for buffer, its_buffer in zip(self.copy.buffers(), student.buffers(), strict=True):
            buffer.copy_(its_buffer)


class Frozen(nn.Module):
    """A module that no longer learns: no gradient, and evaluation mode whatever its parent's is.

    With `batch_statistics` its batch norms use the mean and variance of the batch; their running
    ones do not move. The module is taken as it is; copy it first if a student also trains it.
    """

    def __init__(self, module: nn.Module, *, batch_statistics: bool = False) -> None:
        super().__init__()
        self.module = module.requires_grad_(requires_grad=False)
        self.batch_statistics = batch_statistics
        if batch_statistics:
            for norm in _batch_norms(module):
                norm.track_running_stats = False  # the buffers stay, and nothing updates them
        self.train()

    def train(self, mode: bool = True) -> Self:  # noqa: FBT002 - torch's signature
        """Stay in evaluation mode, but for the batch norms that use the batch."""
        super().train(mode=False)
        for norm in _batch_norms(self.module):
            norm.train(self.batch_statistics)
        return self

    @torch.no_grad()
    def forward(self, *inputs: Tensor) -> Any:
        """Give the module's output."""
        return self.module(*inputs)


def _batch_norms(module: nn.Module) -> list[nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d]:
    return [part for part in module.modules() if isinstance(part, BATCH_NORMS)]


class Queue(nn.Module):
    """The last `size` keys, as negatives beyond the batch, first in, first out.

    It starts with random directions, as MoCo's does. Source: He et al. 2020 (arXiv:1911.05722).
    """

    keys: Tensor

    def __init__(self, size: int, dim: int, *, seed: int = 0) -> None:
        super().__init__()
        refuse_sizes_below_one(size, queue=size)
        generator = torch.Generator().manual_seed(seed)
        keys = nn.functional.normalize(torch.randn(size, dim, generator=generator), dim=1)
        self.register_buffer("keys", keys)  # (size, dim), newest last

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Add (n, dim) keys, the global batch's."""
        newest = nn.functional.normalize(keys.detach().to(self.keys), dim=1)
        self.keys.copy_(torch.cat([self.keys, newest])[-len(self.keys) :])


class Codebook(nn.Module):
    """`size` learned vectors of width `dim`, of which each state takes the nearest as its code.

    The gradient of what is made of a code goes to the state instead (straight-through). Vectors
    start as states of the first batch, and one that no state has taken for `max_idle` steps in
    which the codebook learns becomes a state of the last one again. Source: van den Oord et al.
    2017 (VQ-VAE), arXiv:1711.00937; restarts as Dhariwal et al. 2020 (Jukebox), arXiv:2005.00341,
    section 3.
    """

    idle: Tensor

    def __init__(self, size: int, dim: int, *, max_idle: int = 20) -> None:
        super().__init__()
        refuse_sizes_below_one(size, size=size)
        self.vectors = nn.Parameter(torch.randn(size, dim))
        self.max_idle = max_idle
        # Every vector is overdue at first, and so begins as a state.
        self.register_buffer("idle", torch.full((size,), max_idle))

    def codes(self, states: Float[Tensor, "*n dim"]) -> Int[Tensor, "*n"]:
        """Give the number of the nearest vector to each state, by Euclidean distance."""
        flat = states.reshape(-1, states.shape[-1]).float()
        nearest: Tensor = torch.cdist(flat, self.vectors.float()).argmin(1)
        return nearest.view(states.shape[:-1])

    def forward(self, codes: Int[Tensor, "*n"]) -> Float[Tensor, "*n dim"]:
        """Give the vectors of codes."""
        return self.vectors[codes]

    @torch.no_grad()
    def restart(self, states: Float[Tensor, "n dim"], codes: Int[Tensor, "n"]) -> None:
        """Count each vector's batches without use, and replace overdue ones by random states.

        Draws from torch's global generator, which the loop seeds at each step.
        """
        used = torch.bincount(codes, minlength=len(self.idle)) > 0
        self.idle.copy_(torch.where(used, 0, self.idle + 1))
        overdue = (self.idle > self.max_idle).nonzero()[:, 0]
        picked = torch.randint(len(states), (len(overdue),), device=states.device)
        vectors = full_tensor(self.vectors).clone()
        vectors[overdue] = states[picked].to(vectors)
        self.vectors.copy_(shard_like(vectors, self.vectors))
        self.idle[overdue] = 0
