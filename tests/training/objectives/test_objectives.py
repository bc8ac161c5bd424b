"""Every objective agrees with a plain transcription of its formula, and keeps its laws.

The oracles are loops over float64 numbers, written from the formulas and sharing no code with the
objectives; their gradients are finite differences, so nothing here trusts autograd either.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError
from numpy.typing import NDArray
from torch import Tensor

from attar.errors import InvalidInput, ShapeError
from attar.training.objectives.alignment import cosine_alignment, squared_alignment
from attar.training.objectives.barlow_twins import barlow_twins
from attar.training.objectives.clip import clip
from attar.training.objectives.dino import dino, moved_centre
from attar.training.objectives.distillation import embedding_match, similarity_match
from attar.training.objectives.ibot import ibot
from attar.training.objectives.info_nce import info_nce, mix_hard
from attar.training.objectives.masked import masked_tokens, masked_values
from attar.training.objectives.matryoshka import matryoshka
from attar.training.objectives.mixed_barlow_twins import mixed_redundancy
from attar.training.objectives.nt_xent import nt_xent
from attar.training.objectives.sie import sie
from attar.training.objectives.slotcon import slotcon
from attar.training.objectives.soft_labels import jensen_shannon, soft_labels
from attar.training.objectives.swav import codes, swav
from attar.training.objectives.token_detection import token_detection
from attar.training.objectives.vicreg import vicreg

from ...support.checked import checked

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


def info_nce_oracle(queries: Rows, keys: Rows) -> float:
    total = 0.0
    for i, query in enumerate(queries):
        weights = [math.exp(cosine(query, key) / 0.2) for key in keys]
        total -= math.log(weights[i] / sum(weights))
    return total / len(queries)


def matryoshka_oracle(queries: Rows, passages: Rows) -> float:
    """Both directions at the full width, without hard negatives."""
    return matryoshka_numpy(np.array(queries), np.array(passages), None, [len(queries[0])])


def matryoshka_numpy(
    queries: Array, passages: Array, negatives: Array | None, widths: Sequence[int]
) -> float:
    """Count for each width and direction what the softmax gives to the partner of a row."""
    total, n = 0.0, len(queries)
    for width in widths:
        q, p = queries[:, :width].tolist(), passages[:, :width].tolist()
        hard = [] if negatives is None else negatives[..., :width].reshape(-1, width).tolist()
        for rows, candidates in ((q, p + hard), (p, q)):
            for i, row in enumerate(rows):
                weights = [math.exp(cosine(row, each) / 0.05) for each in candidates]
                total -= math.log(weights[i] / sum(weights)) / n / 2
    return total / len(widths)


def vicreg_oracle(z1: Rows, z2: Rows) -> float:
    n, d = len(z1), len(z1[0])
    apart = sum(
        (x - y) ** 2 for a, b in zip(z1, z2, strict=True) for x, y in zip(a, b, strict=True)
    )
    total = 25 * apart / (n * d)
    for z in (z1, z2):
        means = [sum(row[j] for row in z) / n for j in range(d)]
        for i in range(d):
            for j in range(d):
                products = [(row[i] - means[i]) * (row[j] - means[j]) for row in z]
                covariance = sum(products) / (n - 1)
                if i == j:
                    total += 25 * max(0.0, 1 - math.sqrt(covariance + 1e-4)) / d / 2
                else:
                    total += covariance**2 / d
    return total


def cosine_alignment_oracle(prediction: Rows, target: Rows) -> float:
    pairs = list(zip(prediction, target, strict=True))
    return sum(2 - 2 * cosine(p, t) for p, t in pairs) / len(pairs)


def squared_alignment_oracle(prediction: Rows, target: Rows) -> float:
    apart = [
        (x - y) ** 2
        for p, t in zip(prediction, target, strict=True)
        for x, y in zip(p, t, strict=True)
    ]
    return sum(apart) / len(apart)


def softmax(logits: list[float]) -> list[float]:
    weights = [math.exp(x) for x in logits]
    return [weight / sum(weights) for weight in weights]


def soft_labels_oracle(student: Rows, teacher: Rows) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        total -= sum(p * math.log(q) for p, q in zip(softmax(t), softmax(s), strict=True))
    return total / len(student)


def jensen_shannon_oracle(student: Rows, teacher: Rows) -> float:
    total = 0.0
    for s, t in zip(student, teacher, strict=True):
        for p, q in zip(softmax(t), softmax(s), strict=True):
            middle = (p + q) / 2
            total += (p * math.log(p / middle) + q * math.log(q / middle)) / 2
    return total / len(student)


@dataclass(frozen=True, slots=True)
class Case:
    """An objective as the contracts below see it; adding one is adding a line to the table."""

    objective: Callable[[Tensor, Tensor], Tensor]
    oracle: Callable[[Rows, Rows], float]
    fewest: int  # rows it takes
    symmetric: bool = True
    scale_free: bool = True  # each row's length carries nothing
    rotation_free: bool = True  # only the angles between rows, and their lengths, count
    one_width: bool = True
    pulls_both: bool = True  # or the first alone: the other is a teacher


CASES = {
    "barlow_twins": Case(
        barlow_twins, barlow_twins_oracle, fewest=2, scale_free=False, rotation_free=False
    ),
    "vicreg": Case(vicreg, vicreg_oracle, fewest=2, scale_free=False, rotation_free=False),
    "info_nce": Case(info_nce, info_nce_oracle, fewest=2, symmetric=False),
    "matryoshka": Case(matryoshka, matryoshka_oracle, fewest=2),
    "cosine_alignment": Case(cosine_alignment, cosine_alignment_oracle, fewest=1),
    "squared_alignment": Case(
        squared_alignment, squared_alignment_oracle, fewest=1, scale_free=False
    ),
    "soft_labels": Case(
        soft_labels,
        soft_labels_oracle,
        fewest=1,
        symmetric=False,
        scale_free=False,
        rotation_free=False,
        pulls_both=False,
    ),
    "jensen_shannon": Case(
        jensen_shannon,
        jensen_shannon_oracle,
        fewest=1,
        scale_free=False,
        rotation_free=False,
        pulls_both=False,
    ),
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
    pulled = (a, b) if case.pulls_both else (a,)
    gradients = torch.autograd.grad(case.objective(a, b), pulled)
    expected = slopes(case.oracle, a.detach(), b.detach())[: len(pulled)]
    torch.testing.assert_close(gradients, expected, rtol=1e-5, atol=1e-7)


@every_objective
def test_a_teacher_is_never_pulled(case: Case) -> None:
    a, b = (z.requires_grad_() for z in pair((6, 4)))
    _, pull = torch.autograd.grad(case.objective(a, b), (a, b), allow_unused=True)
    assert (pull is not None) == case.pulls_both


@every_objective
def test_the_value_is_a_finite_float32_scalar_under_autocast(case: Case) -> None:
    a, b = (z.to(torch.bfloat16).requires_grad_() for z in pair((8, 4)))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = case.objective(a, b)
    pulled = (a, b) if case.pulls_both else (a,)
    assert all(g.isfinite().all() for g in torch.autograd.grad(loss, pulled))
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
def test_a_rotation_common_to_both_sides_matters_where_dimensions_do(case: Case) -> None:
    a, b = pair((9, 4))
    turned = case.objective(a @ rotation(4), b @ rotation(4))
    assert torch.isclose(turned, case.objective(a, b)) == case.rotation_free


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


# ------------------------------------------------------------------------------ laws of one each


def test_vicreg_charges_a_collapse_for_its_lost_variance_alone() -> None:
    z = torch.full((8, 4), 3.0, dtype=torch.float64)
    assert vicreg(z, z).item() == pytest.approx(25 * (1 - 0.01))


def test_vicreg_is_zero_where_views_agree_and_dimensions_are_wide_and_independent() -> None:
    hadamard = torch.tensor([[1.0, 1], [1, -1]], dtype=torch.float64)
    z = 2 * torch.kron(hadamard, hadamard)[:, 1:]
    assert vicreg(z, z).item() == pytest.approx(0, abs=1e-12)


def test_cosine_alignment_is_the_squared_distance_of_directions() -> None:
    a, b = pair((6, 4))
    apart = torch.nn.functional.normalize(a) - torch.nn.functional.normalize(b)
    torch.testing.assert_close(cosine_alignment(a, b), apart.square().sum(dim=1).mean())


def test_info_nce_with_the_batch_as_its_queue_is_info_nce_of_the_batch() -> None:
    a, b = pair((6, 4))
    others = torch.stack([torch.cat([b[:i], b[i + 1 :]]) for i in range(6)])
    torch.testing.assert_close(info_nce(a, b, others), info_nce(a, b))
    with pytest.raises(ShapeError, match=r"negatives must be \(m, 4\) or \(6, m, 4\)"):
        info_nce(a, b, others[:5])


def test_info_nce_of_a_queue_is_the_formulas() -> None:
    (a, b), (queue, _) = pair((5, 3)), pair((7, 3), seed=4)
    total = 0.0
    for query, key in zip(a.tolist(), b.tolist(), strict=True):
        own = math.exp(cosine(query, key) / 0.2)
        rest = sum(math.exp(cosine(query, other) / 0.2) for other in queue.tolist())
        total -= math.log(own / (own + rest))
    assert info_nce(a, b, queue).item() == pytest.approx(total / 5)


def test_matryoshka_of_widths_and_hard_negatives_is_the_formulas() -> None:
    (queries, passages), (negatives, _) = pair((5, 6)), pair((10, 6), seed=3)
    tensors = [queries, passages, negatives.reshape(5, 2, 6)]
    pulled = [tensor.clone().requires_grad_() for tensor in tensors]
    loss = matryoshka(*pulled, widths=(6, 3, 1))

    def oracle(arrays: Sequence[Array]) -> float:
        return matryoshka_numpy(arrays[0], arrays[1], arrays[2], (6, 3, 1))

    arrays = [tensor.numpy() for tensor in tensors]
    assert loss.item() == pytest.approx(oracle(arrays), rel=1e-9)
    for side, gradient in enumerate(torch.autograd.grad(loss, pulled)):
        expected = np.zeros_like(arrays[side])
        for at in np.ndindex(*expected.shape):
            ends = []
            for sign in (1, -1):
                moved = [array.copy() for array in arrays]
                moved[side][at] += sign * 1e-5
                ends.append(oracle(moved))
            expected[at] = (ends[0] - ends[1]) / 2e-5
        torch.testing.assert_close(gradient, torch.from_numpy(expected), rtol=1e-5, atol=1e-7)


def test_matryoshka_is_the_mean_of_its_widths_and_sees_nothing_beyond_the_widest() -> None:
    a, b = pair((6, 8))
    alone = [matryoshka(a[:, :width], b[:, :width]) for width in (4, 2)]
    torch.testing.assert_close(matryoshka(a, b, widths=(4, 2)), torch.stack(alone).mean())
    beyond = torch.cat([a[:, :4], 9 * a[:, 4:].flip(0)], dim=1)
    torch.testing.assert_close(matryoshka(beyond, b, widths=(4, 2)), torch.stack(alone).mean())
    both = (info_nce(a, b, temperature=0.05) + info_nce(b, a, temperature=0.05)) / 2
    torch.testing.assert_close(matryoshka(a, b), both)


def test_a_hard_negative_never_makes_matryoshka_easier() -> None:
    (a, b), (negatives, _) = pair((6, 4)), pair((6, 4), seed=3)
    assert matryoshka(a, b, negatives[:, None]) > matryoshka(a, b)
    torch.testing.assert_close(matryoshka(a, b, negatives[:, None][:, :0]), matryoshka(a, b))


def test_matryoshka_refuses_widths_that_are_not_of_the_embedding() -> None:
    a, b = pair((6, 4))
    for widths in ((), (5,), (4, 0)):
        with pytest.raises(InvalidInput, match=r"widths must be in \[1, 4\]"):
            matryoshka(a, b, widths=widths)
    for negatives in (a, a[:5, None], a[:, None, :3]):
        with pytest.raises(ShapeError, match=r"negatives must be \(6, h, 4\); got"):
            matryoshka(a, b, negatives)


def test_mixed_negatives_lie_between_the_hardest_and_carry_no_gradient() -> None:
    (queries, _), (queue, _) = pair((5, 6)), pair((40, 6), seed=2)
    queries.requires_grad_()
    made = mix_hard(
        queries, queue, hardest=4, mixed=9, harder=7, generator=torch.Generator().manual_seed(0)
    )
    assert made.shape == (5, 16, 6)
    assert not made.requires_grad
    torch.testing.assert_close(made.norm(dim=-1), torch.ones(5, 16, dtype=torch.float64))
    unit = torch.nn.functional.normalize(queue, dim=1)
    q = torch.nn.functional.normalize(queries.detach(), dim=1)
    for i in range(5):
        nearest = unit[(unit @ q[i]).topk(4).indices]
        # In the cone of the hardest four, with the query among its edges for the harder ones.
        for edges, points in ((nearest, made[i, :9]), (torch.cat([nearest, q[i][None]]), made[i])):
            weights = torch.linalg.lstsq(edges.T, points.T).solution
            torch.testing.assert_close(edges.T @ weights, points.T)
        assert (made[i] @ q[i] > (nearest @ q[i]).min() - 1e-12).all()  # none is easier than those


@pytest.mark.parametrize(("rows", "prototypes"), [(12, 4), (30, 7), (6, 6)])
def test_swavs_codes_are_sinkhorns_fixed_point(rows: int, prototypes: int) -> None:
    scores, _ = pair((rows, prototypes))
    q = codes(scores / 4, iterations=500)
    torch.testing.assert_close(q.sum(dim=1), torch.ones(rows, dtype=torch.float64))
    even = torch.full((prototypes,), rows / prototypes, dtype=torch.float64)
    torch.testing.assert_close(q.sum(dim=0), even, rtol=1e-3, atol=1e-3)
    # exp(scores / ε) up to one factor a row and one a column: every 2 x 2 minor's ratio is its own.
    log_ratio = q.log() - scores / 4 / 0.05
    mixed = log_ratio[1:, 1:] - log_ratio[:1, 1:] - log_ratio[1:, :1] + log_ratio[:1, :1]
    torch.testing.assert_close(mixed, torch.zeros_like(mixed), rtol=0, atol=1e-8)


def test_swav_is_the_cross_entropy_of_the_other_views_codes_and_pulls_no_code() -> None:
    a, b = (z.requires_grad_() for z in pair((8, 5)))
    q1, q2 = (codes(z.detach()).tolist() for z in (a, b))

    def oracle(first: Rows, second: Rows) -> float:
        total = 0.0
        for codes_, scores in ((q2, first), (q1, second)):
            for q, row in zip(codes_, scores, strict=True):
                p = softmax([x / 0.1 for x in row])
                total -= sum(x * math.log(y) for x, y in zip(q, p, strict=True)) / 2
        return total / len(first)

    loss = swav(a, b)
    assert loss.item() == pytest.approx(oracle(a.tolist(), b.tolist()))
    expected = slopes(oracle, a.detach(), b.detach())
    torch.testing.assert_close(torch.autograd.grad(loss, (a, b)), expected, rtol=1e-5, atol=1e-7)


def test_dino_is_the_formulas_and_its_centre_moves_by_the_mean() -> None:
    student, teacher = pair((6, 5))
    student.requires_grad_()
    centre = torch.linspace(-1, 1, 5, dtype=torch.float64)

    def oracle(first: Rows, second: Rows) -> float:
        total = 0.0
        for s, t in zip(first, second, strict=True):
            p = softmax([(x - c) / 0.04 for x, c in zip(t, centre.tolist(), strict=True)])
            q = softmax([x / 0.1 for x in s])
            total -= sum(x * math.log(y) for x, y in zip(p, q, strict=True) if x)
        return total / len(first)

    loss = dino(student, teacher, centre)
    assert loss.item() == pytest.approx(oracle(student.tolist(), teacher.tolist()))
    (pull,) = torch.autograd.grad(loss, student)
    expected, _ = slopes(oracle, student.detach(), teacher)
    torch.testing.assert_close(pull, expected, rtol=1e-5, atol=1e-7)
    moved = moved_centre(centre, teacher, momentum=0.75)
    torch.testing.assert_close(moved, 0.75 * centre + 0.25 * teacher.mean(dim=0))


def test_ibot_is_the_formulas_and_an_image_without_a_masked_patch_costs_nothing() -> None:
    student, teacher = (z.reshape(3, 4, 5) for z in pair((12, 5)))
    hidden = torch.tensor([[True, False, True, True], [False] * 4, [False, True, False, False]])
    centre = torch.linspace(-1, 1, 5, dtype=torch.float64)

    def oracle(first: Rows, second: Rows) -> float:
        images: dict[int, list[float]] = {0: [], 2: []}
        for row, (image, patch) in enumerate(np.ndindex(3, 4)):
            if hidden[image, patch]:
                t = zip(second[row], centre.tolist(), strict=True)
                p, q = (
                    softmax([(x - c) / 0.04 for x, c in t]),
                    softmax([x / 0.1 for x in first[row]]),
                )
                cost = -sum(x * math.log(y) for x, y in zip(p, q, strict=True) if x)
                images[image].append(cost)
        return sum(sum(costs) / len(costs) for costs in images.values()) / 3

    rows = student.flatten(0, 1).requires_grad_()
    loss = ibot(rows.view(3, 4, 5), teacher, centre, hidden)
    assert loss.item() == pytest.approx(oracle(rows.tolist(), teacher.flatten(0, 1).tolist()))
    (pull,) = torch.autograd.grad(loss, rows)
    expected, _ = slopes(oracle, rows.detach(), teacher.flatten(0, 1))
    torch.testing.assert_close(pull, expected, rtol=1e-5, atol=1e-7)
    assert (pull != 0).any(dim=1).equal(hidden.flatten())


def test_ibot_of_images_of_one_masked_patch_is_dino_in_any_order_of_the_patches() -> None:
    student, teacher = pair((6, 5))
    centre = torch.linspace(-1, 1, 5, dtype=torch.float64)
    one = torch.ones(6, 1, dtype=torch.bool)
    loss = ibot(student[:, None], teacher[:, None], centre, one)
    torch.testing.assert_close(loss, dino(student, teacher, centre))
    a, b = (z.view(2, 3, 5).flip(1) for z in (student, teacher))
    torch.testing.assert_close(ibot(a, b, centre, one.view(2, 3)), loss)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = ibot(a.bfloat16(), b.bfloat16(), centre.float(), one.view(2, 3))
    assert half.dtype == torch.float32
    with pytest.raises(ShapeError, match=r"hidden be \(n, p\); got \(2, 3, 5\)"):
        ibot(student.view(2, 3, 5), teacher.view(2, 3, 5), centre, one)
    with pytest.raises(ShapeError, match=r"an image, a patch and an output; got \(0, 3, 5\)"):
        ibot(student.view(2, 3, 5)[:0], teacher.view(2, 3, 5)[:0], centre, one.view(2, 3)[:0])


def test_sie_is_the_formulas_in_value_and_gradient() -> None:
    a, b = pair((5, 4))
    (predicted, _) = pair((5, 2), seed=4)

    def spread(rows: Rows) -> tuple[float, float]:
        """Give the mean lack of deviation, and the squared covariances over the width."""
        n, d = len(rows), len(rows[0])
        means = [sum(row[j] for row in rows) / n for j in range(d)]
        lack = squares = 0.0
        for i in range(d):
            for j in range(d):
                covariance = sum((r[i] - means[i]) * (r[j] - means[j]) for r in rows) / (n - 1)
                if i == j:
                    lack += max(0.0, 1 - math.sqrt(covariance + 1e-4)) / d
                else:
                    squares += covariance**2 / d
        return lack, squares

    def oracle(first: Rows, both: Rows) -> float:
        second, p = [row[:4] for row in both], [row[4:] for row in both]
        invariant = [row[:2] for row in first], [row[:2] for row in second]
        total = 10 * squared_alignment_oracle(*invariant) + 5 * spread(p)[0]
        total += 4.5 * squared_alignment_oracle(p, [row[2:] for row in second])
        for lack, squares in map(spread, (first, second)):
            total += 5 * lack + squares
        return total

    both = torch.cat([b, predicted], 1).requires_grad_()
    a.requires_grad_()
    loss = sie(a, both[:, :4], both[:, 4:])
    assert loss.item() == pytest.approx(oracle(a.tolist(), both.tolist()))
    expected = slopes(oracle, a.detach(), both.detach())
    torch.testing.assert_close(torch.autograd.grad(loss, (a, both)), expected, rtol=1e-5, atol=1e-7)


def test_sie_of_a_perfect_prediction_is_vicreg_with_half_of_the_agreement() -> None:
    a, b = pair((8, 4))
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    weights = {"variance": 0.0, "covariance": 1.0}
    whole = sie(a, b, b[:, 2:], invariance=10.0, **weights)
    same = torch.cat([b[:, :2], a[:, 2:]], 1)  # views that differ in the invariant part alone
    alone = vicreg(a, same, invariance=20.0, **weights) - vicreg(a, same, invariance=0, **weights)
    covariances = vicreg(a, b, invariance=0, **weights)
    torch.testing.assert_close(whole, alone + covariances)
    torch.testing.assert_close(sie(a[order], b[order], b[order, 2:]), sie(a, b, b[:, 2:]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert sie(a.bfloat16(), b.bfloat16(), b[:, 2:].bfloat16()).dtype == torch.float32
    for wrong in (b, b[:, :0], b[:5, 2:], b[0]):
        with pytest.raises(ShapeError, match=r"predicted must be \(8, e\) with 0 < e < 4; got"):
            sie(a, b, wrong)


def slot_case() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Slots of three images with two each, and those that are in either view."""
    queries, keys = (z.reshape(3, 2, 4) for z in pair((6, 4)))
    in_queries = torch.tensor([[True, True], [False, True], [True, False]])
    in_keys = torch.tensor([[True, False], [True, True], [True, True]])
    return queries, keys, in_queries, in_keys


