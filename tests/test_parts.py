"""An encoder in parts: every method's run of the large batch, a few rows' activations at a time."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from attar.training import parts

from .world_worker import BATCH, STEPS, methods, trained

ROWS = 5


@pytest.mark.parametrize("name", methods())
def test_a_method_in_parts_trains_as_with_the_whole_batch(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    losses, weights = trained(name)
    kept = []

    def spy(run: Callable[..., Tensor], *inputs: Tensor, **options: Any) -> Any:
        kept.append(len(inputs[0]))
        return checkpoint(run, *inputs, **options)

    monkeypatch.setattr(parts, "checkpoint", spy)
    parted_losses, parted_weights = trained(name, micro_batch=ROWS)
    assert max(kept) == ROWS
    assert sum(kept) >= BATCH * STEPS
    assert parted_losses == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(parted_weights, weights, rtol=1e-4, atol=1e-6)
