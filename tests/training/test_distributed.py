"""Two processes with different data train as one with all of it: losses, gradients, weights."""

from functools import cache
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from attar.errors import InvalidInput
from attar.training import distributed
from attar.training.choices import Strategy

from ..support.torchrun import distributed_run
from ..support.world_worker import (
    ITEMS,
    OBJECTIVES,
    batches,
    methods,
    trained,
    value_and_gradient,
)


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that two processes wrote, which talked by gloo."""
    return distributed_run(tmp_path_factory)


@pytest.fixture(scope="module")
def results(started: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = torch.load(started / "world.pt")
    return loaded


@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_has_the_value_and_gradient_of_the_global_batch(
    results: dict[str, Any], name: str
) -> None:
    value, gradient = value_and_gradient(OBJECTIVES[name])
    assert results["objectives"][name][0] == pytest.approx(value, rel=1e-12)
    torch.testing.assert_close(results["objectives"][name][1], gradient, rtol=1e-10, atol=1e-12)


@cache
def alone(name: str) -> Any:
    """Train a method in this process: every strategy is compared with that."""
    return trained(name)


@pytest.mark.parametrize("strategy", get_args(Strategy))
@pytest.mark.parametrize("name", methods())
def test_a_method_trains_to_the_same_weights(
    results: dict[str, Any], name: str, strategy: str
) -> None:
    losses, weights = alone(name)
    theirs, their_weights = results[strategy][name]
    assert theirs == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(their_weights, weights, rtol=1e-4, atol=1e-6)


def test_no_method_is_left_out_but_that_which_mixes_within_a_process() -> None:
    held = {type(make()).__module__.rpartition(".")[2] for make in methods().values()}
    folder = Path(__file__).parents[2] / "training" / "methods"
    assert held | {"mixing"} == {path.stem for path in folder.glob("[!_]*.py")}


def test_a_run_of_two_processes_is_taken_up_by_one(started: Path, results: dict[str, Any]) -> None:
    losses, weights = trained("twins", started / "half")
    assert losses == pytest.approx(results["ddp"]["twins"][0], rel=1e-5)
    torch.testing.assert_close(weights, results["ddp"]["twins"][1], rtol=1e-4, atol=1e-6)


def test_the_halves_of_two_processes_are_the_batches_of_one(started: Path) -> None:
    first, second = (torch.load(started / f"batches{rank}.pt") for rank in (0, 1))
    for whole, one, two in zip(batches(), first, second, strict=True):
        assert len(one) == len(two)
        assert torch.equal(torch.cat([one, two]), whole)


def test_one_process_has_every_row() -> None:
    assert torch.equal(distributed.shard(torch.arange(5)), torch.arange(5))
    assert distributed.gather(ITEMS) is ITEMS


def test_processes_draw_views_of_their_own_and_the_first_those_of_one_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    alone = torch.rand(4, generator=distributed.step_generator(0, 3))
    drawn = []
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        drawn.append(torch.rand(4, generator=distributed.step_generator(0, 3)))
    assert torch.equal(drawn[0], alone)
    assert not torch.equal(drawn[1], alone)


def test_a_batch_that_cannot_be_split_evenly_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    with pytest.raises(InvalidInput, match="batch of 5 cannot be split evenly among 2 processes"):
        distributed.shard(torch.arange(5))
