"""Dropout of hidden states, for a time: attar's blocks have none of their own.

Srivastava et al. 2014, JMLR 15, at BERT's places (Devlin et al. 2019, arXiv:1810.04805): after the
token embeddings, the attention and the feed-forward layer, each before its residual.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from .text import TextEncoder


@contextmanager
def hidden_dropout(encoder: TextEncoder, rate: float) -> Iterator[None]:
    """Drop hidden states with probability `rate` while this is open; 0 changes nothing.

    Draws from torch's global generator. BERT's dropout of attention weights is left out.
    """
    modules: list[nn.Module] = [encoder.tokens] if rate else []
    for block in encoder.transformer.blocks if rate else ():
        modules += [block.attention, block.contract]
    with ExitStack() as stack:
        for module in modules:
            handle = module.register_forward_hook(partial(_dropped, rate=rate))
            stack.callback(handle.remove)
        yield


def _dropped(_module: nn.Module, _inputs: Any, output: Tensor, *, rate: float) -> Tensor:
    return F.dropout(output, rate)
