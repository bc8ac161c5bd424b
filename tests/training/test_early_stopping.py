"""A run ends where its probe no longer improves, and the weights of its best probe are there."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from attar.errors import InvalidInput
from attar.training.early_stopping import BestWeights, is_exhausted
from attar.training.loop import History, Training, fit
from attar.training.method import Method, Metrics
from attar.training.optimisers import adamw
from attar.training.schedules import constant


class Line(Method[torch.Tensor]):
    """A weight that learns to be large."""

    encoder: nn.Linear

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.encoder.weight)

    def loss(self, batch: torch.Tensor, step: int) -> tuple[torch.Tensor, Metrics]:
        return -self.encoder(batch).mean(), {}


def training(best: BestWeights | None, method: Line) -> Training[torch.Tensor]:
    """Compose a run whose figure rises until its weight is about 0.45, and then falls."""

    def probe(step: int) -> dict[str, float]:
        figure = -abs(float(method.encoder.weight) - 0.45)
        if best is not None:
            best.update(step, figure)
        return {"figure": figure}

    return Training(
        method=method,
        batches=lambda _step: torch.ones(2, 1),
        optimiser=adamw(method, weight_decay=0),
        rate=constant(0.1),
        steps=20,
        seed=0,
        probe=probe,
        stop=exhausted,
    )


def exhausted(history: History) -> bool:
    return is_exhausted(history, "figure", probes=2)


def rows(*figures: float) -> History:
    return History(tuple({"step": step, "figure": each} for step, each in enumerate(figures)))


def test_a_run_is_exhausted_after_as_many_probes_without_a_better_one() -> None:
    assert not exhausted(rows(1, 2, 3))
    assert not exhausted(rows(3, 1))
    assert not exhausted(rows(1, 3, 2))
    assert exhausted(rows(1, 3, 2, 3))
    assert not exhausted(rows(1, 3, 2, 4))
    assert not exhausted(rows())


def test_a_run_ends_where_its_probe_no_longer_improves(tmp_path: Path) -> None:
    method = Line()
    best = BestWeights(method.encoder, tmp_path / "best.safetensors")
    run = training(best, method)
    history = fit(run, out=tmp_path, probe_every=2, progress=False)
    assert [step for step, _ in history.series("figure")] == [0, 2, 4, 6, 8]
    step, weights = best.read()
    assert step == 4
    assert weights["weight"].item() == pytest.approx(0.4, abs=0.01)
    assert method.encoder.weight.item() == pytest.approx(0.8, abs=0.01)


def test_a_run_that_was_ended_stays_so_and_one_that_was_killed_ends_alike(tmp_path: Path) -> None:
    killed, again, ended = Line(), Line(), Line()
    best = BestWeights(again.encoder, tmp_path / "best.safetensors")
    fit(replace(training(None, killed), steps=3), out=tmp_path, progress=False)
    first = fit(training(best, again), out=tmp_path, probe_every=2, progress=False)
    second = fit(training(best, ended), out=tmp_path, probe_every=2, progress=False)
    assert max(row["step"] for row in first.rows) == 8
    assert second.series("figure") == first.series("figure")
    assert torch.equal(ended.encoder.weight, again.encoder.weight)
    assert best.read()[0] == 4


def test_the_best_weights_of_a_run_taken_up_at_an_earlier_step_are_made_again(
    tmp_path: Path,
) -> None:
    module = nn.Linear(1, 1, bias=False)
    best = BestWeights(module, tmp_path / "best.safetensors")
    best.update(8, 0.9)
    nn.init.constant_(module.weight, 5.0)
    best.update(4, 0.5)  # an earlier step: what was kept is of a future that is not
    assert best.read()[0] == 4
    best.update(6, 0.5)
    step, weights = best.read()
    assert (step, weights["weight"].item()) == (4, 5.0)
    best.update(8, 0.5, prefer_later=True)
    assert best.read()[0] == 8


def test_damaged_best_weights_are_named(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    best = BestWeights(nn.Linear(1, 1), path)
    with pytest.raises(InvalidInput, match=r"best\.safetensors is missing or damaged"):
        best.read()
    path.write_bytes(b"none")
    with pytest.raises(InvalidInput, match=r"best\.safetensors is missing or damaged"):
        best.update(1, 0.0)
