"""Random draws from the caller's generator, on the device of the data and for kornia."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def seed_of(generator: torch.Generator) -> int:
    """Draw a seed for another generator."""
    return int(torch.randint(2**63 - 1, (), generator=generator))


@contextmanager
def lent(generator: torch.Generator) -> Iterator[None]:
    """Seed torch's global CPU generator, the only one kornia draws from, and restore it after."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed_of(generator))
        yield


def carried(drawn: Tensor, data: Tensor) -> Tensor:
    """Move draws from the CPU to the device of `data`, without waiting for the device."""
    return drawn.to(data.device, non_blocking=True)


def normal_like(data: Tensor, generator: torch.Generator) -> Tensor:
    """Draw white noise of the shape of `data`, on its device: too many numbers to carry there."""
    local = torch.Generator(data.device).manual_seed(seed_of(generator))
    return torch.randn(data.shape, generator=local, device=data.device, dtype=data.dtype)


def uniform(low: float, high: float, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """Draw numbers in [low, high) on the CPU."""
    return low + (high - low) * torch.rand(shape, generator=generator)