def test_slotcon_is_the_formulas_over_slots_that_both_views_have() -> None:
    queries, keys, in_queries, in_keys = slot_case()

    def oracle(first: Rows, second: Rows) -> float:
        others = [row for row, there in zip(second, in_keys.flatten(), strict=True) if there]
        total, count = 0.0, 0
        for i in range(6):
            if in_queries.flatten()[i] and in_keys.flatten()[i]:
                weights = sum(math.exp(cosine(first[i], other) / 0.3) for other in others)
                total -= math.log(math.exp(cosine(first[i], second[i]) / 0.3) / weights)
                count += 1
        return 2 * 0.3 * total / count

    rows, others = queries.flatten(0, 1).requires_grad_(), keys.flatten(0, 1)
    loss = slotcon(rows.view(3, 2, 4), keys, in_queries, in_keys, temperature=0.3)
    assert loss.item() == pytest.approx(oracle(rows.tolist(), others.tolist()))
    (pull,) = torch.autograd.grad(loss, rows)
    expected, _ = slopes(oracle, rows.detach(), others)
    torch.testing.assert_close(pull, expected, rtol=1e-5, atol=1e-7)
    assert (pull != 0).any(dim=1).equal((in_queries & in_keys).flatten())


def test_slotcon_of_one_slot_an_image_is_info_nce_and_of_none_nothing() -> None:
    queries, keys, in_queries, in_keys = slot_case()
    every = torch.ones(6, 1, dtype=torch.bool)
    a, b = queries.flatten(0, 1), keys.flatten(0, 1)
    loss = slotcon(a[:, None], b[:, None], every, every)
    torch.testing.assert_close(loss, 2 * 0.2 * info_nce(a, b))
    order = torch.tensor([2, 0, 1])
    moved = slotcon(*(part[order].flip(1) for part in (queries, keys, in_queries, in_keys)))
    torch.testing.assert_close(moved, slotcon(queries, keys, in_queries, in_keys))
    assert slotcon(queries, keys, ~in_keys, in_keys) == 0
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = queries.bfloat16(), keys.bfloat16()
        assert slotcon(*half, in_queries, in_keys).dtype == torch.float32
    with pytest.raises(
        ShapeError, match=r"masks be \(n, k\); got \(3, 2, 4\), \(3, 2, 4\), \(6, 1\)"
    ):
        slotcon(queries, keys, every, in_keys)


