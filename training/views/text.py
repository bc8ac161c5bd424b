"""Text views: token sequences with some tokens dropped, cropped, masked, swapped or inserted."""

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
    inner = _inner(tokens)
    hidden = _order(inner, draws).argsort(dim=1) < _count(inner, rate, least=1)
    shown = others.where(fate < replaced, tokens.ids.where(fate < replaced + unchanged, blank))
    return View(
        Tokens(shown.where(hidden, tokens.ids), tokens.mask),
        {"hidden": hidden, "labels": tokens.ids.where(hidden, -100)},
    )


def swap_tokens(tokens: Tokens, generator: torch.Generator, *, rate: float = 0.15) -> View[Tokens]:
    """Let round(rate x tokens) tokens of each sequence change places, two where there are two.

    They take one another's places in a circle of random order. A sequence's first and last token
    stay and are not counted. `params["moved"]` (n, length) bool are the places that now have
    another id: a token that meets its equal has not moved. Deterministic given `generator`, which
    lives on the CPU.

    Raises InvalidInput for a rate that is not in (0, 1].
    """
    _refuse_rate(rate)
    inner = _inner(tokens)
    draws = carried(torch.rand(tokens.ids.shape, generator=generator), tokens.ids)
    order, count = _order(inner, draws), _count(inner, rate, least=2)
    rank = order.argsort(dim=1)
    before = order.gather(1, (rank - 1) % count.clamp(min=1))  # the place before in the circle
    ids = tokens.ids.gather(1, before).where(rank < count, tokens.ids)
    return View(Tokens(ids, tokens.mask), {"moved": ids != tokens.ids})


def insert_tokens(
    tokens: Tokens,
    generator: torch.Generator,
    *,
    blank: int,
    longest: int,
    rate: float = 0.15,
) -> View[Tokens]:
    """Insert round(rate x tokens) tokens `blank` into each sequence, one where it has a token.

    None comes before the first token or after the last, which are not counted. A sequence keeps its
    first `longest` tokens. `params["added"]` (n, new length) bool are the places of the blanks.
    Deterministic given `generator`, which lives on the CPU.

    Raises InvalidInput for a rate that is not in (0, 1].
    """
    _refuse_rate(rate)
    n, width = tokens.ids.shape
    inner = _inner(tokens)
    most = max(1, round(rate * max(1, width - 2)))
    draws = carried(torch.rand(n, most, generator=generator), tokens.ids)
    real = tokens.mask.sum(dim=1, keepdim=True)
    # Each token has its index as its position, and a blank one between two of them; the rest is at
    # infinity.
    index = torch.arange(width, device=tokens.ids.device).expand(n, -1)
    between = (draws * (real - 1)).floor() + 0.5  # (n, most)
    added = torch.arange(most, device=tokens.ids.device) < _count(inner, rate, least=1)
    position = torch.cat(
        [
            index.float().masked_fill(~tokens.mask.bool(), torch.inf),
            between.masked_fill(~added, torch.inf),
        ],
        dim=1,
    )
    order = position.argsort(dim=1, stable=True)[:, :longest]
    mask = position.gather(1, order).isfinite()
    blanks = tokens.ids.new_full((n, most), blank)
    ids = torch.cat([tokens.ids, blanks], dim=1).gather(1, order)
    return View(
        Tokens(ids.where(mask, 0), mask.to(tokens.mask.dtype)),
        {"added": (order >= width) & mask},
    )


def _refuse_rate(rate: float) -> None:
    if not 0 < rate <= 1:
        raise InvalidInput(f"rate must be in (0, 1]; got {rate}")


def _inner(tokens: Tokens) -> Tensor:
    """Mark the tokens between each sequence's first and last; (n, length) bool."""
    return tokens.mask.bool() & ~_ends(tokens)


def _order(inner: Tensor, draws: Tensor) -> Tensor:
    """Give each row's positions in the order of their draws, the inner ones first."""
    return draws.where(inner, 2.0).argsort(dim=1)


def _count(inner: Tensor, rate: float, *, least: int) -> Tensor:
    """Give how many tokens a share of each row's inner ones is, `least` where there are so many."""
    available = inner.sum(dim=1, keepdim=True)
    return (rate * available).round().long().clamp(min=least).minimum(available)  # (n, 1)


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
