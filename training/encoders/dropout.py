"""Dropout of hidden states: attar's blocks have none of their own.

Srivastava et al. 2014, JMLR 15, at BERT's places (Devlin et al. 2019, arXiv:1810.04805): after the
token embeddings, the attention and the feed-forward layer, each before its residual.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.hooks import RemovableHandle

from .text import TextEncoder


@contextmanager
def hidden_dropout(encoder: TextEncoder, rate: float) -> Iterator[None]:
    """Drop hidden states with probability `rate` while this is open; 0 changes nothing.

    Draws from torch's global generator. BERT's dropout of attention weights is left out.
    """
    with ExitStack() as stack:
        for handle in _hooked(encoder, rate, evaluating=True):
            stack.callback(handle.remove)
        yield


def add_dropout(encoder: TextEncoder, rate: float) -> None:
    """Drop hidden states as `hidden_dropout` does whenever the encoder is in training mode.

    It stays on the encoder, so that activations that are computed again for the backward pass
    (`gradient_cache`) are dropped too. It has no weights, and no export has it.
    """
    _hooked(encoder, rate, evaluating=False)


def _hooked(encoder: TextEncoder, rate: float, *, evaluating: bool) -> list[RemovableHandle]:
    modules: list[nn.Module] = [encoder.tokens] if rate else []
    for block in encoder.transformer.blocks if rate else ():
        modules += [block.attention, block.contract]
    hook = partial(_dropped, rate=rate, evaluating=evaluating)
    return [module.register_forward_hook(hook) for module in modules]


def _dropped(
    module: nn.Module, _inputs: Any, output: Tensor, *, rate: float, evaluating: bool
) -> Tensor:
    return F.dropout(output, rate, training=evaluating or module.training)
