"""Learn hash functions so that binary codes agree where tokens attend to one another, label-free.

The kernel-supervised hashing of EcoFormer (Liu et al. 2022, arXiv:2209.09004, section 4.2; the
method is Liu et al. 2012, "Supervised Hashing with Kernels"): greedy over bits, each fitted to what
the bits before it left over.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attar.errors import InvalidInput

from .encoders.attention import (
    ANCHORS,
    CODE_BITS,
    BinarizedAttention,
    SoftmaxAttention,
    bandwidth,
    distances,
    gaussian,
)
from .encoders.transformer import TokenTransformer

LABELLED = 256  # tokens of a row whose pairs are labelled: labels cost their number squared


@dataclass(frozen=True, slots=True, kw_only=True)
class Hashing:
    """What the codes are to be: the arguments of BinarizedAttention, and its defaults."""

    bits: int = CODE_BITS
    anchors: int = ANCHORS
    beta: float | None = None
    static_sigma: bool = False


@dataclass(frozen=True, slots=True)
class HashReport:
    """The hard loss of each bit, a mean over heads, where it started and as it was kept."""

    start: tuple[float, ...]
    learned: tuple[float, ...]


def learn_hashes(
    attention: BinarizedAttention,
    x: Float[Tensor, "b n width"],
    mask: Bool[Tensor, "b n"] | None,
    *,
    similar: int = 10,
    steps: int = 100,
    rate: float = 0.1,
    generator: torch.Generator,
) -> HashReport:
    """Set the anchors, kernel means, bandwidths and hash functions of one attention from a batch.

    `x` are the tokens that enter it, `mask` is true where one is real, or None. Of a longer row
    `LABELLED` real tokens are drawn. The codes H are to give H H^T = bits * labels, with
    `similarity_labels` of the `similar` nearest and farthest tokens.
    Bit r lowers -y^T R y, y being its signs (relaxed to a sigmoid) and R what the bits before it
    left, by `steps` of gradient descent with Nesterov momentum; a head keeps them only where its
    loss with hard signs is no higher than at the random start. `generator` lives on the CPU.

    Departures from the authors' code: anchors are drawn from the whole batch and not from its first
    sample, and the rate is 0.1 and not 5e-4, at which the functions hardly move.

    Raises InvalidInput when the batch has fewer real tokens than there are anchors.
    """
    x, mask = _thinned(x, mask, generator=generator)
    with torch.no_grad():
        tokens = attention.tokens(x)  # (b, heads, n, d)
        kernel = _set_anchors(attention, tokens, mask, generator=generator)
        length = mask.sum(-1)[:, None, None, None]
        residual = similarity_labels(tokens, mask, similar=similar) / length  # R / (n bits)
    real = mask[:, None, :].to(kernel.dtype)
    start, learned = [], []
    for bit in range(attention.bits):
        initial = torch.randn(kernel.shape[1], kernel.shape[3], generator=generator).to(kernel)
        descended = _descend(kernel, residual, initial, steps=steps, rate=rate)
        before, after = (_loss(_signs(kernel, f), residual) for f in (initial, descended))
        function = torch.where((after <= before)[:, None], descended, initial)
        attention.hash[:, :, bit] = function
        code = _signs(kernel, function) * real  # padding has no code
        residual = residual - code[..., :, None] * code[..., None, :] / (length * attention.bits)
        start.append(float(before.mean()))
        learned.append(float(torch.minimum(before, after).mean()))
    return HashReport(start=tuple(start), learned=tuple(learned))


def refuse_few_tokens(count: int, *, anchors: int) -> None:
    """Raise InvalidInput for a batch of fewer real tokens than anchors, which are drawn of them."""
    if count < anchors:
        raise InvalidInput(
            f"{anchors} anchors need as many real tokens and the batch has {count}; "
            "pass a larger batch"
        )


def _set_anchors(
    attention: BinarizedAttention,
    tokens: Float[Tensor, "b heads n d"],
    mask: Bool[Tensor, "b n"],
    *,
    generator: torch.Generator,
) -> Float[Tensor, "b heads n m"]:
    """Draw anchors from the real tokens, set bandwidths and means; give the centred kernel.

    Rows of padding are 0. Raises InvalidInput as `learn_hashes` does.
    """
    count, anchors = int(mask.sum()), attention.anchors.shape[1]
    refuse_few_tokens(count, anchors=anchors)
    drawn = torch.randperm(count, generator=generator)[:anchors].to(tokens.device)
    attention.anchors.copy_(tokens.transpose(1, 2)[mask][drawn].transpose(0, 1))
    distance = distances(tokens, attention.anchors)  # (b, heads, n, m)
    own = bandwidth(distance, mask)  # (b, heads, 1, 1)
    attention.sigma.copy_(own.mean(0))
    kernel = gaussian(distance, attention.sigma if attention.static_sigma else own)
    real = mask[:, None, :, None].to(kernel.dtype)
    attention.mean.copy_(((kernel * real).sum((0, 2)) / count)[:, None])
    return (kernel - attention.mean) * real


def _thinned(
    x: Float[Tensor, "b n width"],
    mask: Bool[Tensor, "b n"] | None,
    *,
    generator: torch.Generator,
) -> tuple[Float[Tensor, "b most width"], Bool[Tensor, "b most"]]:
    """Draw at most `LABELLED` tokens of each row, real ones first, in their order."""
    if mask is None:
        mask = torch.ones_like(x[..., 0], dtype=torch.bool)
    if int(mask.sum(-1).max()) <= LABELLED:
        return x, mask
    lot = torch.rand(mask.shape, generator=generator).to(x.device) + mask
    drawn = lot.topk(LABELLED, dim=1).indices.sort(dim=1).values
    rows = torch.arange(len(x), device=x.device)[:, None]
    return x[rows, drawn], mask[rows, drawn]


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
    encoder: nn.Module,
    inputs: Sequence[Tensor],
    *,
    layers: Sequence[int],
    hashing: Hashing | None = None,
    generator: torch.Generator,
) -> dict[int, HashReport]:
    """Swap softmax attention for binarized in `layers` of `encoder`, in place, front to back.

    `encoder` is any module whose `transformer` is the token transformer, and `inputs` are what it
    is called with, one batch. Each layer learns its hashes from the tokens that the layers before
    it, already binarized, give for the batch. Values and output keep their weights; the shared
    query-key projection starts as the best symmetric form of the two (`shared_projection`) and
    without bias. `hashing` is the codes' form, `Hashing()` unless given.

    Raises InvalidInput, before anything is changed, when there is no token transformer, when a
    layer does not exist, does not attend by softmax or has rotary positions, and as `learn_hashes`
    and BinarizedAttention do.
    """
    blocks = transformer_of(encoder).blocks
    hashing = hashing or Hashing()
    swapped: Mapping[int, BinarizedAttention] = {
        layer: _from_softmax(_softmax(encoder, layer), hashing) for layer in layers
    }
    x, mask = _entering(encoder, inputs)
    reports = {}
    for layer, block in enumerate(blocks):
        if layer in swapped:
            inside = x if block.post else block.attention_norm(x)
            with torch.enable_grad():
                reports[layer] = learn_hashes(swapped[layer], inside, mask, generator=generator)
            block.attention = swapped[layer]
        x = block(x, mask)
    return reports


def transformer_of(encoder: nn.Module) -> TokenTransformer:
    """Give the token transformer of an encoder; raises InvalidInput when it has none."""
    transformer = getattr(encoder, "transformer", None)
    if not isinstance(transformer, TokenTransformer):
        raise InvalidInput(
            f"only attar's token transformer can be binarized; {type(encoder).__name__} has none "
            "as its `transformer`"
        )
    return transformer


def _softmax(encoder: nn.Module, layer: int) -> SoftmaxAttention:
    blocks = transformer_of(encoder).blocks
    if not 0 <= layer < len(blocks):
        raise InvalidInput(f"there is no layer {layer}; the encoder has 0 to {len(blocks) - 1}")
    attention = blocks[layer].attention
    if not isinstance(attention, SoftmaxAttention):
        raise InvalidInput(
            f"only softmax attention can be binarized; layer {layer} has {type(attention).__name__}"
        )
    if attention.rotary:
        raise InvalidInput(
            f"layer {layer} has rotary positions, which codes without positions cannot follow; "
            "leave it in softmax"
        )
    return attention


def _entering(encoder: nn.Module, inputs: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """Run the encoder and give the tokens and the mask that enter its transformer."""
    device = next(encoder.parameters()).device
    met: list[tuple[Tensor, Tensor | None]] = []
    transformer = transformer_of(encoder)
    handle = transformer.register_forward_pre_hook(lambda _, entering: met.append(entering))
    try:
        encoder(*(tensor.to(device) for tensor in inputs))
    finally:
        handle.remove()
    return met[0]


def _from_softmax(softmax: SoftmaxAttention, hashing: Hashing) -> BinarizedAttention:
    query, key = softmax.query.weight, softmax.key.weight
    attention = BinarizedAttention(softmax.query.in_features, softmax.heads, **asdict(hashing))
    attention = attention.to(query)
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
