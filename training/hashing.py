"""Learn hash functions so that binary codes agree where tokens attend to one another, without labels.

The kernel-supervised hashing of EcoFormer (Liu et al. 2022, arXiv:2209.09004, section 4.2; the method
is Liu et al. 2012, "Supervised Hashing with Kernels"): greedy over bits, each bit fitted to what the
earlier bits left over.  Where a line follows the authors' code rather than the paper, it says so.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attar.errors import InvalidInput

from .encoders.attention import BinarizedAttention, SoftmaxAttention, gaussian_kernel
from .encoders.text import TextEncoder


@dataclass(frozen=True, slots=True)
class HashReport:
    """The mean hard loss over heads after each bit; each of its steps is no higher than its start."""

    start: tuple[float, ...]
    learned: tuple[float, ...]


def learn_hashes(
    attention: BinarizedAttention,
    x: Tensor,
    mask: Tensor,
    *,
    similar: int = 10,
    steps: int = 100,
    rate: float = 0.1,
    generator: torch.Generator,
) -> HashReport:
    """Set the anchors, the kernel means and the hash functions of one attention from one batch.

    `x` (b, n, width) are the tokens that enter it, `mask` (b, n) is true where one is real.  Per token
    the `similar` tokens of the highest query-key product are labelled +1 and as many of the lowest -1;
    the codes H are to give H H^T = bits * labels.  Bit r maximises y^T R y, where y are its relaxed
    signs and R is what the bits before it left, by gradient descent with Nesterov momentum; the hard
    signs are kept only where they lower the loss.

    Departures from the authors' code: anchors are drawn from the whole batch and not from its first
    sample, and the rate is 0.1 and not 5e-4, at which the functions hardly move.
    """
    bits, anchors = attention.bits, attention.anchors.shape[1]
    if int(mask.sum()) < anchors:
        raise InvalidInput(
            f"{int(mask.sum())} real tokens cannot give {anchors} anchors; pass a larger batch"
        )
    with torch.no_grad():
        tokens = attention.tokens(x)  # (b, heads, n, d)
        chosen = torch.randperm(int(mask.sum()), generator=generator)[:anchors]
        attention.anchors.copy_(tokens.transpose(1, 2)[mask][chosen].transpose(0, 1))
        kernel = gaussian_kernel(tokens, attention.anchors, mask)  # (b, heads, n, m)
        real = mask[:, None, :, None].to(kernel.dtype)
        attention.mean.copy_((kernel * real).sum((0, 2)).div(real.sum((0, 2)))[:, None])
        kernel = (kernel - attention.mean) * real  # padding has the zero feature: no bit, no loss
        residual = bits * similarity_labels(tokens, mask, similar=similar)  # (b, heads, n, n)
    start, learned = [], []
    for bit in range(bits):
        initial = torch.randn(kernel.shape[1], anchors, generator=generator)
        function, before, after = _learn_bit(
            kernel, residual, initial, steps=steps, rate=rate, bits=bits
        )
        attention.hash[:, :, bit] = function
        code = _signs(kernel, function) * real[..., 0]
        residual = residual - code[..., :, None] * code[..., None, :]
        start.append(before)
        learned.append(after)
    return HashReport(start=tuple(start), learned=tuple(learned))


def similarity_labels(tokens: Tensor, mask: Tensor, *, similar: int) -> Tensor:
    """Label pairs of tokens (b, heads, n, d) by attention: +1 most alike, -1 least, 0 between: (b, heads, n, n).

    Rows of fewer than 2 * `similar` real tokens label half of them each way.
    """
    pairs = mask[:, None, :, None] & mask[:, None, None, :]
    product = tokens @ tokens.transpose(-1, -2)
    rank_from_top = product.masked_fill(~pairs, -math.inf).argsort(-1, descending=True).argsort(-1)
    real = mask.sum(-1)[:, None, None, None]
    count = torch.minimum(torch.full_like(real, similar), real // 2)
    labels = (rank_from_top < count).float() - (
        (rank_from_top >= real - count) & (rank_from_top < real)
    ).float()
    return labels * pairs


def _learn_bit(
    kernel: Tensor, residual: Tensor, initial: Tensor, *, steps: int, rate: float, bits: int
) -> tuple[Tensor, float, float]:
    """Fit one bit's function (heads, m); give it with the mean hard loss before and after."""
    function = initial.clone().requires_grad_()
    optimiser = torch.optim.SGD([function], lr=rate, momentum=0.9, nesterov=True)
    for _ in range(steps):
        y = 2 * torch.sigmoid(_responses(kernel, function)) - 1
        loss = _loss(y, residual, bits).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves backward untyped
        optimiser.step()
    with torch.no_grad():
        before, after = (_loss(_signs(kernel, f), residual, bits) for f in (initial, function))
        better = after <= before  # per head
        return (
            torch.where(better[:, None], function, initial).detach(),
            float(before.mean()),
            float(torch.minimum(before, after).mean()),
        )


