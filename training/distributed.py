"""The processes of one run: who has which rows, and how their embeddings come together.

An objective compares the items of the global batch, so every process computes it whole, on all
embeddings, and the gradient of each row goes back to the process that embedded it.
"""

import os
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from attar.errors import InvalidInput

from .sampler import seed_at


def world_size() -> int:
    """Give how many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def rank() -> int:
    """Give this process's place among them, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def first() -> bool:
    """Say whether this process speaks for all: that of rank 0, also before they have joined."""
    if dist.is_initialized() or not dist.is_torchelastic_launched():
        return rank() == 0
    return os.environ.get("RANK", "0") == "0"


def shard(rows: Tensor) -> Tensor:
    """Give this process's part of a step's (b,) rows, in order: any number of processes sees one.

    Raises InvalidInput when the rows cannot be split evenly.
    """
    if len(rows) % world_size():
        raise InvalidInput(
            f"a batch of {len(rows)} cannot be split evenly among {world_size()} processes; "
            f"choose a batch_size that is a multiple of {world_size()}"
        )
    return rows.chunk(world_size())[rank()]


def step_generator(seed: int, step: int) -> torch.Generator:
    """Give what the views of this process's rows at a step are drawn from."""
    return torch.Generator().manual_seed(seed_at(seed, step, 1 + rank()))


def weight(count: Tensor) -> Tensor:
    """Give what this process's mean over `count` things weighs in that over all processes'.

    The average over processes of such a mean times its weight is the mean over all things, however
    many each process has of them.
    """
    if world_size() == 1:
        return torch.ones_like(count, dtype=torch.float32)
    every = count.clone()
    dist.all_reduce(every)
    return count * world_size() / every


def gather(own: Tensor) -> Tensor:
    """Give the global batch's rows in order of rank, (n, ...) here and (size n, ...) given.

    Each process must compute the same loss of them. Its gradient with respect to `own` is then the
    loss's times the number of processes, which DDP's average over processes takes out again, so
    that parameters get the gradient of one large batch.
    """
    if world_size() == 1:
        return own
    gathered: Tensor = _Gather.apply(own)  # type: ignore[no-untyped-call]  # torch's own
    return gathered


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        parts = [torch.empty_like(own) for _ in range(world_size())]
        dist.all_gather(parts, own.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # noqa: ARG004 - torch's signature
        summed = gradient.contiguous().clone()
        dist.all_reduce(summed)
        return summed.chunk(world_size())[rank()]
