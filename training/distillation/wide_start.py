"""The start of a student of layers: its linear parts learn alone, before its layers do.

Copied layers begin far from their teacher. What comes after them is linear: the map of the pooled
states, and the wide part, a table of tokens past the layers (`encoders.text.WideTable`). A least
squares fit brings both to the teacher's embeddings. Then they learn as the whole student will, over
states that are computed once, so that a step costs little.
"""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..composing import compose
from ..data.text import TextPairs
from ..encoders.text import WIDE_STD, TextEncoder, WideTable
from ..loop import Training, fit
from ..methods.distillation import Distillation, DistillationBatch
from ..optimisers import adamw
from ..probes.text_retrieval import embed
from ..recipes.text import distil

RIDGE = 0.1  # of the mean variance of a feature; validated at 0.01, 0.1 and 1
LINEAR_EPOCHS = 12  # chosen on held-out pairs, of 4 to 12
MOST_PAIRS = 2**15  # of a larger corpus some are drawn: their states and features are in memory


def widened(student: TextEncoder) -> TextEncoder:
    """Give the same encoder with a linear map of its own and a wide part, which change nothing yet.

    The wide table starts as the token table.
    """
    shape, source = student.shape, student.tokens.table.weight.detach()
    wide = TextEncoder(replace(shape, dim=student.dim, wide=source.shape[1]))
    weights = dict(student.state_dict())
    if shape.dim is None:
        weights["project.weight"] = torch.eye(student.dim)
        weights["project.bias"] = torch.zeros(student.dim)
    weights["wide.table.weight"] = source * (WIDE_STD / source.std())
    weights["wide.expand.weight"] = torch.zeros(student.dim, source.shape[1])
    wide.load_state_dict(weights)  # strict: nothing stays at its random start
    return wide.eval()


def learn(
    student: TextEncoder, pairs: TextPairs, goals: distil.Targets, settings: distil.Settings
) -> None:
    """Train the linear parts of `student` in place, over states of its layers as they are.

    Of more than `MOST_PAIRS` pairs so many are drawn by the seed.
    """
    if len(pairs) > MOST_PAIRS:
        rows = np.random.default_rng(settings.seed).permutation(len(pairs))[:MOST_PAIRS]
        first, second = (tuple(view[row] for row in rows) for view in pairs.views)
        pairs = TextPairs(first=first, second=second)
        goals = distil.Targets(goals.first[rows], goals.second[rows])
    states = StatePairs.of(student, pairs)
    fit_linear(student, states, goals)
    fit(contrast(student, states, goals, settings), progress=False)


@dataclass(frozen=True, slots=True)
class StatePairs:
    """Two texts of each pair, as token ids and as the states (n, head) that frozen layers give."""

    pairs: TextPairs
    first: Tensor
    second: Tensor

    @classmethod
    def of(cls, student: TextEncoder, pairs: TextPairs) -> Self:
        """Compute the states of all texts once."""
        states = _States(student)
        first, second = (torch.from_numpy(embed(states, part)) for part in pairs.views)
        return cls(pairs, first, second)


def fit_linear(student: TextEncoder, states: StatePairs, goals: distil.Targets) -> None:
    """Fit the linear parts to the teacher's embeddings by ridge regression, in closed form.

    The map is drawn to what it is, as far as one factor brings that to the teacher; the wide part
    is drawn to zero.
    """
    assert isinstance(student.wide, WideTable)
    assert isinstance(student.project, nn.Linear)
    table = student.wide.table.weight.detach().numpy()
    pooled = torch.cat([states.first, states.second]).numpy()
    rows = (*states.pairs.first, *states.pairs.second)
    means = np.stack([table[row].mean(axis=0) for row in rows])
    goal = np.concatenate([goals.first, goals.second]).astype(np.float64)
    scales = [float(part.std()) for part in (pooled, means)]
    features = np.concatenate(
        [part / scale for part, scale in zip((pooled, means), scales, strict=True)], axis=1
    ).astype(np.float64)
    mean, aim = features.mean(axis=0), goal.mean(axis=0)
    features, goal = features - mean, goal - aim
    start = np.zeros((features.shape[1], goal.shape[1]))
    start[: pooled.shape[1]] = student.project.weight.detach().numpy().T
    given = features @ start
    start *= (given * goal).sum() / max(float((given * given).sum()), 1e-12)
    gram = features.T @ features
    gram[np.diag_indices_from(gram)] += RIDGE * np.trace(gram) / len(gram)
    weights = start + np.linalg.solve(gram, features.T @ (goal - features @ start))
    _set(student.project.bias, aim - mean @ weights)
    _set(student.project.weight, weights[: pooled.shape[1]].T / scales[0])
    _set(student.wide.expand.weight, weights[pooled.shape[1] :].T / scales[1])


def contrast(
    student: TextEncoder, states: StatePairs, goals: distil.Targets, settings: distil.Settings
) -> Training[DistillationBatch]:
    """Compose the run that trains the linear parts alone, by the losses of the whole student."""
    count = len(states.pairs)
    settings = replace(settings, batch_size=min(256, count), rate=1e-3, warmup=10)
    settings = replace(settings, steps=max(20, LINEAR_EPOCHS * count // settings.batch_size))
    own = settings.only("temperature", "contrast", "widths")
    method = Distillation(_LinearParts(student), **own)
    first, second = torch.from_numpy(goals.first), torch.from_numpy(goals.second)

    def items(rows: Tensor) -> DistillationBatch:
        queries, passages = states.pairs.batch(rows)
        return (
            (states.first[rows], *queries),
            (states.second[rows], *passages),
            first[rows],
            second[rows],
        )

    return compose(
        method,
        settings,
        items=items,
        rows=states.pairs.sampler(batch_size=settings.batch_size, seed=settings.seed),
        optimiser=adamw(method, weight_decay=0.0),
        probe=dict,
    )


class _States(nn.Module):
    """The states of an encoder's texts."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Give the states (n, head) of rows of ids."""
        return self.encoder.states(ids, mask)


class _LinearParts(nn.Module):
    """The linear parts of an encoder, which alone are trained."""

    def __init__(self, encoder: TextEncoder) -> None:
        super().__init__()
        self.project, self.wide = encoder.project, encoder.wide
        self._combine = encoder.combine

    def forward(self, states: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """Give the embeddings of texts whose states are known."""
        return self._combine(states, ids, mask)


def _set(parameter: Tensor, value: NDArray[np.float64]) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(value))
