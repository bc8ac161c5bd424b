"""Every objective agrees with a plain transcription of its formula, and keeps its laws.

The oracles are loops over float64 numbers, written from the formulas and sharing no code with the
objectives; their gradients are finite differences, so nothing here trusts autograd either.
"""

import importlib
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError, install_import_hook
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import ShapeError
from attar.training.objectives.barlow_twins import barlow_twins
from attar.training.objectives.distillation import embedding_match, similarity_match
from attar.training.objectives.nt_xent import nt_xent

Array = NDArray[np.float64]
Rows = list[list[float]]


def dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a: list[float], b: list[float]) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def standard_columns(z: Rows) -> Rows:
    """Give z's columns, each with mean 0 and variance 1 but for batch norm's 1e-5."""
    columns = [[row[j] for row in z] for j in range(len(z[0]))]
    out = []
    for column in columns:
        mean = sum(column) / len(column)
        variance = sum((x - mean) ** 2 for x in column) / len(column)
        out.append([(x - mean) / math.sqrt(variance + 1e-5) for x in column])
    return out


def barlow_twins_oracle(z1: Rows, z2: Rows) -> float:
    total = 0.0
    for i, a in enumerate(standard_columns(z1)):
        for j, b in enumerate(standard_columns(z2)):
            c = dot(a, b) / len(a)
            total += (1 - c) ** 2 if i == j else 5e-3 * c**2
    return total


def nt_xent_oracle(z1: Rows, z2: Rows) -> float:
    n, z = len(z1), z1 + z2
    total = 0.0
    for i in range(2 * n):
        partner = i + n if i < n else i - n
        others = sum(math.exp(cosine(z[i], z[k]) / 0.1) for k in range(2 * n) if k != i)
        total -= math.log(math.exp(cosine(z[i], z[partner]) / 0.1) / others)
    return total / (2 * n)


def embedding_match_oracle(student: Rows, teacher: Rows) -> float:
    """Half the squared distance between normalised rows, the paper's form of the same number."""
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        s_length, t_length = math.sqrt(dot(s, s)), math.sqrt(dot(t, t))
        total += sum((a / s_length - b / t_length) ** 2 for a, b in zip(s, t, strict=True)) / 2
    return total / len(student)


def similarity_match_oracle(student: Rows, teacher: Rows) -> float:
    n, total = len(student), 0.0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        p = [math.exp(cosine(teacher[i], teacher[j]) / 0.05) for j in others]
        q = [math.exp(cosine(student[i], student[j]) / 0.05) for j in others]
        for pj, qj in zip(p, q, strict=True):
            total += pj / sum(p) * math.log(pj / sum(p) / (qj / sum(q)))
    return total / n


@dataclass(frozen=True, slots=True)
class Case:
    """An objective as the contracts below see it; adding one is adding a line to the table."""

    objective: Callable[[Tensor, Tensor], Tensor]
    oracle: Callable[[Rows, Rows], float]
    fewest: int  # rows it takes
    symmetric: bool = True
    scale_free: bool = True  # each row's length carries nothing
    one_width: bool = True


CASES = {
    "barlow_twins": Case(barlow_twins, barlow_twins_oracle, fewest=2, scale_free=False),
    "nt_xent": Case(nt_xent, nt_xent_oracle, fewest=2),
    "embedding_match": Case(embedding_match, embedding_match_oracle, fewest=1),
    "similarity_match": Case(
        similarity_match, similarity_match_oracle, fewest=3, symmetric=False, one_width=False
    ),
}
SHAPES = [(3, 1), (4, 3), (5, 8), (16, 4)]

every_objective = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
every_shape = pytest.mark.parametrize("shape", SHAPES, ids=str)


