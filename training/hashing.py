"""Learn hash functions so that binary codes agree where tokens attend to one another, label-free.

The kernel-supervised hashing of EcoFormer (Liu et al. 2022, arXiv:2209.09004, section 4.2; the
method is Liu et al. 2012, "Supervised Hashing with Kernels"): greedy over bits, each fitted to what
the bits before it left over.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attar.errors import InvalidInput

from .encoders.attention import BinarizedAttention, SoftmaxAttention, gaussian_kernel
from .encoders.text import TextEncoder


@dataclass(frozen=True, slots=True)
class HashReport:
    """The hard loss of each bit, a mean over heads, where it started and as it was kept."""

    start: tuple[float, ...]
    learned: tuple[float, ...]


def learn_hashes(
    attention: BinarizedAttention,
    x: Float[Tensor, "b n width"],
    mask: Bool[Tensor, "b n"],
    *,
    similar: int = 10,
    steps: int = 100,
    rate: float = 0.1,
    generator: torch.Generator,
) -> HashReport:
    """Set the anchors, the kernel means and the hash functions of one attention from one batch.

    `x` are the tokens that enter it, `mask` is true where one is real. The codes H are to give
    H H^T = bits * labels, with `similarity_labels` of the `similar` nearest and farthest tokens.
    Bit r lowers -y^T R y, y being its signs (relaxed to a sigmoid) and R what the bits before it
    left, by `steps` of gradient descent with Nesterov momentum; a head keeps them only where its
    loss with hard signs is no higher than at the random start. `generator` lives on the CPU.

    Departures from the authors' code: anchors are drawn from the whole batch and not from its first
    sample, and the rate is 0.1 and not 5e-4, at which the functions hardly move.

    Raises InvalidInput when the batch has fewer real tokens than there are anchors.
    """
    bits, anchors = attention.bits, attention.anchors.shape[1]
    found = int(mask.sum())
    if found < anchors:
        raise InvalidInput(
            f"{anchors} anchors need as many real tokens and the batch has {found}; "
            "pass a larger batch"
        )
    with torch.no_grad():
        tokens = attention.tokens(x)  # (b, heads, n, d)
        drawn = torch.randperm(found, generator=generator)[:anchors].to(x.device)
        attention.anchors.copy_(tokens.transpose(1, 2)[mask][drawn].transpose(0, 1))
        kernel = gaussian_kernel(tokens, attention.anchors, mask)  # (b, heads, n, m)
        real = mask[:, None, :, None].to(kernel.dtype)
        attention.mean.copy_(((kernel * real).sum((0, 2)) / found)[:, None])
        kernel = (kernel - attention.mean) * real
        length = mask.sum(-1)[:, None, None, None]
        residual = similarity_labels(tokens, mask, similar=similar) / length  # R / (n bits)
    start, learned = [], []
    for bit in range(bits):
        initial = torch.randn(kernel.shape[1], anchors, generator=generator).to(kernel)
        descended = _descend(kernel, residual, initial, steps=steps, rate=rate)
        before, after = (_loss(_signs(kernel, f), residual) for f in (initial, descended))
        function = torch.where((after <= before)[:, None], descended, initial)
        attention.hash[:, :, bit] = function
        code = _signs(kernel, function) * real[..., 0]  # padding has no code
        residual = residual - code[..., :, None] * code[..., None, :] / (length * bits)
        start.append(float(before.mean()))
        learned.append(float(torch.minimum(before, after).mean()))
    return HashReport(start=tuple(start), learned=tuple(learned))


def similarity_labels(
    tokens: Float[Tensor, "b heads n d"], mask: Bool[Tensor, "b n"], *, similar: int
) -> Float[Tensor, "b heads n n"]:
    """Label each token's pairs by attention: +1 the most alike, -1 the least, 0 between.

    Alike is the inner product; a token is among its own most alike. Each way `similar` are
    labelled, or half of the row's real tokens where those are fewer than 2 * `similar`. Pairs with
    padding are 0.
    """
    pairs = mask[:, None, :, None] & mask[:, None, None, :]
    product = (tokens @ tokens.transpose(-1, -2)).masked_fill(~pairs, -math.inf)
    rank = product.argsort(-1, descending=True).argsort(-1)  # padding ranks last
    real = mask.sum(-1)[:, None, None, None]
    each_way = (real // 2).clamp_max(similar)
    most, least = rank < each_way, (rank >= real - each_way) & (rank < real)
    return (most.to(tokens.dtype) - least.to(tokens.dtype)) * pairs


def _descend(
    kernel: Float[Tensor, "b heads n m"],
    residual: Float[Tensor, "b heads n n"],
    initial: Float[Tensor, "heads m"],
    *,
    steps: int,
    rate: float,
) -> Float[Tensor, "heads m"]:
    """Lower the loss of one bit with relaxed signs, from `initial`."""
    function = initial.clone().requires_grad_()
    optimiser = torch.optim.SGD([function], lr=rate, momentum=0.9, nesterov=True)
    for _ in range(steps):
        relaxed = 2 * torch.sigmoid(_responses(kernel, function)) - 1
        optimiser.zero_grad()
        _loss(relaxed, residual).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
        optimiser.step()
    return function.detach()


def _loss(
    y: Float[Tensor, "b heads n"], residual: Float[Tensor, "b heads n n"]
) -> Float[Tensor, "heads"]:
    """Give -(y^T R y) / (n bits), a mean over rows of n real tokens; `residual` is R / (n bits)."""
    return -torch.einsum("bhi,bhij,bhj->bh", y, residual, y).mean(0)


def _responses(
    kernel: Float[Tensor, "b heads n m"], function: Float[Tensor, "heads m"]
) -> Float[Tensor, "b heads n"]:
    return (kernel @ function[:, :, None]).squeeze(-1)  # faster than its einsum


def _signs(
    kernel: Float[Tensor, "b heads n m"], function: Float[Tensor, "heads m"]
) -> Float[Tensor, "b heads n"]:
    return torch.where(_responses(kernel, function) >= 0, 1.0, -1.0).to(kernel.dtype)


@torch.no_grad()
def binarize(
    encoder: TextEncoder,
    input_ids: Int[Tensor, "b n"],
    attention_mask: Int[Tensor, "b n"],
    *,
    layers: Sequence[int],
    generator: torch.Generator,
) -> dict[int, HashReport]:
    """Swap softmax attention for binarized in `layers` of `encoder`, in place, front to back.

    Each layer learns its hashes from the tokens that the layers before it, already binarized, give
    for the batch. Values and output keep their weights; the shared query-key projection starts as
    the best symmetric form of the two (`shared_projection`) and without bias.

    Raises InvalidInput, before anything is changed, when a layer does not exist or does not attend
    by softmax, and as `learn_hashes` does.
    """
    blocks = encoder.transformer.blocks
    softmax: dict[int, SoftmaxAttention] = {}
    for layer in layers:
        if not 0 <= layer < len(blocks):
            raise InvalidInput(f"there is no layer {layer}; the encoder has 0 to {len(blocks) - 1}")
        attention = blocks[layer].attention
        if not isinstance(attention, SoftmaxAttention):
            raise InvalidInput(
                f"only softmax attention can be binarized; layer {layer} has "
                f"{type(attention).__name__}"
            )
        softmax[layer] = attention
    device = encoder.tokens.position.weight.device
    x, mask = encoder.tokens(input_ids.to(device)), attention_mask.bool().to(device)
    reports = {}
    for layer, block in enumerate(blocks):
        if layer in softmax:
            attention = _from_softmax(softmax[layer])
            inputs = x if block.post else block.attention_norm(x)
            with torch.enable_grad():
                reports[layer] = learn_hashes(attention, inputs, mask, generator=generator)
            block.attention = attention
        x = block(x, mask)
    return reports


def _from_softmax(softmax: SoftmaxAttention) -> BinarizedAttention:
    query, key = softmax.query.weight, softmax.key.weight
    attention = BinarizedAttention(softmax.query.in_features, softmax.heads).to(query)
    attention.value.load_state_dict(softmax.value.state_dict())
    attention.out.load_state_dict(softmax.out.state_dict())
    attention.query_key.weight.copy_(shared_projection(query, key, softmax.heads))
    attention.query_key.bias.zero_()
    return attention


def shared_projection(
    query: Float[Tensor, "width width"], key: Float[Tensor, "width width"], heads: int
) -> Float[Tensor, "width width"]:
    """Give one projection W whose W^T W is nearest to Q^T K in each head, W being as wide as Q.

    Nearest in the Frobenius norm: W^T W is symmetric, positive and of rank d, so it keeps the d
    largest positive eigenvalues of the symmetric part (Q^T K + K^T Q) / 2. W is their square roots
    times the eigenvectors.
    """
    rows = []
    for q, k in zip(query.chunk(heads), key.chunk(heads), strict=True):  # (d, width) each
        product = q.T @ k
        values, vectors = torch.linalg.eigh((product + product.T) / 2)  # ascending
        top = slice(-q.shape[0], None)
        rows.append(values[top].clamp_min(0).sqrt()[:, None] * vectors[:, top].T)
    return torch.cat(rows)
