"""Attention over tokens: softmax, linear or binarized, one constructor argument of the transformer.

All take b rows of n tokens with a mask that is true where a token is real, None where all are, and
give tokens of the same shape; those at padding are finite and mean nothing. Softmax costs O(n^2) a
row, the two others O(n).
"""

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from attar.errors import InvalidInput

FEATURES = 32  # F of MoLFormer
FEATURE_FLOOR = 1e-3  # what every random feature is at least; half precision can square it
ROTARY_BASE = 10_000.0
LONG = 512  # tokens from which torch's fused attention is the better on a CPU too
CODE_BITS = 16  # b of EcoFormer's released code
ANCHORS = 25  # m, likewise


class SoftmaxAttention(nn.Module):
    """Multi-head scaled dot-product attention (Vaswani et al. 2017, arXiv:1706.03762, 3.2).

    `rotary` turns queries and keys by their positions, so that their products depend on distance.
    """

    def __init__(self, width: int, heads: int, *, rotary: bool = False) -> None:
        super().__init__()
        if rotary:
            _refuse_odd_depth(width, heads)
        self.heads = heads
        self.rotary = rotary
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Mix each row's real tokens; padding is never attended to."""
        q = split_heads(self.query(x), self.heads)  # (b, heads, n, d)
        k = split_heads(self.key(x), self.heads)
        v = split_heads(self.value(x), self.heads)
        if self.rotary:
            q, k = rotate(q), rotate(k)
        attended = None if mask is None else mask[:, None, None, :]  # (b, 1, 1, n)
        if x.is_cuda or (not torch.compiler.is_exporting() and x.shape[1] >= LONG):
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=attended)
        else:
            # On a CPU the fused kernel's backward pass was a third of a training step, and this
            # is 25 % less work in all at n = 64; it also exports without the kernel's NaN guards.
            logits = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])  # (b, heads, n, n)
            if attended is not None:
                logits = logits.masked_fill(~attended, -math.inf)
            mixed = logits.softmax(-1).to(v.dtype) @ v
        out: Tensor = self.out(merge_heads(mixed))
        return out