def pair(shape: tuple[int, int], *, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Two related float64 views, as two passes through an encoder are."""
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(2, *shape, dtype=torch.float64, generator=generator)
    return a, a + 0.7 * b


def rotation(width: int) -> Tensor:
    q: Tensor = torch.linalg.qr(
        torch.randn(width, width, dtype=torch.float64, generator=torch.Generator().manual_seed(9))
    ).Q
    return q


def slopes(function: Callable[[Rows, Rows], float], a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Central differences of `function` in each number of `a` and `b`."""
    step, grads = 1e-5, (torch.zeros_like(a), torch.zeros_like(b))
    for side, grad in enumerate(grads):
        for at in np.ndindex(*grad.shape):
            ends = []
            for sign in (1, -1):
                moved = [a.clone(), b.clone()]
                moved[side][at] += sign * step
                ends.append(function(moved[0].tolist(), moved[1].tolist()))
            grad[at] = (ends[0] - ends[1]) / (2 * step)
    return grads


@every_shape
@every_objective
def test_the_value_is_the_formulas(case: Case, shape: tuple[int, int]) -> None:
    a, b = pair(shape)
    expected = case.oracle(a.tolist(), b.tolist())
    assert case.objective(a, b).item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert case.objective(a.float(), b.float()).item() == pytest.approx(expected, rel=2e-4)


@pytest.mark.parametrize("shape", [(4, 3), (5, 8)], ids=str)
@every_objective
def test_the_gradient_is_the_formulas(case: Case, shape: tuple[int, int]) -> None:
    a, b = (z.requires_grad_() for z in pair(shape))
    gradients = torch.autograd.grad(case.objective(a, b), (a, b))
    expected = slopes(case.oracle, a.detach(), b.detach())
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-7)


