"""The linear parts of a student are fitted to its teacher, and learn alone."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from attar.training.data.text import TextPairs
from attar.training.distillation import wide_start
from attar.training.encoders.text import TextEncoder
from attar.training.loop import fit
from attar.training.objectives.matryoshka import matryoshka
from attar.training.probes.text_retrieval import embed
from attar.training.recipes.text import distil
from attar.training.student_init import student_from_teacher
from benchmarks.support.encoders import random_rows, tiny_encoder, tiny_shape

FIRST, SECOND = random_rows(96, seed=1), random_rows(96, seed=2)
PAIRS = TextPairs(first=FIRST, second=SECOND)
SETTINGS = distil.Settings(contrast=1.0)
TEACHER = tiny_shape(depth=3)


def teacher(*, normalized: bool = True) -> TextEncoder:
    return tiny_encoder(replace(TEACHER, normalized=normalized))


def student(large: TextEncoder, *layers: int) -> TextEncoder:
    shape = replace(large.shape, transformer=replace(TEACHER.transformer, depth=len(layers)))
    return wide_start.widened(student_from_teacher(large, shape, layers=layers, sample=FIRST))


def goals(large: TextEncoder) -> distil.Targets:
    return distil.Targets(first=embed(large, FIRST), second=embed(large, SECOND))


def cosine(small: TextEncoder, large: TextEncoder) -> float:
    rows = random_rows(40, seed=3)  # which nothing was fitted on
    return float((embed(small, rows) * embed(large, rows)).sum(axis=1).mean())


def test_linear_parts_change_nothing_before_they_learn() -> None:
    large = teacher()
    np.testing.assert_allclose(
        embed(student(large, 0, 1, 2), FIRST), embed(large, FIRST), atol=1e-6
    )


def test_where_the_layers_are_the_teachers_the_fit_leaves_the_map_as_it_is() -> None:
    large = teacher(normalized=False)
    small = student(large, 0, 1, 2)
    wide_start.fit_linear(small, wide_start.StatePairs.of(small, PAIRS), goals(large))
    np.testing.assert_allclose(embed(small, SECOND), embed(large, SECOND), atol=1e-5)


def test_the_fit_is_nearer_than_any_multiple_of_the_states() -> None:
    large = teacher()
    small = student(large, 0)
    states, wanted = wide_start.StatePairs.of(small, PAIRS), goals(large)
    wide_start.fit_linear(small, states, wanted)
    small.normalized = False
    aim = np.concatenate([wanted.first, wanted.second])
    left = np.concatenate([embed(small, FIRST), embed(small, SECOND)]) - aim
    np.testing.assert_allclose(left.mean(axis=0), 0, atol=1e-5)  # as of every fit with a bias
    given = torch.cat([states.first, states.second]).numpy()
    given, aim = given - given.mean(axis=0), aim - aim.mean(axis=0)
    nearest = (given * aim).sum() / (given * given).sum() * given
    assert (left**2).sum() < ((nearest - aim) ** 2).sum()


@pytest.mark.parametrize("layers", [(0,), (0, 2)])
def test_a_student_is_nearer_its_teacher_on_other_texts(layers: tuple[int, ...]) -> None:
    large = teacher()
    small = student(large, *layers)
    before = cosine(small, large)
    wide_start.learn(small, PAIRS, goals(large), SETTINGS)
    assert cosine(small, large) > before


def test_the_linear_parts_learn_the_pairs_and_the_layers_stay() -> None:
    large = teacher()
    small = student(large, 0)
    states = wide_start.StatePairs.of(small, PAIRS)
    wide_start.fit_linear(small, states, goals(large))
    before = {name: weight.clone() for name, weight in small.state_dict().items()}
    fitted = infonce(small)
    fit(wide_start.contrast(small, states, goals(large), SETTINGS), progress=False)
    changed = {n for n, weight in small.state_dict().items() if not torch.equal(before[n], weight)}
    assert changed == {"project.weight", "project.bias", "wide.table.weight", "wide.expand.weight"}
    assert infonce(small) < fitted


def infonce(small: TextEncoder) -> float:
    queries, passages = (torch.from_numpy(embed(small, part)) for part in (FIRST, SECOND))
    return float(matryoshka(queries, passages))


def test_of_a_large_corpus_some_pairs_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, of = [], wide_start.StatePairs.of

    def counted(small: TextEncoder, pairs: TextPairs) -> wide_start.StatePairs:
        counts.append(len(pairs))
        return of(small, pairs)

    monkeypatch.setattr(wide_start.StatePairs, "of", counted)
    monkeypatch.setattr(wide_start, "MOST_PAIRS", 40)
    large = teacher()
    wide_start.learn(student(large, 0), PAIRS, goals(large), SETTINGS)
    assert counts == [40]