class LinearAttention(nn.Module):
    """Linear-cost attention between random features of rotated queries and keys, as in MoLFormer.

    Ross et al. 2022, "Large-Scale Chemical Language Representations Capture Molecular Structure
    and Properties", arXiv:2106.09553; features as Katharopoulos et al. 2020 (arXiv:2006.16236)
    allow. With R_i the rotation of position i (`rotate`) and phi(x) = ReLU(x omega) + a floor:

        o_i = phi(R_i q_i) (sum_j phi(R_j k_j) v_j^T) / (phi(R_i q_i) . sum_j phi(R_j k_j))

    omega is (d, features), Gaussian columns orthogonal in blocks of d (`orthogonal_features`). It
    is drawn from torch's global generator as weights are, is saved with them and never drawn again;
    the authors' code draws it at every call, inference included. Their floor is zero, so a token
    that no feature fires for comes out as zeros; with ours it is the mean of the values.
    Raises InvalidInput when the depth d of a head is odd, since rotation turns pairs.
    """

    omega: Float[Tensor, "d features"]

    def __init__(self, width: int, heads: int, *, features: int = FEATURES) -> None:
        super().__init__()
        _refuse_odd_depth(width, heads)
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.register_buffer("omega", orthogonal_features(width // heads, features))

    def forward(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Mix each row's real tokens at a cost linear in their number."""
        q = self.features(split_heads(self.query(x), self.heads))  # (b, heads, n, features)
        k = self.features(split_heads(self.key(x), self.heads))
        v = split_heads(self.value(x), self.heads)  # (b, heads, n, d)
        if mask is not None:
            k = k * mask[:, None, :, None].to(k.dtype)
        context = k.transpose(-1, -2) @ v  # (b, heads, features, d)
        mixed = q @ context / (q @ k.sum(-2)[..., None])
        out: Tensor = self.out(merge_heads(mixed))
        return out

    def features(self, x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n features"]:
        """Give the positive features phi of vectors at positions 0 to n - 1."""
        return torch.relu(rotate(x) @ self.omega) + FEATURE_FLOOR


def rotate(x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b heads n d"]:
    """Turn the vector at position i by i: coordinates c and c + d / 2 by i * 10000^(-2 c / d).

    Rotary positions (Su et al. 2021, arXiv:2104.09864): lengths are kept, and the product of two
    turned vectors depends on their positions through the difference only.
    """
    half = x.shape[-1] // 2
    wide = torch.promote_types(x.dtype, torch.float32)  # half precision cannot count to 4096
    rate = ROTARY_BASE ** (-torch.arange(half, device=x.device, dtype=wide) / half)
    angle = torch.arange(x.shape[-2], device=x.device, dtype=wide)[:, None] * rate  # (n, d / 2)
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def orthogonal_features(depth: int, features: int) -> Float[Tensor, "depth features"]:
    """Draw Gaussian columns that are orthogonal in blocks of `depth`, each as long as a Gaussian.

    Yu et al. 2016, "Orthogonal Random Features", arXiv:1610.09072: directions cover the space more
    evenly than independent ones.
    """
    blocks = -(-features // depth)
    gaussian = torch.randn(blocks, depth, depth)
    directions, upper = torch.linalg.qr(gaussian)
    fair = upper.diagonal(dim1=1, dim2=2).sign()  # or some directions would be likelier
    columns: Tensor = directions * (fair * gaussian.norm(dim=1))[:, None]
    return columns.transpose(0, 1).flatten(1)[:, :features]


def _refuse_odd_depth(width: int, heads: int) -> None:
    if width // heads % 2:
        raise InvalidInput(
            f"rotary positions turn pairs of coordinates, so a head's depth must be even; got "
            f"width {width} over {heads} heads"
        )


class BinarizedAttention(nn.Module):
    """Linear-cost attention between learned binary codes, in EcoFormer's normalised form.

    Liu et al. 2022, "EcoFormer: Energy-Saving Attention with Linear Complexity", arXiv:2209.09004.
    Queries and keys share one projection, of unit length per head. A token's features are its
    Gaussian kernel values k against m anchors, less their mean, and its code is h = sign(A k) in
    {-1, +1}^bits. With weights h_i . h_j + beta, all positive because beta > bits, every output
    row is a convex combination of values that costs O(n):

        o_i = (h_i . sum_j h_j v_j^T + beta sum_j v_j) / (h_i . sum_j h_j + n beta)

    The authors' released code adds beta v_i in place of beta sum_j v_j, so that its rows do not sum
    to one: `bias` "own" does as they did, for weights that they released, and "all" is the formula.
    Anchors, means, bandwidths and hash functions are buffers that `attar.training.hashing` learns,
    not the task loss; the gradient passes the sign where |A k| < 1 (straight-through). The kernel's
    bandwidth is each row's own, as in the paper, or with `static_sigma` the mean of those that the
    hashes were learned from, which takes a reduction over the tokens out of the graph. `beta` is
    bits + 1 unless given; a greater one makes attention softer. Raises InvalidInput when it is not
    above `bits`.
    """

    anchors: Float[Tensor, "heads m d"]
    mean: Float[Tensor, "heads 1 m"]
    sigma: Float[Tensor, "heads 1 1"]
    hash: Float[Tensor, "heads m bits"]

    def __init__(
        self,
        width: int,
        heads: int,
        *,
        bits: int = CODE_BITS,
        anchors: int = ANCHORS,
        beta: float | None = None,
        static_sigma: bool = False,
        bias: Literal["all", "own"] = "all",
    ) -> None:
        super().__init__()
        self.heads = heads
        self.bits = bits
        self.beta = float(bits + 1) if beta is None else beta
        self.static_sigma = static_sigma
        self.bias = bias
        if self.beta <= bits:
            raise InvalidInput(
                f"beta must be greater than the {bits} bits, for weights to be positive; got {beta}"
            )
        if bias not in ("all", "own"):
            raise InvalidInput(f"bias must be 'all' or 'own'; got {bias!r}")
        self.query_key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.register_buffer("anchors", unit(torch.randn(heads, anchors, width // heads)))
        self.register_buffer("mean", torch.zeros(heads, 1, anchors))
        self.register_buffer("sigma", torch.full((heads, 1, 1), 2.0))  # of unrelated directions
        self.register_buffer("hash", torch.randn(heads, anchors, bits))

    def forward(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b n width"]:
        """Mix each row's real tokens at a cost linear in their number."""
        h = binary_code(self.kernel(x, mask) @ self.hash)  # (b, heads, n, bits)
        v = split_heads(self.value(x), self.heads)  # (b, heads, n, d)
        count: Tensor | int
        if mask is None:
            ones, count = h.sum(-2), x.shape[1]  # (b, heads, bits)
        else:
            real = mask[:, None, :, None].to(x.dtype)  # (b, 1, n, 1)
            v = v * real
            ones, count = (h * real).sum(-2), real.sum(-2, keepdim=True)
        context = h.transpose(-1, -2) @ v  # (b, heads, bits, d)
        added = v if self.bias == "own" else v.sum(-2, keepdim=True)
        numerator = h @ context + self.beta * added
        denominator = h @ ones[..., None] + self.beta * count
        out: Tensor = self.out(merge_heads(numerator / denominator))
        return out

    def tokens(self, x: Float[Tensor, "b n width"]) -> Float[Tensor, "b heads n d"]:
        """Give the vectors that are both query and key, of unit length in each head."""
        return unit(split_heads(self.query_key(x), self.heads))

    def kernel(
        self, x: Float[Tensor, "b n width"], mask: Bool[Tensor, "b n"] | None
    ) -> Float[Tensor, "b heads n m"]:
        """Give the centred Gaussian kernel features of every token."""
        distance = distances(self.tokens(x), self.anchors)
        sigma = self.sigma if self.static_sigma else bandwidth(distance, mask)
        return gaussian(distance, sigma) - self.mean


def distances(
    tokens: Float[Tensor, "b heads n d"], anchors: Float[Tensor, "heads m d"]
) -> Float[Tensor, "b heads n m"]:
    """Give squared distances D from unit tokens to unit anchors."""
    return 2 - 2 * tokens @ anchors.transpose(-1, -2)


def bandwidth(
    distance: Float[Tensor, "b heads n m"], mask: Bool[Tensor, "b n"] | None
) -> Float[Tensor, "b heads 1 1"]:
    """Give sigma, the mean of D over a row's real tokens and all anchors, for each head."""
    if mask is None:
        return distance.mean((-1, -2), keepdim=True)
    real = mask[:, None, :, None].to(distance.dtype)
    compared = real.sum((-1, -2), keepdim=True) * distance.shape[-1]
    return (distance * real).sum((-1, -2), keepdim=True) / compared


def gaussian(
    distance: Float[Tensor, "b heads n m"], sigma: Float[Tensor, "... heads 1 1"]
) -> Float[Tensor, "b heads n m"]:
    """Give exp(-D / (2 sigma))."""
    return torch.exp(distance / (-2 * sigma))


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
    """Split the width into heads of equal depth d."""
    return torch.unflatten(x, -1, (heads, -1)).transpose(1, 2)


def merge_heads(x: Float[Tensor, "b heads n d"]) -> Float[Tensor, "b n width"]:
    """Undo `split_heads`."""
    return x.transpose(1, 2).flatten(-2)