@every_objective
def test_the_value_is_a_finite_float32_scalar_under_autocast(case: Case) -> None:
    a, b = (z.to(torch.bfloat16).requires_grad_() for z in pair((8, 4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = case.objective(a, b)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (a, b)))
    assert (loss.dtype, loss.shape) == (torch.float32, ())
    exact = case.objective(a.detach().double(), b.detach().double()).item()
    assert loss.item() == pytest.approx(exact, rel=1e-4)


@every_objective
def test_the_order_of_the_items_does_not_matter(case: Case) -> None:
    a, b = pair((9, 4))
    order = torch.randperm(9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(case.objective(a[order], b[order]), case.objective(a, b))


@every_objective
def test_swapping_the_sides_keeps_the_value_where_the_method_is_symmetric(case: Case) -> None:
    a, b = pair((9, 4))
    assert torch.isclose(case.objective(a, b), case.objective(b, a)) == case.symmetric


@every_objective
def test_the_lengths_of_the_rows_do_not_matter_where_the_method_normalises(case: Case) -> None:
    a, b = pair((9, 4))
    lengths = torch.linspace(0.1, 10, 9, dtype=torch.float64)[:, None]
    assert torch.isclose(case.objective(a * lengths, b), case.objective(a, b)) == case.scale_free


@every_objective
def test_no_value_is_negative(case: Case) -> None:
    for seed in range(20):
        assert case.objective(*pair((6, 3), seed=seed)) >= 0


@every_objective
def test_a_rotation_common_to_both_sides_matters_to_barlow_twins_only(case: Case) -> None:
    a, b = pair((9, 4))
    turned = case.objective(a @ rotation(4), b @ rotation(4))
    assert torch.isclose(turned, case.objective(a, b)) == (case.objective is not barlow_twins)


@every_objective
def test_shapes_that_do_not_match_are_named(case: Case) -> None:
    a, b = pair((6, 4))
    with pytest.raises(ShapeError, match=r"must share .* got \(6, 4\) and \(5, 4\): pass one row"):
        case.objective(a, b[:5])
    with pytest.raises(ShapeError, match=r"got \(6, 4\) and \(4,\)"):
        case.objective(a, b[0])
    if case.one_width:
        with pytest.raises(ShapeError, match=r"got \(6, 4\) and \(6, 3\)"):
            case.objective(a, b[:, :3])


@every_objective
def test_too_few_rows_are_refused(case: Case) -> None:
    few = torch.ones(case.fewest - 1, 3)
    with pytest.raises(ShapeError, match=f"n >= {case.fewest}; got"):
        case.objective(few, few)


def test_barlow_twins_is_zero_exactly_where_the_correlation_is_the_identity() -> None:
    hadamard = torch.tensor([[1.0]], dtype=torch.float64)
    for _ in range(3):
        hadamard = torch.cat(
            [torch.cat([hadamard, hadamard], 1), torch.cat([hadamard, -hadamard], 1)]
        )
    z = hadamard[:, 1:5]  # centred, orthogonal columns of variance 1
    assert barlow_twins(z, z) < 1e-8
    assert barlow_twins(z, -z).item() == pytest.approx(4 * 2**2, rel=1e-4)  # C = -I
    assert barlow_twins(z, z.roll(1, dims=1)).item() == pytest.approx(4 + 4 * 5e-3, rel=1e-4)


def test_barlow_twins_ignores_each_dimensions_offset_and_scale() -> None:
    a, b = pair((32, 6))
    scale = torch.tensor([0.5, 1.0, 2.0, 3.0, 5.0, 8.0], dtype=torch.float64)
    offset = torch.tensor([-3.0, -1.0, 0.0, 1.0, 2.0, 40.0], dtype=torch.float64)
    torch.testing.assert_close(  # but for batch norm's 1e-5
        barlow_twins(a * scale + offset, b), barlow_twins(a, b), rtol=1e-4, atol=1e-6
    )


def test_barlow_twins_charges_one_for_a_dead_dimension_and_stays_finite() -> None:
    a, b = pair((8, 3))
    dead = torch.tensor([1.0, 1.0, 0.0], dtype=torch.float64)
    alive = barlow_twins(a[:, :2], b[:, :2])
    torch.testing.assert_close(barlow_twins(a * dead, b * dead), alive + 1)


def test_nt_xent_is_the_guess_among_all_others_when_every_row_is_the_same() -> None:
    z = torch.ones(7, 3)
    assert nt_xent(z, z).item() == pytest.approx(math.log(13))


def test_nt_xent_prefers_partners_to_strangers() -> None:
    z = torch.eye(6)
    assert nt_xent(z, z) < 0.01 < nt_xent(z, z.roll(1, dims=0))


@pytest.mark.parametrize("objective", [embedding_match, similarity_match])
def test_distillation_is_zero_with_no_pull_at_equality(
    objective: Callable[[Tensor, Tensor], Tensor],
) -> None:
    teacher, _ = pair((9, 4))
    student = (3 * teacher).requires_grad_()
    loss = objective(student, teacher)
    (pull,) = torch.autograd.grad(loss, student)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert pull.abs().max() < 1e-12


def test_embedding_match_is_two_for_opposites() -> None:
    z, _ = pair((5, 3))
    assert embedding_match(z, -z).item() == pytest.approx(2)


def test_similarity_match_ignores_a_rotation_of_one_side_and_its_width() -> None:
    student, teacher = pair((9, 4))
    turned = similarity_match(student @ rotation(4), teacher)
    padded = similarity_match(torch.cat([student, torch.zeros(9, 3)], dim=1), teacher)
    torch.testing.assert_close(turned, similarity_match(student, teacher))
    torch.testing.assert_close(padded, similarity_match(student, teacher))


@pytest.fixture
def checked_modules() -> Iterator[list[str]]:
    """The objectives' modules, imported afresh with their annotations enforced."""
    names = sorted({case.objective.__module__ for case in CASES.values()})
    kept = {name: sys.modules.pop(name) for name in names}
    with install_import_hook("attar.training.objectives", "beartype.beartype"):
        for name in names:
            importlib.import_module(name)
    yield names
    sys.modules.update(kept)


def test_the_annotated_shapes_are_true(checked_modules: list[str]) -> None:
    a, b = pair((6, 4))
    for name, case in CASES.items():
        (module,) = (m for m in checked_modules if m == case.objective.__module__)
        checked = getattr(sys.modules[module], name)
        assert checked(a, b).item() == pytest.approx(case.objective(a, b).item())
        with pytest.raises(TypeCheckError):
            checked(a, b[:5])
