"""A random phase shift of light curves that are folded on their period."""

import torch
from jaxtyping import Float
from torch import Tensor

from .view import View


def turned(
    curves: Float[Tensor, "n channels samples"], generator: torch.Generator
) -> View[Float[Tensor, "n channels samples"]]:
    """Shift the phase of each curve by a uniform draw, and sort its samples by phase again.

    Channel 0 is the phase in [0, 1), rising. `shift` (n,) in the parameters is the moment.
    """
    shift = torch.rand(len(curves), generator=generator).to(curves.device)
    phase = (curves[:, 0] - shift[:, None]) % 1
    order = phase.argsort(dim=1, stable=True)
    data = torch.cat([phase[:, None], curves[:, 1:]], dim=1)
    return View(data.gather(2, order[:, None].expand_as(data)), {"shift": shift})


def first_turned(batch: tuple[Tensor, ...], generator: torch.Generator) -> tuple[Tensor, ...]:
    """Turn the first of a batch's tensors, light curves, and leave the others as they are."""
    curves, *others = batch
    return turned(curves, generator).data, *others
