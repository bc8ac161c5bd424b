"""The courses: what a generator and views changed is found, and neither network pulls the other."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.training.data.text import pad
from attar.training.encoders.students import STUDENT, generator_of
from attar.training.methods.course_learning import (
    COURSES,
    Course,
    CourseLearning,
    course_batches,
    sample,
)
from attar.training.methods.masked_language import MaskedLanguage
from benchmarks.support.encoders import random_rows, tiny_encoder, tiny_shape

MASK = tiny_shape().vocabulary - 1  # no text here has it
TOKENS = pad(random_rows(8, length=(4, 12), seed=0))
BATCH = course_batches(0, blank=MASK, longest=16, rate=0.3)(TOKENS, 0)


def method(courses: Sequence[Course] = COURSES, *, weight: float = 50.0) -> CourseLearning:
    torch.manual_seed(1)
    generator = tiny_encoder(tiny_shape(width=8, depth=1))
    return CourseLearning(tiny_encoder(), generator, blank=MASK, weight=weight, courses=courses)


def gradients(module: nn.Module) -> Iterator[Tensor]:
    return (p.grad for p in module.parameters() if p.grad is not None)


def test_a_batch_holds_what_each_course_changes() -> None:
    assert (BATCH.masked.masked.ids[BATCH.masked.hidden] == MASK).all()
    assert torch.equal(BATCH.masked.ids, TOKENS.ids)
    assert torch.equal(BATCH.swapped.ids[~BATCH.moved], TOKENS.ids[~BATCH.moved])
    assert (BATCH.swapped.ids[BATCH.moved] != TOKENS.ids[BATCH.moved]).all()
    assert (BATCH.inserted.ids[BATCH.added] == MASK).all()
    assert BATCH.inserted.ids.shape[1] <= 16


def test_the_loss_is_the_generators_plus_the_weighted_losses_of_the_courses() -> None:
    loss, logged = method(weight=7.0).loss(BATCH, 0)
    predicting = ("masked", "masked_again")
    detecting = ("replaced", "swapped", "inserted", "replaced_again")
    assert {*logged} == {*predicting, *detecting}
    expected = sum(float(logged[name]) for name in predicting)
    expected += 7 * sum(float(logged[name]) for name in detecting)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_replaced_tokens_alone_are_electra() -> None:
    electra = method(["replaced"])
    _, logged = electra.loss(BATCH, 0)
    assert {*logged} == {"masked", "replaced"}
    assert {*electra.detectors} == {"replaced"}
    own = MaskedLanguage(electra.generator.encoder)
    own.head = electra.generator.head
    torch.testing.assert_close(own.loss(BATCH.masked, 0)[0].detach(), logged["masked"])
    with pytest.raises(InvalidInput, match="replaced must be one of the courses; got swapped"):
        method(["swapped"])


def test_the_generator_learns_from_predicting_alone_and_the_encoder_from_detecting_alone() -> None:
    silent, heard = method(weight=0.0), method(weight=50.0)
    for each in (silent, heard):
        torch.autograd.backward(each.loss(BATCH, 0)[0])
    pairs = zip(gradients(silent.generator), gradients(heard.generator), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    assert not any(gradient.any() for gradient in gradients(silent.encoder))
    assert any(gradient.any() for gradient in gradients(heard.encoder))


def test_every_parameter_learns() -> None:
    courses = method()
    torch.autograd.backward(courses.loss(BATCH, 0)[0])
    assert all(parameter.grad is not None for parameter in courses.parameters())


def test_a_sample_depends_on_its_own_draw_and_follows_the_shares() -> None:
    shares = torch.tensor([0.1, 0.0, 0.6, 0.3])
    at = torch.ones(1, 20_000, dtype=torch.bool)
    draws = torch.rand(1, 20_001, generator=torch.Generator().manual_seed(0))
    sampled = sample(shares.log().expand(20_000, -1), draws, at)
    counts = torch.bincount(sampled, minlength=4) / 20_000
    torch.testing.assert_close(counts, shares, atol=0.015, rtol=0)
    assert sample(shares.log()[None], torch.ones(1, 1), at[:, :1]).item() == 3


def test_a_text_is_changed_alike_in_any_batch() -> None:
    courses = method()
    whole = courses.loss(BATCH, 0)[1]
    halves = [courses.loss(rows(part), 0)[1] for part in (slice(0, 4), slice(4, 8))]
    count = TOKENS.mask.sum(1)
    share = float(count[:4].sum() / count.sum())
    for name in ("replaced", "swapped"):
        apart = share * float(halves[0][name]) + (1 - share) * float(halves[1][name])
        assert apart == pytest.approx(float(whole[name]), rel=1e-5)


def rows(part: slice, of: Any = BATCH) -> Any:
    """Give some rows of all tensors of a batch."""
    return of[part] if isinstance(of, Tensor) else type(of)(*(rows(part, each) for each in of))


def test_a_generator_has_a_quarter_of_the_heads() -> None:
    shape = generator_of(STUDENT)
    assert (shape.transformer.width, shape.transformer.heads, shape.transformer.hidden) == (
        96,
        3,
        256,
    )
    assert (shape.vocabulary, shape.max_length) == (STUDENT.vocabulary, STUDENT.max_length)
    assert generator_of(tiny_shape(width=16, heads=2)).transformer.width == 8