def test_mixing_that_commutes_with_projecting_costs_nothing() -> None:
    a, b = pair((16, 4))
    order = torch.randperm(16, generator=torch.Generator().manual_seed(3))
    a, b = ((z - z.mean(0)) / z.std(0, unbiased=False) for z in (a, b))
    mixed = 0.5 * a + 0.5 * a[order]
    linear = mixed_redundancy(a, a, a, torch.arange(16), 0.5)
    assert linear.item() == pytest.approx(0, abs=1e-8)
    assert mixed_redundancy(mixed, a, b, order, 0.5) > 0


def test_mixed_redundancy_is_the_formulas() -> None:
    (mixed, _), (a, b) = pair((6, 3), seed=5), pair((6, 3))
    order, share = torch.tensor([3, 1, 5, 0, 2, 4]), 0.3
    m, first, second = (standard_columns(z.tolist()) for z in (mixed, a, b))
    moved = [[column[i] for i in order.tolist()] for column in second]
    total = 0.0
    for view in (first, second):
        for i in range(3):
            for j in range(3):
                wanted = share * dot(first[i], view[j]) + (1 - share) * dot(moved[i], view[j])
                total += ((dot(m[i], view[j]) - wanted) / 6) ** 2
    assert mixed_redundancy(mixed, a, b, order, share).item() == pytest.approx(total)


