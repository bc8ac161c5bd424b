"""Two processes that each keep half of a method train it as one process that has it whole."""

from pathlib import Path
from typing import Any

import pytest
import torch

from ..support.sharding_worker import methods, trained, training
from ..support.torchrun import distributed_run


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the folder that two processes wrote, which talked by gloo."""
    return distributed_run(tmp_path_factory)


@pytest.fixture(scope="module")
def results(started: Path) -> list[dict[str, Any]]:
    return [torch.load(started / f"sharding{rank}.pt") for rank in (0, 1)]


@pytest.mark.parametrize("name", methods())
def test_a_sharded_method_trains_to_the_same_weights(
    results: list[dict[str, Any]], name: str
) -> None:
    run, weights = trained(methods()[name], "ddp")
    for process in results:
        theirs, their_weights = process["runs"][name]
        assert theirs["loss"] == pytest.approx(run["loss"], rel=1e-4)
        assert theirs["embedded"] == pytest.approx(run["embedded"], rel=1e-4)
        assert theirs["embedded"][0] != theirs["embedded"][-1]
        torch.testing.assert_close(their_weights, weights, rtol=1e-3, atol=1e-5)


def test_each_process_keeps_about_half_of_every_parameter(results: list[dict[str, Any]]) -> None:
    shares = [process["held"] for process in results]
    assert sum(shares) == pytest.approx(1)
    assert max(shares) < 0.6


def test_a_method_is_plain_again_at_the_end_and_can_be_sharded_again(
    results: list[dict[str, Any]],
) -> None:
    assert [process["again"] for process in results] == [True, True]


def test_a_sharded_run_is_taken_up_by_one_process(
    started: Path, results: list[dict[str, Any]]
) -> None:
    run, weights = trained(methods()["moco"], "ddp", out=started / "two")
    whole_run, whole_weights = results[0]["runs"]["moco"]
    assert run["loss"] == pytest.approx(whole_run["loss"], rel=1e-4)
    torch.testing.assert_close(weights, whole_weights, rtol=1e-3, atol=1e-5)


def test_a_run_of_one_process_is_resumed_in_shards(results: list[dict[str, Any]]) -> None:
    whole_run, whole_weights = results[0]["runs"]["moco"]
    run, weights = results[0]["taken_up"]
    assert run["loss"] == pytest.approx(whole_run["loss"], rel=1e-4)
    torch.testing.assert_close(weights, whole_weights, rtol=1e-3, atol=1e-5)


def test_an_encoder_that_runs_in_micro_batches_can_be_sharded_too(
    results: list[dict[str, Any]],
) -> None:
    """Blocks are put together again where activations are computed again."""
    whole_run, whole_weights = results[0]["runs"]["moco"]
    run, weights = results[0]["micro_batch"]
    assert run["loss"] == pytest.approx(whole_run["loss"], rel=1e-4)
    torch.testing.assert_close(weights, whole_weights, rtol=1e-3, atol=1e-5)


def test_lars_and_clipping_take_the_norms_of_whole_matrices(
    results: list[dict[str, Any]],
) -> None:
    """Norms of shards would give each process another trust ratio, and another scale."""
    run, weights = trained(methods()["moco"], "ddp", optimiser="lars")
    start = training(methods()["moco"], optimiser="lars").method.state_dict()
    matrices = [name for name, value in start.items() if value.ndim > 1]
    assert any(not torch.allclose(weights[name], start[name], rtol=0.02) for name in matrices)
    for process in results:
        sharded_run, sharded_weights = process["lars"]
        assert sharded_run["loss"] == pytest.approx(run["loss"], rel=1e-4)
        torch.testing.assert_close(sharded_weights, weights, rtol=1e-3, atol=1e-5)
