"""DINO compares a student's outputs for every view with its teacher's for the global ones."""

import numpy as np
import torch
from torch import Tensor, nn

from attar.training.encoders.prototype_head import PrototypeHead
from attar.training.methods.dino import Dino
from attar.training.schedules import constant

STUDENT, TEACHER = 0.1, 0.05
OUTPUTS = 7


def views(local: int = 2, n: int = 6) -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    return (
        *(torch.randn(n, 1, 4, 4, generator=draw) for _ in range(2)),
        *(torch.randn(n, 1, 2, 2, generator=draw) for _ in range(local)),
    )


def method(*, frozen: int = 0) -> Dino:
    torch.manual_seed(1)
    encoder = nn.Sequential(
        nn.Conv2d(1, 5, 2), nn.Flatten(2), nn.AdaptiveAvgPool1d(1), nn.Flatten()
    )
    own = Dino(
        encoder,
        PrototypeHead(5, hidden=8, bottleneck=4, outputs=OUTPUTS),
        momentum=constant(0.75),
        teacher_temperature=constant(TEACHER),
        student_temperature=STUDENT,
        frozen=frozen,
    )
    with torch.no_grad():  # a student that is not its teacher, and a centre that is not zero
        for parameter in own.encoder.parameters():
            parameter.add_(0.3)
        own.centre.copy_(torch.linspace(-0.2, 0.2, OUTPUTS))
    return own


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(weights / weights.sum(axis=1, keepdims=True))


def test_the_loss_is_the_mean_over_pairs_of_other_views() -> None:
    dino, batch = method(), views()
    student = [dino.head(dino.encoder(view)).detach().double().numpy() for view in batch]
    teacher = [dino.target(view).double().numpy() for view in batch[:2]]
    centre = dino.centre.double().numpy()
    pairs = [
        -(softmax((its - centre) / TEACHER) * np.log(softmax(own / STUDENT))).sum(axis=1).mean()
        for t, its in enumerate(teacher)
        for s, own in enumerate(student)
        if s != t
    ]
    assert len(pairs) == 2 * 3
    np.testing.assert_allclose(dino.loss(batch, 0)[0].item(), np.mean(pairs), rtol=1e-5)


def test_the_gradient_is_that_of_the_views_one_by_one() -> None:
    dino, batch = method(), views()
    (weight, *_) = dino.head.layers.parameters()
    (given,) = torch.autograd.grad(dino.loss(batch, 0)[0], weight)
    targets = [((dino.target(view) - dino.centre) / TEACHER).softmax(dim=1) for view in batch[:2]]
    losses = [
        -(target * (dino.head(dino.encoder(view)) / STUDENT).log_softmax(dim=1)).sum(1).mean()
        for t, target in enumerate(targets)
        for s, view in enumerate(batch)
        if s != t
    ]
    (wanted,) = torch.autograd.grad(torch.stack(losses).mean(), weight)
    torch.testing.assert_close(given, wanted)


def test_the_teacher_follows_without_a_gradient_and_the_centre_moves_to_its_mean() -> None:
    dino, batch = method(), views()
    before, centre = [p.clone() for p in dino.target.parameters()], dino.centre.clone()
    outputs = dino.target(torch.cat(batch[:2]))
    torch.autograd.backward(dino.loss(batch, 0)[0])
    dino.after_step(0)
    student = [*dino.encoder.parameters(), *dino.head.parameters()]
    for old, own, its in zip(before, dino.target.parameters(), student, strict=True):
        assert own.grad is None
        torch.testing.assert_close(own, 0.75 * old + 0.25 * its)
    torch.testing.assert_close(dino.centre, 0.9 * centre + 0.1 * outputs.mean(0))


def test_frozen_prototypes_get_no_gradient() -> None:
    dino = method(frozen=2)
    for step, moves in ((1, False), (2, True)):
        dino.zero_grad()
        torch.autograd.backward(dino.loss(views(), step)[0])
        assert (dino.head.outputs.weight.grad is not None) == moves


def test_local_views_change_the_student_only() -> None:
    dino = method()
    first = dino.loss(views(local=1), 0)[1]["used"]
    dino.loss(views(local=3), 0)
    assert dino.loss(views(local=3), 0)[1]["used"] == first
