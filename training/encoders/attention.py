"""Attention over tokens, softmax or binarized: one constructor argument of the token transformer.

Both take b rows of n tokens with a mask that is true where a token is real, and give tokens of the
same shape; those at padding are finite and mean nothing.
"""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

CODE_BITS = 16  # b of EcoFormer's released code
ANCHORS = 25  # m, likewise


class SoftmaxAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n width"]:
        """Mix each row's real tokens; padding is never attended to."""
        q = split_heads(self.query(x), self.heads)  # (b, heads, n, d)
        k = split_heads(self.key(x), self.heads)
        v = split_heads(self.value(x), self.heads)
        attended = mask[:, None, None, :]  # (b, 1, 1, n)
        if x.is_cuda:
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attended)
        else:
            # On a CPU the fused kernel's backward pass was a third of a training step, and this
            # is 25 % less work in all at n = 64; it also exports without the kernel's NaN guards.
            logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (b, heads, n, n)
            weights = logits.masked_fill(~attended, -math.inf).softmax(-1)
            mixed = weights.to(v.dtype) @ v
        out: Tensor = self.out(merge_heads(mixed))
        return out


class BinarizedAttention(nn.Module):
    """Linear-cost attention between learned binary codes, in EcoFormer's normalised form.

    Liu et al. 2022, "EcoFormer: Energy-Saving Attention with Linear Complexity", arXiv:2209.09004.
    Queries and keys share one projection, of unit length per head. A token's features are its
    Gaussian kernel values k against m anchors, less their mean, and its code is h = sign(A k) in
    {-1, +1}^bits. With weights h_i . h_j + beta, all positive because beta > bits, every output
    row is a convex combination of values that costs O(n):

        o_i = (h_i . sum_j h_j v_j^T + beta sum_j v_j) / (h_i . sum_j h_j + n beta)

    The authors' released code adds beta v_i in place of beta sum_j v_j; its rows do not sum to one.
    Anchors, means and hash functions are buffers that `attar.training.hashing` learns, not the task
    loss; the gradient passes the sign where |A k| < 1 (straight-through). `beta` is bits + 1 unless
    given; a greater one makes attention softer. Raises InvalidInput when it is not above `bits`.
    """

    anchors: Float[Tensor, "heads m d"]
    mean: Float[Tensor, "heads 1 m"]
    hash: Float[Tensor, "heads m bits"]

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        bits: int = CODE_BITS,
        anchors: int = ANCHORS,
        beta: float | None = None,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.bits = bits
        self.beta = float(bits + 1) if beta is None else beta
        if self.beta <= bits:
            raise InvalidInput(
                f"beta must be greater than the {bits} bits, for weights to be positive; got {beta}"
            )
        self.query_key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.register_buffer("anchors", unit(torch.randn(heads, anchors, width // heads)))
        self.register_buffer("mean", torch.zeros(heads, 1, anchors))
        self.register_buffer("hash", torch.randn(heads, anchors, bits))

    def forward(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b n width"]:
        """Mix each row's real tokens at a cost linear in their number."""
        real = mask[:, None, :, None].to(x.dtype)  # (b, 1, n, 1)
        h = binary_code(self.kernel(x, mask) @ self.hash)  # (b, heads, n, bits)
        v = split_heads(self.value(x), self.heads) * real  # (b, heads, n, d)
        keys = h * real
        context = keys.transpose(-1, -2) @ v  # (b, heads, bits, d)
        numerator = h @ context + self.beta * v.sum(-2, keepdim=True)
        denominator = h @ keys.sum(-2)[..., None] + self.beta * real.sum(-2, keepdim=True)
        out: Tensor = self.out(merge_heads(numerator / denominator))
        return out

    def tokens(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b heads n d"]:
        """Give the vectors that are query and key at once, of unit length per head."""
        return unit(split_heads(self.query_key(x), self.heads))

    def kernel(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"]
    ) -> Float[Tensor, "b heads n m"]:
        """Give the centred Gaussian kernel features of every token."""
        return gaussian_kernel(self.tokens(x), self.anchors, mask) - self.mean


def gaussian_kernel(
    tokens: Float[Tensor, "b heads n d"],
    anchors: Float[Tensor, "heads m d"],
    mask: Bool[Tensor, "b n"],
) -> Float[Tensor, "b heads n m"]:
    """Give exp(-D / (2 sigma)), D being squared distances from unit tokens to unit anchors.

    The bandwidth sigma is the mean of D over a row's real tokens and all anchors, for each head.
    """
    distance = 2 - 2 * tokens @ anchors.transpose(-1, -2)
    real = mask[:, None, :, None].to(distance.dtype)
    compared = real.sum((-1, -2), keepdim=True) * anchors.shape[-2]
    sigma = (distance * real).sum((-1, -2), keepdim=True) / compared  # (b, heads, 1, 1)
    return torch.exp(-distance / (2 * sigma))


def binary_code(y: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Take signs, +1 at zero; the gradient is that of y where |y| < 1 and 0 beyond."""
    code = torch.where(y >= 0, 1.0, -1.0).to(y.dtype)
    if not y.requires_grad:
        return code
    passed = y.clamp(-1, 1)
    return code + (passed - passed.detach())  # exactly the code: what is added is zero


def unit(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Scale the last axis to unit length; zeros stay zeros."""
    length: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / length.clamp_min(1e-12)


def split_heads(x: Float[Tensor, "b n width"], heads: int) -> Float[Tensor, "b heads n d"]:
    """Part the width into heads of equal depth d."""
    return torch.unflatten(x, -1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b n width"]:
    """Undo `split_heads`."""
    return x.transpose(1, 2).flatten(-2)