@pytest.mark.parametrize("power", [1, 2])
def test_what_was_not_hidden_does_not_count(power: Literal[1, 2]) -> None:
    prediction, target = (z.requires_grad_() for z in pair((4, 5)))
    hidden = torch.zeros(4, 5, dtype=torch.bool)
    hidden[1, 2] = hidden[3, 4] = True
    loss = masked_values(prediction, target, hidden, power=power)
    apart = [abs((prediction - target)[at].item()) ** power for at in ((1, 2), (3, 4))]
    assert loss.item() == pytest.approx(sum(apart) / 2)
    (pull,) = torch.autograd.grad(loss, prediction, retain_graph=True)
    assert (pull != 0).equal(hidden)
    with pytest.raises(RuntimeError, match="not have been used"):
        torch.autograd.grad(loss, target)
    with pytest.raises(ShapeError, match="0 hidden"):
        masked_values(prediction, target, torch.zeros_like(hidden))


def test_masked_tokens_is_the_cross_entropy_of_the_hidden() -> None:
    logits = pair((6, 7))[0].reshape(2, 3, 7).requires_grad_()
    tokens = torch.tensor([[0, 1, 2], [3, 4, 5]])
    hidden = torch.tensor([[True, False, False], [False, True, True]])
    rows = [(0, 0), (1, 1), (1, 2)]
    expected = -sum(math.log(softmax(logits[at].tolist())[tokens[at]]) for at in rows) / 3
    loss = masked_tokens(logits, tokens, hidden)
    assert loss.item() == pytest.approx(expected)
    (pull,) = torch.autograd.grad(loss, logits)
    assert (pull != 0).any(dim=-1).equal(hidden)
    with pytest.raises(ShapeError, match="0 hidden"):
        masked_tokens(logits, tokens, torch.zeros_like(hidden))


