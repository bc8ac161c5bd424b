"""Text views: token sequences with some tokens dropped, cropped or masked."""

from typing import NamedTuple

import torch
from torch import Tensor

from attar.errors import InvalidInput

from ._draws import carried
from .view import View


class Tokens(NamedTuple):
    """A padded batch, as encoders take it: `encoder(*tokens)`."""

    ids: Tensor  # (n, length) int64
    mask: Tensor  # (n, length) int64, 1 on tokens, which come first, and 0 on padding


def token_dropout(
    tokens: Tokens, generator: torch.Generator, *, rate: float, pad: int = 0
) -> View[Tokens]:
    """Drop each token with probability `rate`, and move the others together.

    A sequence's first and last token ([CLS] and [SEP]) stay. `params["kept"]` (n, length) bool are
    the old positions that stayed. Deterministic given `generator`, which lives on the CPU.
    """
    if not 0 <= rate < 1:
        raise InvalidInput(f"rate must be in [0, 1); got {rate}")
    draws = carried(torch.rand(tokens.ids.shape, generator=generator), tokens.ids)
    return _keep(tokens, (draws >= rate) | _ends(tokens), pad)


def span_crop(
    tokens: Tokens, generator: torch.Generator, *, shares: tuple[float, float], pad: int = 0
) -> View[Tokens]:
    """Keep one contiguous span, a share of the tokens drawn from `shares`, at a random place.

    A share is in (0, 1]. A sequence's first and last token stay and are not counted; a span has at
    least one token where there is one. `params["kept"]` as in `token_dropout`; `params["start"]`
    and `params["length"]` (n,) are the span in old positions. Deterministic given `generator`,
    which lives on the CPU.
    """
    low, high = shares
    if not 0 < low <= high <= 1:
        raise InvalidInput(f"shares must be 0 < low <= high <= 1; got {shares}")
    n, width = tokens.ids.shape
    share, offset = carried(torch.rand(2, n, generator=generator), tokens.ids)
    inner = (tokens.mask.sum(dim=1) - 2).clamp(min=0)  # (n,)
    length = ((low + (high - low) * share) * inner).ceil().long().minimum(inner)
    start = 1 + (offset * (inner - length + 1)).long().minimum(inner - length)
    position = torch.arange(width, device=tokens.ids.device)
    span = (position >= start[:, None]) & (position < (start + length)[:, None])
    view = _keep(tokens, span | _ends(tokens), pad)
    return View(view.data, {**view.params, "start": start, "length": length})


def mask_tokens(
    tokens: Tokens,
    generator: torch.Generator,
    *,
    blank: int,
    vocabulary: int,
    rate: float = 0.15,
    replaced: float = 0.1,
    unchanged: float = 0.1,
) -> View[Tokens]:
    """Mask round(rate x tokens) tokens of each sequence, at least one where there is one.

    A hidden token becomes `blank`, the id of [MASK], but with probability `replaced` a random id
    below `vocabulary`, and with probability `unchanged` it stays; 0 and 0 make every one a blank. A
    sequence's first and last token stay and are not counted. `params["hidden"]` (n, length) bool
    are the places to be predicted, whose ids `params["labels"]` (n, length) int64 has, and -100,
    which torch's cross-entropy leaves out, elsewhere. Deterministic given `generator`, which lives
    on the CPU.

    Source: Devlin et al. 2019 (BERT), arXiv:1810.04805, section 3.1 and appendix A.1.
    """
    if not 0 < rate <= 1 or min(replaced, unchanged) < 0 or replaced + unchanged > 1:
        raise InvalidInput(
            "rate must be in (0, 1], and replaced and kept probabilities that add up to at most 1; "
            f"got {rate}, {replaced} and {unchanged}"
        )
    shape = tokens.ids.shape
    draws, fate = carried(torch.rand(2, *shape, generator=generator), tokens.ids)
    others = carried(torch.randint(vocabulary, shape, generator=generator), tokens.ids)
    inner = tokens.mask.bool() & ~_ends(tokens)
    available = inner.sum(dim=1, keepdim=True)
    count = (rate * available).round().clamp(min=1).minimum(available)  # (n, 1)
    # The inner tokens' draws come first in order, so that the first ones are inner tokens.
    rank = draws.where(inner, 2.0).argsort(dim=1).argsort(dim=1)
    hidden = rank < count
    shown = others.where(fate < replaced, tokens.ids.where(fate < replaced + unchanged, blank))
    return View(
        Tokens(shown.where(hidden, tokens.ids), tokens.mask),
        {"hidden": hidden, "labels": tokens.ids.where(hidden, -100)},
    )


def _ends(tokens: Tokens) -> Tensor:
    """Mark each sequence's first and last token; (n, length) bool."""
    position = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
    return (position == 0) | (position == tokens.mask.sum(dim=1, keepdim=True) - 1)


def _keep(tokens: Tokens, keep: Tensor, pad: int) -> View[Tokens]:
    """Move the kept tokens to the left, in order, and pad the rest."""
    keep = keep & tokens.mask.bool()
    order = keep.long().argsort(dim=1, descending=True, stable=True)
    mask = keep.gather(1, order)
    ids = tokens.ids.gather(1, order).where(mask, pad)
    return View(Tokens(ids, mask.to(tokens.mask.dtype)), {"kept": keep})
