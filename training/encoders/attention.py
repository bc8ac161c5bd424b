"""Attention over tokens, softmax or binarized: one constructor argument of the token transformer.

Both take tokens (b, n, width) with a mask (b, n), true where a token is real, and give (b, n, width).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CODE_BITS = 16  # b of EcoFormer's released code
ANCHORS = 25  # m, likewise


class SoftmaxAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, section 3.2)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mix each row's real tokens; padding is never attended to."""
        q, k, v = (split_heads(project(x), self.heads) for project in (self.query, self.key, self.value))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return self.out(merge_heads(mixed))


class BinarizedAttention(nn.Module):
    """Linear-cost attention between learned binary codes, in EcoFormer's normalised form.

    Liu et al. 2022, "EcoFormer: Energy-Saving Attention with Linear Complexity", arXiv:2209.09004.
    Queries and keys share one projection, l2-normalised per head.  A token's features are its Gaussian
    kernel values k against m anchors, less their mean, and its code is h = sign(A k) in {-1, +1}^b.
    With weights h_i . h_j + beta, all positive because beta > b, every output row is a convex
    combination of values that costs O(n):

        o_i = (h_i (sum_j h_j^T v_j) + beta sum_j v_j) / (h_i . sum_j h_j + n beta)

    The authors' released code adds beta v_i in place of beta sum_j v_j; rows then do not sum to one.
    Anchors, means and hash functions are buffers that `attar.training.hashing` learns, not the task
    loss; the gradient passes the sign where |A k| < 1 (straight-through).
    """

    def __init__(
        self, width: int, heads: int, *, bits: int = CODE_BITS, anchors: int = ANCHORS, beta: float | None = None
    ) -> None:
        super().__init__()
        self.heads = heads
        self.bits = bits
        self.beta = float(bits + 1) if beta is None else beta
        self.query_key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        depth = width // heads
        self.register_buffer("anchors", F.normalize(torch.randn(heads, anchors, depth), dim=-1))
        self.register_buffer("mean", torch.zeros(heads, 1, anchors))
        self.register_buffer("hash", torch.randn(heads, anchors, bits))

    anchors: Tensor
    mean: Tensor
    hash: Tensor

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Mix each row's real tokens at a cost linear in their number."""
        v = split_heads(self.value(x), self.heads)  # (b, heads, n, d)
        h = binary_code(self.kernel(x, mask) @ self.hash)  # (b, heads, n, bits)
        real = mask[:, None, :, None].to(v.dtype)
        v, keys = v * real, h * real
        context = keys.transpose(-1, -2) @ v  # (b, heads, bits, d)
        numerator = h @ context + self.beta * v.sum(-2, keepdim=True)
        denominator = h @ keys.sum(-2)[..., None] + self.beta * real.sum(-2, keepdim=True)
        return self.out(merge_heads(numerator / denominator))

    def tokens(self, x: Tensor) -> Tensor:
        """Give the shared query-key vectors, unit length per head: (b, heads, n, d)."""
        return unit(split_heads(self.query_key(x), self.heads))

    def kernel(self, x: Tensor, mask: Tensor) -> Tensor:
        """Give the centred Gaussian kernel features of every token: (b, heads, n, m)."""
        return gaussian_kernel(self.tokens(x), self.anchors, mask) - self.mean


def gaussian_kernel(tokens: Tensor, anchors: Tensor, mask: Tensor) -> Tensor:
    """Compare unit `tokens` (b, heads, n, d) with unit `anchors` (heads, m, d): (b, heads, n, m).

    The bandwidth is the mean squared distance of the row's real tokens to the anchors, per head.
    """
    distance = 2 - 2 * tokens @ anchors.transpose(-1, -2)
    real = mask[:, None, :, None].to(distance.dtype)
    sigma = (distance * real).sum((-1, -2), keepdim=True) / (real.sum((-1, -2), keepdim=True) * anchors.shape[-2])
    return torch.exp(-distance / (2 * sigma))


def binary_code(y: Tensor) -> Tensor:
    """Take signs, +1 at zero, with the straight-through gradient where |y| < 1."""
    code = torch.where(y >= 0, 1.0, -1.0).to(y.dtype)
    if not y.requires_grad:
        return code
    return code.detach() + y.clamp(-1, 1) - y.clamp(-1, 1).detach()


def unit(x: Tensor) -> Tensor:
    """Scale the last axis to unit length, zero-safe."""
    return x / torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(b, n, heads * d) -> (b, heads, n, d)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Tensor) -> Tensor:
    """(b, heads, n, d) -> (b, n, heads * d)."""
    return x.transpose(1, 2).flatten(-2)
