"""Which parameters a plain optimiser should decay, and how its state lies in memory."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer


def parameter_groups(module: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Give AdamW's groups: matrices and tables decay, biases and norm gains do not.

    Parameters that need no gradient (frozen or EMA targets) are left out, and a tied one is once.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def adamw(
    module: nn.Module, *, weight_decay: float, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """Give AdamW over a module's `parameter_groups`, its step fused into one kernel.

    The rate is the loop's to set. Source: Loshchilov and Hutter 2019 (arXiv:1711.05101).
    """
    groups = parameter_groups(module, weight_decay=weight_decay)
    return torch.optim.AdamW(groups, betas=betas, fused=True)


@torch.no_grad()
def lay_out(optimiser: Optimizer) -> None:
    """Lay an optimiser's state out in memory as its parameters are.

    A fused step walks both side by side: where a parameter is channels-last and its state, read
    from a checkpoint, is not, it would pair numbers that do not belong together.
    """
    for parameter, state in optimiser.state.items():
        for name, value in state.items():
            if not isinstance(value, Tensor) or value.shape != parameter.shape:
                continue
            if value.stride() != parameter.stride():
                state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)
