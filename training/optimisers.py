"""Which parameters a plain optimiser should decay."""

from typing import TypedDict

from torch import nn


class Group(TypedDict):
    """One entry of a torch optimiser's `params`."""

    params: list[nn.Parameter]
    weight_decay: float


def parameter_groups(module: nn.Module, *, weight_decay: float) -> list[Group]:
    """Give AdamW's groups: matrices and tables decay, biases and norm gains do not.

    Parameters that need no gradient (frozen or EMA targets) are left out, and a tied one is once.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    groups: list[Group] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]