def detection_case() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of two texts, which tokens were changed, and which are real: the second is shorter."""
    changed = torch.tensor([[True, False, False], [False, True, True]])
    counted = torch.tensor([[True, True, True], [True, True, False]])
    return 3 * pair((2, 3))[0], changed, counted


def test_token_detection_is_the_formulas_in_value_and_gradient() -> None:
    logits, changed, counted = detection_case()

    def oracle(rows: Rows, _: Rows) -> float:
        total = 0.0
        for i, j in zip(*np.nonzero(counted.numpy()), strict=True):
            share = 1 / (1 + math.exp(-rows[i][j]))
            total -= math.log(share if changed[i, j] else 1 - share)
        return total / int(counted.sum())

    logits.requires_grad_()
    loss = token_detection(logits, changed, counted)
    assert loss.item() == pytest.approx(oracle(logits.tolist(), []))
    (pull,) = torch.autograd.grad(loss, logits)
    expected, _ = slopes(oracle, logits.detach(), torch.zeros(0, 0, dtype=torch.float64))
    torch.testing.assert_close(pull, expected, rtol=1e-5, atol=1e-7)
    assert (pull != 0).equal(counted)


def test_token_detection_does_not_depend_on_order_padding_or_which_side_is_called_changed() -> None:
    logits, changed, counted = detection_case()
    loss = token_detection(logits, changed, counted)
    torch.testing.assert_close(token_detection(-logits, ~changed, counted), loss)
    flipped = (part.flip(0, 1) for part in (logits, changed, counted))
    torch.testing.assert_close(token_detection(*flipped), loss)
    wider = torch.nn.functional.pad(logits, (0, 2), value=9.0)
    false = (torch.nn.functional.pad(part, (0, 2)) for part in (changed, counted))
    torch.testing.assert_close(token_detection(wider, *false), loss)


def test_token_detection_is_a_finite_float32_under_autocast_and_refuses_what_counts_nothing() -> (
    None
):
    logits, changed, counted = detection_case()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = token_detection(1000 * logits.bfloat16(), changed, counted)
    assert loss.dtype == torch.float32
    assert loss.isfinite()
    with pytest.raises(ShapeError, match=r"got \(2, 3\), \(2, 3\) and \(2, 3\), 0 counted"):
        token_detection(logits, changed, torch.zeros_like(counted))
    with pytest.raises(ShapeError, match=r"got \(2, 3\), \(2, 2\)"):
        token_detection(logits, changed[:, :2], counted)


def test_soft_labels_pull_alike_at_every_high_temperature() -> None:
    student, teacher = pair((6, 4))
    student, teacher = ((z - z.mean(1, keepdim=True)).detach() for z in (student, teacher))
    student.requires_grad_()
    (pull,) = torch.autograd.grad(soft_labels(student, teacher, temperature=1e4), student)
    # Hinton et al., equation 4: with centred logits it is (s - t) / k, here the mean over 6 rows.
    torch.testing.assert_close(pull, (student - teacher).detach() / 4 / 6, rtol=1e-3, atol=1e-6)


def test_jensen_shannon_is_zero_at_equality_and_ln_2_for_strangers() -> None:
    z, _ = pair((6, 4))
    assert jensen_shannon(z, z).item() == pytest.approx(0, abs=1e-12)
    far = 100 * torch.eye(4, dtype=torch.float64)
    assert jensen_shannon(far, far.roll(1, dims=0)).item() == pytest.approx(math.log(2))


def test_clip_of_three_modalities_is_the_sum_over_pairs_and_directions() -> None:
    modalities = [pair((5, 4), seed=seed)[0].requires_grad_() for seed in range(3)]
    scales = torch.tensor([0.5, 2.0, 9.0], dtype=torch.float64)  # e⁹ is cut to 100
    total = 0.0
    for (a, b), scale in zip(((0, 1), (0, 2), (1, 2)), (0.5, 2.0, math.log(100)), strict=True):
        for one, other in ((a, b), (b, a)):
            rows, columns = modalities[one].tolist(), modalities[other].tolist()
            for i, row in enumerate(rows):
                p = softmax([math.exp(scale) * cosine(row, column) for column in columns])
                total -= math.log(p[i]) / 5
    assert clip(modalities, scales).item() == pytest.approx(total)
    with pytest.raises(ShapeError, match="3 pairs"):
        clip(modalities, scales[:2])


def test_clip_finds_the_same_in_whatever_order_the_modalities_come() -> None:
    a, b, c = (pair((5, 4), seed=seed)[0] for seed in range(3))
    scales = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64)
    torch.testing.assert_close(clip([a, b, c], scales), clip([c, b, a], scales[[2, 1, 0]]))


def test_the_annotated_shapes_are_true() -> None:
    a, b = pair((6, 4))
    with checked(sorted({case.objective.__module__ for case in CASES.values()})) as modules:
        for name, case in CASES.items():
            objective = getattr(modules[case.objective.__module__], name)
            assert objective(a, b).item() == pytest.approx(case.objective(a, b).item())
            with pytest.raises(TypeCheckError):
                objective(a, b[:5])
