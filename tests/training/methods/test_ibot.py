"""iBOT adds to DINO the patches that its student does not see, and its teacher does."""

import pytest
import torch
from torch import Tensor

from attar.training.encoders.prototype_head import PrototypeHead
from attar.training.encoders.transformer import TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder
from attar.training.methods.dino import Dino
from attar.training.methods.ibot import Ibot, IbotBatch, Tokenizer
from attar.training.schedules import constant

IMAGES, SIDE, GRID, OUTPUTS = 6, 8, 4, 7
BLOCKS = TransformerConfig(width=8, depth=1, heads=2, hidden=12, norm="pre", norm_eps=1e-5)
SHAPE = VitConfig(channels=1, side=SIDE, patch=2, transformer=BLOCKS, normalized=False)
TEMPERATURE = constant(0.05)  # of the teacher


def views() -> tuple[Tensor, ...]:
    draw = torch.Generator().manual_seed(0)
    sides = (SIDE, SIDE, 4)
    return tuple(torch.rand(IMAGES, 1, side, side, generator=draw) for side in sides)


def batch(mask: tuple[float, float] = (0.1, 0.5)) -> IbotBatch:
    return IbotBatch.of(views(), torch.Generator().manual_seed(1), grid=GRID, mask=mask)


def parts() -> tuple[VitEncoder, PrototypeHead]:
    torch.manual_seed(1)
    return VitEncoder(SHAPE), PrototypeHead(8, hidden=8, bottleneck=4, outputs=OUTPUTS)


def method(*, frozen: int = 0, patch_weight: float = 1.0) -> Ibot:
    own = Ibot(
        *parts(),
        momentum=constant(0.75),
        teacher_temperature=TEMPERATURE,
        frozen=frozen,
        patch_weight=patch_weight,
    )
    with torch.no_grad():  # a student that is not its teacher, and centres that are not zero
        for parameter in own.encoder.parameters():
            parameter.add_(0.1)
        own.mask_token.fill_(0.2)
        own.centre.copy_(torch.linspace(-0.2, 0.2, OUTPUTS))
        own.patch_centre.copy_(torch.linspace(0.3, -0.1, OUTPUTS))
    return own


def test_half_of_the_images_lose_a_share_of_their_patches_in_each_global_view() -> None:
    many = tuple(torch.zeros(400, 1, 16, 16) for _ in range(2))
    draw = torch.Generator().manual_seed(0)
    drawn = IbotBatch.of(many, draw, grid=8, mask=(0.2, 0.4))
    for hidden in drawn.hidden:
        share = hidden.float().mean(1)
        masked = share[share > 0]
        assert len(masked) / 400 == pytest.approx(0.5, abs=0.1)
        assert masked.min() >= 0.2 - 1e-6
        assert masked.max() < 0.4 + 0.25  # the last block, of at most half by half, may go over
    assert not torch.equal(*drawn.hidden)


def test_a_masked_patch_is_given_its_teachers_distribution_patch_by_patch() -> None:
    ibot, drawn = method(), batch()
    _, metrics = ibot.loss(drawn, 0)
    encoder, teacher, errors = ibot.encoder, ibot.target.copy, []
    assert isinstance(teacher, Tokenizer)
    for view, hidden in zip(drawn.views, drawn.hidden, strict=False):
        for image, masked in zip(view, hidden, strict=True):
            content = encoder.content(image[None])[0].clone()
            content[masked] = ibot.mask_token
            given = encoder.states(encoder.add_positions(content[None]))[0]
            wanted = teacher.encoder.states(teacher.encoder.tokens(image[None]))[0]
            own = []
            for place in masked.nonzero()[:, 0].tolist():
                target = (teacher.head(wanted[place : place + 1]) - ibot.patch_centre) / 0.05
                log_p = (ibot.head(given[place : place + 1]) / 0.1).log_softmax(1)
                own.append(-(target.softmax(1) * log_p).sum())
            errors.append(torch.stack(own).mean() if own else torch.tensor(0.0))
    assert 0.0 in errors
    torch.testing.assert_close(metrics["patch"], torch.stack(errors).mean().detach())


def test_without_masks_it_is_dino() -> None:
    drawn = batch(mask=(0.0, 0.0))
    ibot = method()
    dino = Dino(*parts(), momentum=constant(0.75), teacher_temperature=TEMPERATURE)
    with torch.no_grad():
        for own, its in zip(dino.encoder.parameters(), ibot.encoder.parameters(), strict=True):
            own.copy_(its)
        dino.centre.copy_(ibot.centre)
    loss, metrics = ibot.loss(drawn, 0)
    assert metrics["patch"] == 0
    torch.testing.assert_close(loss, dino.loss(drawn.views, 0)[0])


def test_patches_pull_by_their_weight() -> None:
    drawn = batch()
    loss, metrics = method(patch_weight=3.0).loss(drawn, 0)
    torch.testing.assert_close(loss.detach(), metrics["view"] + 3 * metrics["patch"])


def test_the_teacher_and_both_centres_move_and_get_no_gradient() -> None:
    ibot, drawn = method(), batch()
    before = [p.clone() for p in ibot.target.parameters()]
    pooled, patches = ibot.target(torch.cat(drawn.views[:2]))
    centre, patch_centre = ibot.centre.clone(), ibot.patch_centre.clone()
    torch.autograd.backward(ibot.loss(drawn, 0)[0])
    ibot.after_step(0)
    student = [*ibot.encoder.parameters(), *ibot.head.parameters()]
    for old, own, its in zip(before, ibot.target.parameters(), student, strict=True):
        assert own.grad is None
        torch.testing.assert_close(own, 0.75 * old + 0.25 * its)
    torch.testing.assert_close(ibot.centre, 0.9 * centre + 0.1 * pooled.mean(0))
    torch.testing.assert_close(ibot.patch_centre, 0.9 * patch_centre + 0.1 * patches.mean((0, 1)))


def test_the_mask_token_learns_and_frozen_prototypes_do_not() -> None:
    ibot = method(frozen=1)
    torch.autograd.backward(ibot.loss(batch(), 0)[0])
    assert ibot.head.outputs.weight.grad is None
    assert ibot.mask_token.grad is not None
    assert ibot.mask_token.grad.abs().sum() > 0