def _loss(y: Tensor, residual: Tensor, bits: int) -> Tensor:
    """-(y^T R y) / (n b), averaged over the batch: (heads,)."""
    quadratic = torch.einsum("bhi,bhij,bhj->bh", y, residual, y)
    return -quadratic.mean(0) / (y.shape[-1] * bits)


def _responses(kernel: Tensor, function: Tensor) -> Tensor:
    return torch.einsum("bhnm,hm->bhn", kernel, function)


def _signs(kernel: Tensor, function: Tensor) -> Tensor:
    return torch.where(_responses(kernel, function) >= 0, 1.0, -1.0)


def binarize(
    encoder: TextEncoder,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    layers: tuple[int, ...],
    generator: torch.Generator,
) -> dict[int, HashReport]:
    """Swap softmax attention for binarized in `layers` of `encoder`, in place, learning hashes front to back.

    Each layer learns from the tokens that the layers before it, already binarized, give for the batch
    (b, n).  Values and output keep their weights; the shared query-key projection starts as the best
    symmetric form of the two (`shared_projection`).
    """
    mask = attention_mask.bool()
    reports = {}
    with torch.no_grad():
        x = encoder.tokens(input_ids)
        for place, block in enumerate(encoder.transformer.blocks):
            if place in layers:
                block.attention = _from_softmax(block.attention)
                inputs = x if block.post else block.attention_norm(x)
                with torch.enable_grad():
                    reports[place] = learn_hashes(
                        block.attention, inputs, mask, generator=generator
                    )
            x = block(x, mask)
    if missing := set(layers) - set(reports):
        raise InvalidInput(
            f"layers {sorted(missing)} do not exist; the encoder has {len(encoder.transformer.blocks)}"
        )
    return reports


def _from_softmax(softmax: nn.Module) -> BinarizedAttention:
    if not isinstance(softmax, SoftmaxAttention):
        raise InvalidInput(
            f"only softmax attention can be binarized; this layer has {type(softmax).__name__}"
        )
    attention = BinarizedAttention(softmax.query.in_features, softmax.heads)
    attention.value.load_state_dict(softmax.value.state_dict())
    attention.out.load_state_dict(softmax.out.state_dict())
    attention.query_key.weight.copy_(
        shared_projection(softmax.query.weight, softmax.key.weight, softmax.heads)
    )
    attention.query_key.bias.zero_()
    return attention


def shared_projection(query: Tensor, key: Tensor, heads: int) -> Tensor:
    """Give one projection W whose x^T W^T W y is nearest the symmetric part of each head's x^T Q^T K y.

    Per head, the symmetric part (Q^T K + K^T Q) / 2 keeps its largest positive eigenvalues, as many as
    the head is wide; W is their square roots times the eigenvectors.
    """
    rows = []
    for q, k in zip(query.chunk(heads), key.chunk(heads), strict=True):  # (d, width) each
        product = q.T @ k
        values, vectors = torch.linalg.eigh((product + product.T) / 2)
        top = slice(-q.shape[0], None)
        rows.append(values[top].clamp_min(0).sqrt()[:, None] * vectors[:, top].T)
    return torch.cat(rows)
