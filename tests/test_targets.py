"""Targets follow the student, or do not move, and no gradient reaches them."""

import pytest
import torch
from torch import nn

from attar.training.schedules import constant, cosine_ramp
from attar.training.targets import Ema, Frozen


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5))


def moved(module: nn.Sequential, by: float) -> None:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(by)


def test_an_ema_moves_by_what_momentum_leaves() -> None:
    student = network()
    start = [p.clone() for p in student.parameters()]
    target = Ema(student, constant(0.9))
    moved(student, 1.0)
    target.update(student, 0)
    for own, first in zip(target.parameters(), start, strict=True):
        torch.testing.assert_close(own, first + 0.1)


def test_an_ema_reads_its_momentum_at_the_step() -> None:
    student = network()
    target = Ema(student, cosine_ramp(0.0, 1.0, 10))
    moved(student, 1.0)
    before = [p.clone() for p in target.parameters()]
    target.update(student, 10)  # momentum 1: it stands still
    for own, first in zip(target.parameters(), before, strict=True):
        assert torch.equal(own, first)
    target.update(student, 0)  # momentum 0: it is the student
    for own, its in zip(target.parameters(), student.parameters(), strict=True):
        assert torch.equal(own, its)


def test_an_ema_copies_buffers_whole() -> None:
    student = network()
    target = Ema(student, constant(0.99))
    student(torch.randn(8, 3))
    target.update(student, 0)
    for own, its in zip(target.buffers(), student.buffers(), strict=True):
        assert torch.equal(own, its)


@pytest.mark.parametrize("target", [Ema(network(), constant(0.9)), Frozen(network())])
def test_no_gradient_reaches_a_target(target: nn.Module) -> None:
    assert not target(torch.randn(4, 3, requires_grad=True)).requires_grad
    assert not any(p.requires_grad for p in target.parameters())


def test_a_frozen_module_evaluates_whatever_its_parent_does() -> None:
    frozen = Frozen(network())
    parent = nn.ModuleDict({"target": frozen}).train()
    assert parent.training
    assert not any(part.training for part in frozen.modules())
    x = torch.randn(4, 3)
    assert torch.equal(frozen(x), frozen(x))  # with dropout on, these would differ
