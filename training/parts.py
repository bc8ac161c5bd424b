"""An encoder that works in parts: the gradient of a large batch in the memory of a small one.

Objectives compare all items of a batch, so that adding up the gradients of small batches is not the
gradient of a large one. Computing activations again, part by part, is (Chen et al. 2016,
arXiv:1604.06174; for contrast, Gao et al. 2021, arXiv:2101.06983).
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attar.errors import InvalidInput


@contextmanager
def in_parts(encoder: nn.Module, rows: int) -> Iterator[None]:
    """Let `encoder` keep the activations of at most `rows` items while this lasts.

    Every input has the batch first. Dropout is drawn alike both times. Batch norm uses each part's
    statistics, so only an encoder without it gives the very gradient of the batch. Raises
    InvalidInput when `rows` is less than 1.
    """
    if rows < 1:
        raise InvalidInput(f"micro_batch must be at least 1; got {rows}")
    whole = encoder.forward

    def forward(*inputs: Tensor) -> Tensor:
        if not torch.is_grad_enabled() or len(inputs[0]) <= rows:
            alone: Tensor = whole(*inputs)
            return alone
        parts = zip(*(torch.split(tensor, rows) for tensor in inputs), strict=True)
        return torch.cat([checkpoint(whole, *part, use_reentrant=False) for part in parts])

    encoder.forward = forward  # the instance's, for a while
    try:
        yield
    finally:
        del encoder.forward
