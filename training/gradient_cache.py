"""An encoder that works in parts: the gradient of a large batch in the memory of a small one.

Objectives compare all items of a batch, so that adding up the gradients of small batches is not the
gradient of a large one. Computing activations again, part by part, is (Chen et al. 2016,
arXiv:1604.06174; for contrast, Gao et al. 2021, arXiv:2101.06983).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from attar.errors import InvalidInput

from .encoders.transformer import TokenTransformer


@contextmanager
def micro_batches(encoder: nn.Module, rows: int) -> Iterator[None]:
    """Let `encoder` keep the activations of at most `rows` items while this lasts.

    So does a transformer inside it, for methods that look at tokens go past the encoder's own call.
    Every input has the batch first. Dropout is drawn alike both times. Batch norm uses each part's
    statistics, so only an encoder without it gives the very gradient of the batch. Raises
    InvalidInput when `rows` is less than 1.
    """
    if rows < 1:
        raise InvalidInput(f"micro_batch must be at least 1; got {rows}")
    inner = (module for module in encoder.modules() if isinstance(module, TokenTransformer))
    modules = dict.fromkeys((encoder, *inner))
    for module in modules:
        module.forward = _in_micro_batches(module.forward, rows)  # the instance's, for a while
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def _in_micro_batches(function: Callable[..., Tensor], rows: int) -> Callable[..., Tensor]:
    """Give `function` a part of its inputs at a time, of which some may be None."""

    def forward(*inputs: Tensor | None) -> Tensor:
        batch = next(len(tensor) for tensor in inputs if tensor is not None)
        if not torch.is_grad_enabled() or batch <= rows:
            return function(*inputs)
        none = [None] * -(-batch // rows)
        parts = zip(
            *(none if tensor is None else torch.split(tensor, rows) for tensor in inputs),
            strict=True,
        )
        return torch.cat([checkpoint(function, *part, use_reentrant=False) for part in parts])

    return forward
