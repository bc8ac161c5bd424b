"""The optimisers, which parameters they decay, and how their state lies in memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias, overload

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


class Lars(Optimizer):
    """SGD with momentum in which every weight matrix has a rate of its own.

    For weights w with gradient g and decay β, λ = trust · ‖w‖ / (‖g‖ + β ‖w‖), and the step is
    v ← momentum · v + rate · λ · (g + β w), w ← w − v. λ is 1 where ‖w‖ or ‖g‖ is 0, and for biases
    and norm gains (parameters of one dimension), as in SimCLR and BYOL; `parameter_groups` leaves
    these without decay too.

    Source: You, Gitman and Ginsburg 2017 (arXiv:1708.03888), algorithm 1.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, momentum: float = 0.9, trust: float = 1e-3
    ) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "trust": trust})

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Make a step with the gradients there are; parameters without one stand still."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._move(weights, group)
        return loss

    def _move(self, weights: Tensor, group: dict[str, Any]) -> None:
        gradient, decay = weights.grad, group["weight_decay"]
        assert gradient is not None
        ratio: float | Tensor = 1.0
        if weights.ndim > 1:
            length, slope = map(torch.linalg.vector_norm, (weights, gradient))
            own = group["trust"] * length / (slope + decay * length)
            ratio = torch.where((length > 0) & (slope > 0), own, torch.ones_like(own))
        state = self.state[weights]
        if not state:
            state["velocity"] = torch.zeros_like(weights)
        velocity: Tensor = state["velocity"]
        velocity.mul_(group["momentum"])
        velocity.add_(group["lr"] * ratio * gradient.add(weights, alpha=decay))
        weights.sub_(velocity)


def lars(module: nn.Module, *, weight_decay: float) -> Lars:
    """Give LARS over a module's `parameter_groups`; the rate is the loop's to set."""
    return Lars(parameter_groups(module, weight_decay=weight_decay))


def sgd(module: nn.Module, *, weight_decay: float) -> torch.optim.SGD:
    """Give SGD with a momentum of 0.9; for the rest see `lars`."""
    return torch.optim.SGD(parameter_groups(module, weight_decay=weight_decay), momentum=0.9)


def hold_rate(optimiser: Optimizer, module: nn.Module, rate: float) -> None:
    """Give the parameters of a module this rate at every step, whatever the loop's is."""
    held = {id(parameter) for parameter in module.parameters()}
    for group in list(optimiser.param_groups):
        own = [parameter for parameter in group["params"] if id(parameter) in held]
        if own:
            group["params"] = [other for other in group["params"] if id(other) not in held]
            optimiser.add_param_group({**group, "params": own, "constant_rate": rate})


OptimizerName: TypeAlias = Literal["adamw", "sgd", "lars"]


def named_optimiser(name: OptimizerName, module: nn.Module, *, weight_decay: float) -> Optimizer:
    """Give the optimiser that a setting names."""
    match name:
        case "adamw":
            return adamw(module, weight_decay=weight_decay)
        case "sgd":
            return sgd(module, weight_decay=weight_decay)
        case "lars":
            return lars(module, weight_decay=weight_decay)


@contextmanager
def decaying(optimiser: Optimizer, weight_decay: float | None) -> Iterator[None]:
    """Decay by `weight_decay` while this is open, in the groups that decay; None changes nothing.

    The groups have their own value again afterwards, which a checkpoint has and compares.
    """
    groups = [group for group in optimiser.param_groups if group.get("weight_decay")]
    own = [group["weight_decay"] for group in groups]
    for group in groups if weight_decay is not None else ():
        group["weight_decay"] = weight_decay
    try:
        yield
    finally:
        for group, value in zip(groups, own, strict=True):
            group["weight_decay"] = value


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
