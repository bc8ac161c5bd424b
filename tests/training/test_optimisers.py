"""The optimisers: LARS against the paper's update written in numpy, and what it leaves alone."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from attar.training.optimisers import Lars, adamw, decaying, lars, named_optimiser

Array = NDArray[np.float64]
MOMENTUM, TRUST = 0.9, 1e-3


def update(
    weights: Array, gradient: Array, velocity: Array, *, rate: float, decay: float, adapt: bool
) -> tuple[Array, Array]:
    """Make one step of You, Gitman and Ginsburg 2017, algorithm 1; `adapt` false leaves λ at 1."""
    length, slope = np.sqrt((weights**2).sum()), np.sqrt((gradient**2).sum())
    ratio = TRUST * length / (slope + decay * length) if adapt and length and slope else 1.0
    velocity = MOMENTUM * velocity + rate * ratio * (gradient + decay * weights)
    return weights - velocity, velocity


class Layers(nn.Module):
    """A matrix, a kernel, and what has one dimension: a bias and the gain of a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)
        self.conv = nn.Conv2d(2, 3, 3, bias=False)
        self.norm = nn.BatchNorm1d(4)


def module(seed: int = 0) -> Layers:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Layers().double()


@pytest.mark.parametrize("decay", [0.0, 1.5e-6, 0.1])
def test_lars_makes_the_papers_steps(decay: float) -> None:
    net, draw = module(), np.random.default_rng(0)
    optimiser = lars(net, weight_decay=decay)
    expected = {name: w.detach().numpy().copy() for name, w in net.named_parameters()}
    velocities = {name: np.zeros_like(w) for name, w in expected.items()}
    for step in range(5):
        rate = 0.3 / (step + 1)
        for group in optimiser.param_groups:
            group["lr"] = rate
        for name, weights in net.named_parameters():
            gradient = draw.normal(size=weights.shape)
            weights.grad = torch.from_numpy(gradient)
            matrix = weights.ndim > 1
            expected[name], velocities[name] = update(
                expected[name],
                gradient,
                velocities[name],
                rate=rate,
                decay=decay if matrix else 0.0,
                adapt=matrix,
            )
        optimiser.step()
        for name, weights in net.named_parameters():
            np.testing.assert_allclose(weights.detach().numpy(), expected[name], rtol=1e-12)


def test_a_matrix_moves_as_far_whatever_the_scale_of_its_gradient() -> None:
    moved = []
    for scale in (1.0, 1e4):
        net = module()
        before = net.linear.weight.detach().clone()
        optimiser = lars(net, weight_decay=0.0)
        optimiser.param_groups[0]["lr"] = 1.0
        net.linear.weight.grad = torch.ones_like(before) * scale
        optimiser.step()
        moved.append(net.linear.weight.detach() - before)
    torch.testing.assert_close(moved[0], moved[1])
    torch.testing.assert_close(moved[0].norm(), TRUST * before.norm())


@pytest.mark.parametrize("zero", ["weights", "gradient"])
def test_a_matrix_of_length_zero_or_without_slope_stays_finite(zero: str) -> None:
    net = module()
    optimiser = lars(net, weight_decay=0.1)
    optimiser.param_groups[0]["lr"] = 1.0
    with torch.no_grad():
        net.linear.weight.mul_(zero != "weights")
    gradient = torch.ones_like(net.linear.weight)
    net.linear.weight.grad = gradient * (zero != "gradient")
    before = net.linear.weight.detach().clone()
    optimiser.step()
    plain = before - (net.linear.weight.grad + 0.1 * before)  # λ is 1
    torch.testing.assert_close(net.linear.weight.detach(), plain)


def test_a_parameter_without_a_gradient_stands_still() -> None:
    net = module()
    before = [weights.detach().clone() for weights in net.parameters()]
    optimiser = lars(net, weight_decay=0.1)
    optimiser.step()
    assert all(torch.equal(a, b) for a, b in zip(before, net.parameters(), strict=True))
    assert not optimiser.state


def test_a_setting_names_the_optimiser() -> None:
    net = module()
    assert isinstance(named_optimiser("lars", net, weight_decay=0.1), Lars)
    plain = named_optimiser("adamw", net, weight_decay=0.1)
    assert type(plain) is type(adamw(net, weight_decay=0.1))
    decays = [group["weight_decay"] for group in plain.param_groups]
    assert decays == [0.1, 0.0]
    momentum = named_optimiser("sgd", net, weight_decay=0.1)
    assert isinstance(momentum, torch.optim.SGD)
    groups = [(group["momentum"], group["weight_decay"]) for group in momentum.param_groups]
    assert groups == [(0.9, 0.1), (0.9, 0.0)]


def test_a_decay_is_that_of_the_groups_that_decay_and_is_put_back() -> None:
    optimiser = adamw(module(), weight_decay=0.1)

    def decays() -> list[float]:
        return [group["weight_decay"] for group in optimiser.param_groups]

    with decaying(optimiser, 0.3):
        assert decays() == [0.3, 0.0]
    with decaying(optimiser, None):
        assert decays() == [0.1, 0.0]
    assert decays() == [0.1, 0.0]
