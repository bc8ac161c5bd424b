"""A student is drawn to its teacher, and only the student moves."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attar.training.data.text import TextPairs
from attar.training.encoders.text import TextEncoder
from attar.training.loop import fit
from attar.training.methods.distillation import Distillation, DistillationBatch
from attar.training.objectives.matryoshka import matryoshka
from attar.training.probes.text_retrieval import Retrieval, embed
from attar.training.recipes.text import distil
from attar.training.text_data import TextData
from benchmarks.support.encoders import random_rows, tiny_encoder

FIRST, SECOND = random_rows(48, seed=1), random_rows(48, seed=2)
DATA = TextData(
    pairs=TextPairs(first=FIRST, second=SECOND),
    probe=Retrieval(queries=FIRST[:8], documents=SECOND, relevant=np.arange(8)),
)
SETTINGS = distil.Settings(steps=12, warmup=2, batch_size=16, rate=3e-3)


def lesson(teacher: TextEncoder) -> DistillationBatch:
    rows = torch.arange(16)
    goals = distil.targets(teacher, DATA)
    first, second = (torch.from_numpy(view)[rows] for view in (goals.first, goals.second))
    return *DATA.pairs.batch(rows), first, second


def test_the_loss_is_zero_for_a_student_that_equals_its_teacher() -> None:
    teacher = tiny_encoder()
    loss, terms = Distillation(teacher, temperature=0.05).loss(lesson(teacher), 0)
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert set(terms) == {"match", "similarity"}
    assert all(float(term) == pytest.approx(0, abs=1e-5) for term in terms.values())


def test_the_loss_is_the_sum_of_its_logged_terms_and_positive_for_others() -> None:
    method = Distillation(tiny_encoder(seed=1), temperature=0.05)
    loss, terms = method.loss(lesson(tiny_encoder()), 0)
    assert min(float(term) for term in terms.values()) > 0.01
    assert loss.item() == pytest.approx(sum(float(term) for term in terms.values()))


def test_contrast_adds_what_matryoshka_gives_of_the_pairs() -> None:
    teacher, student = tiny_encoder(), tiny_encoder(seed=1)
    batch = lesson(teacher)
    without, _ = Distillation(student, temperature=0.05).loss(batch, 0)
    method = Distillation(student, temperature=0.05, contrast=0.5, widths=(4, 16))
    loss, terms = method.loss(batch, 0)
    pairs = matryoshka(student(*batch[0]), student(*batch[1]), widths=(4, 16), temperature=0.05)
    assert float(terms["contrast"]) == pytest.approx(pairs.item())
    assert loss.item() == pytest.approx(without.item() + 0.5 * pairs.item())


def test_a_student_that_equals_its_teacher_still_learns_from_the_pairs() -> None:
    teacher = tiny_encoder()
    loss, _ = Distillation(teacher, temperature=0.05, contrast=1.0).loss(lesson(teacher), 0)
    assert loss.item() > 0.1


def test_gradients_reach_all_of_the_student_and_nothing_else() -> None:
    teacher, student = tiny_encoder(), tiny_encoder(seed=1)
    loss, terms = Distillation(student, temperature=0.05).loss(lesson(teacher), 0)
    loss.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert all(parameter.grad is None for parameter in teacher.parameters())
    reached = {name for name, p in student.named_parameters() if p.grad is not None}
    assert reached == {name for name, _ in student.named_parameters()}
    assert not any(isinstance(term, torch.Tensor) and term.requires_grad for term in terms.values())


def test_a_few_steps_bring_the_student_nearer() -> None:
    teacher, student = tiny_encoder(), tiny_encoder(seed=1)
    goals = distil.targets(teacher, DATA)
    before = (embed(student, FIRST) * goals.first).sum(axis=1).mean()
    run = distil.build(DATA, goals, student, SETTINGS)
    history = fit(run, log_every=1, accelerator="cpu", progress=False)
    losses = [loss for _, loss in history.series("loss")]
    assert np.mean(losses[-3:]) < 0.8 * losses[0]
    assert (embed(student, FIRST) * goals.first).sum(axis=1).mean() > before + 0.1
    assert len(history.series("recall_at_10")) == 2


def test_a_run_is_decided_by_its_seed() -> None:
    def trained(seed: int) -> TextEncoder:
        student = tiny_encoder(seed=1)
        settings = replace(SETTINGS, steps=4, seed=seed)
        run = distil.build(DATA, distil.targets(tiny_encoder(), DATA), student, settings)
        fit(run, accelerator="cpu", progress=False)
        return student

    one, other, third = trained(0), trained(0), trained(1)
    assert np.array_equal(embed(one, FIRST), embed(other, FIRST))
    assert not np.array_equal(embed(one, FIRST), embed(third, FIRST))


def test_targets_are_the_teachers_embeddings_in_the_order_of_the_pairs() -> None:
    teacher = tiny_encoder()
    goals = distil.targets(teacher, DATA)
    np.testing.assert_array_equal(goals.first, embed(teacher, FIRST))
    np.testing.assert_array_equal(goals.second, embed(teacher, SECOND))
