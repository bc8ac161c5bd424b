"""Compiled methods compute what they compute otherwise, and are compiled indeed."""

import pytest
import torch
from torch._dynamo.utils import counters

from ..support.world_worker import trained


# Both in torch's own compiler, as it is imported and as it looks at its inputs.
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
# A C++ compiler runs. The second looks at tokens.
@pytest.mark.parametrize(
    "name", ["cross_modal", pytest.param("masked_frames", marks=pytest.mark.slow)]
)
def test_a_compiled_method_trains_to_the_same_weights(name: str) -> None:
    losses, weights = trained(name)
    counters.clear()
    theirs, their_weights = trained(name, compiled=True)
    assert counters["stats"]["unique_graphs"] >= 1
    assert theirs == pytest.approx(losses, rel=1e-5)
    torch.testing.assert_close(their_weights, weights, rtol=1e-4, atol=1e-6)
