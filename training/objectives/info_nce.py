"""InfoNCE: identify the key of a query among negatives, of the batch or of a queue.

van den Oord et al. 2018, arXiv:1807.03748, equation 4; with a queue, MoCo: He et al., CVPR 2020,
arXiv:1911.05722, equation 1. Negatives mixed from the hardest ones, MoCHi: Kalantidis et al.,
NeurIPS 2020, arXiv:2010.01028, section 4.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from attar.errors import InvalidInput, ShapeError

from ._pairs import check_pair, full_precision


def info_nce(
    queries: Float[Tensor, "n d"],
    keys: Float[Tensor, "n d"],
    negatives: Float[Tensor, "m d"] | Float[Tensor, "n m d"] | None = None,
    *,
    temperature: float = 0.2,
) -> Float[Tensor, ""]:
    """Give the cross-entropy of key i for query i, by cosine similarity over `temperature`.

    Without `negatives` the candidates are all n keys, and the batch must be the global one. With
    them, they are key i and the m negatives: (m, d) for all queries, such as a queue, or (n, m, d).
    The value is the mean over queries. Gradients reach all arguments that are not detached. Runs in
    float32 under autocast.

    Raises:
        ShapeError: not one (n, d) shape with n >= 2, or n >= 1 with negatives of that width.

    Example:
        >>> round(info_nce(torch.eye(2), torch.eye(2), temperature=1.0).item(), 4)  # ln(e + 1) - 1
        0.3133
    """
    check_pair("queries and keys", queries, keys, at_least=2 if negatives is None else 1)
    with torch.autocast(queries.device.type, enabled=False):
        q, k = (F.normalize(full_precision(z), dim=1) for z in (queries, keys))
        if negatives is None:
            logits, own = q @ k.T, torch.arange(len(q), device=q.device)
        else:
            others = F.normalize(full_precision(_negatives(negatives, q)), dim=-1)
            # (n, 1) and (n, m): the key of the query comes first.
            own_logit = (q * k).sum(dim=1, keepdim=True)
            logits = torch.cat([own_logit, _products(q, others)], dim=1)
            own = torch.zeros(len(q), dtype=torch.int64, device=q.device)
        return F.cross_entropy(logits / temperature, own)


def mix_hard(
    queries: Float[Tensor, "n d"],
    queue: Float[Tensor, "m d"],
    *,
    hardest: int,
    mixed: int,
    harder: int,
    generator: torch.Generator,
) -> Float[Tensor, "n s d"]:
    """Synthesise `mixed` + `harder` negatives for each query from the hardest of the queue.

    `mixed` are a x one + (1 - a) x another of its `hardest` negatives by cosine, a ~ U(0, 1).
    `harder` are b x the query + (1 - b) x one of them, b ~ U(0, 0.5). All have unit length, and no
    gradient goes through them. The generator is on the CPU. Concatenate the result to the queue,
    repeated for each query.

    Raises:
        InvalidInput: `hardest` is not in [1, m], or a count is negative.

    Example:
        >>> draw = torch.Generator().manual_seed(0)
        >>> queries, queue = torch.eye(2, 4), torch.eye(4)
        >>> mix_hard(queries, queue, hardest=2, mixed=3, harder=1, generator=draw).shape
        torch.Size([2, 4, 4])
    """
    if not 1 <= hardest <= len(queue):
        raise InvalidInput(f"hardest must be in [1, {len(queue)}], the queue; got {hardest}")
    if min(mixed, harder) < 0:
        raise InvalidInput(f"mixed and harder must not be negative; got {mixed} and {harder}")
    with torch.no_grad(), torch.autocast(queries.device.type, enabled=False):
        q, k = (F.normalize(full_precision(z), dim=1) for z in (queries, queue))
        nearest = (q @ k.T).topk(hardest, dim=1).indices  # (n, hardest)

        def drawn(count: int) -> Float[Tensor, "n count d"]:
            indices = torch.randint(hardest, (len(q), count), generator=generator)
            return k[nearest.gather(1, indices.to(nearest.device))]

        def shares(count: int) -> Float[Tensor, "n count 1"]:
            return torch.rand(len(q), count, 1, generator=generator, dtype=torch.float64).to(q)

        a, b = shares(mixed), shares(harder) / 2
        between = a * drawn(mixed) + (1 - a) * drawn(mixed)
        towards = b * q[:, None] + (1 - b) * drawn(harder)
        return F.normalize(torch.cat([between, towards], dim=1), dim=-1)


def _negatives(negatives: Tensor, queries: Tensor) -> Tensor:
    n, d = queries.shape
    if (
        negatives.ndim not in (2, 3)
        or negatives.shape[-1] != d
        or negatives.shape[:-2]
        not in (
            (),
            (n,),
        )
    ):
        raise ShapeError(
            f"negatives must be (m, {d}) or ({n}, m, {d}) for queries of {(n, d)}; "
            f"got {(*negatives.shape,)}"
        )
    return negatives


def _products(q: Tensor, others: Tensor) -> Tensor:
    return q @ others.T if others.ndim == 2 else torch.einsum("nd,nmd->nm", q, others)
