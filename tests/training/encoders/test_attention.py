"""Attention mixes real tokens only, by its formulas, in torch and in ONNX Runtime alike."""

import math
from typing import Literal

import numpy as np
import onnxruntime
import pytest
import torch
from jaxtyping import TypeCheckError
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.export.text import text_graph
from attar.training.data.text import pad
from attar.training.encoders.attention import (
    FEATURE_FLOOR,
    LONG,
    BinarizedAttention,
    LinearAttention,
    SoftmaxAttention,
    bandwidth,
    binary_code,
    distances,
)
from attar.training.encoders.text import TextEncoder
from attar.training.hashing import binarize
from benchmarks.support.encoders import ATTENTIONS, random_rows, tiny_encoder

from ...support.checked import checked
from ...support.graphs import encoder_graph

every_attention = pytest.mark.parametrize("name", ATTENTIONS)
WIDTH, HEADS, DEPTH = 12, 3, 4


def seeded(name: str, *, seed: int = 0) -> nn.Module:
    """Give a float64 attention."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return ATTENTIONS[name](WIDTH, HEADS).double()


def binarized(
    *,
    bits: int = 16,
    beta: float | None = None,
    static_sigma: bool = False,
    bias: Literal["all", "own"] = "all",
) -> BinarizedAttention:
    """Give a float64 attention whose output is the mixed values themselves."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        attention = BinarizedAttention(
            WIDTH, HEADS, bits=bits, anchors=8, beta=beta, static_sigma=static_sigma, bias=bias
        ).double()
    attention.load_state_dict(
        attention.state_dict()
        | {"out.weight": torch.eye(WIDTH).double(), "out.bias": torch.zeros(WIDTH).double()}
    )
    return attention


def batch(*lengths: int, seed: int = 1) -> tuple[Tensor, Tensor]:
    """Give tokens of the widest length, noise at padding too, and their mask."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(len(lengths), max(lengths), WIDTH, generator=draw, dtype=torch.float64)
    return x, torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]


def codes(attention: BinarizedAttention, x: Tensor, mask: Tensor) -> Tensor:
    return binary_code(attention.kernel(x, mask) @ attention.hash)


def weights(attention: BinarizedAttention, x: Tensor, mask: Tensor) -> Tensor:
    """Give the attention of every token to every real one, the quadratic way: (b, heads, n, n)."""
    h = codes(attention, x, mask)
    positive = (h @ h.transpose(-1, -2) + attention.beta) * mask[:, None, None, :]
    return positive / positive.sum(-1, keepdim=True)


def linear(layer: nn.Linear, row: Tensor) -> list[float]:
    return [
        bias + sum(w * x for w, x in zip(line, row.tolist(), strict=True))
        for line, bias in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)
    ]


def test_softmax_attention_is_its_formula_in_loops() -> None:
    attention = seeded("softmax")
    assert isinstance(attention, SoftmaxAttention)
    (x,), mask = batch(5)
    q, k, v = (
        [linear(layer, row) for row in x]
        for layer in (attention.query, attention.key, attention.value)
    )
    expected = []
    for i in range(5):
        mixed: list[float] = []
        for head in range(HEADS):
            span = range(head * DEPTH, (head + 1) * DEPTH)
            logits = [sum(q[i][c] * k[j][c] for c in span) / math.sqrt(DEPTH) for j in range(5)]
            total = sum(math.exp(logit) for logit in logits)
            mixed += [
                sum(math.exp(logit) / total * v[j][c] for j, logit in enumerate(logits))
                for c in span
            ]
        expected.append(linear(attention.out, torch.tensor(mixed, dtype=torch.float64)))
    torch.testing.assert_close(attention(x[None], mask)[0], torch.tensor(expected).double())


@every_attention
def test_padding_never_changes_a_row(name: str) -> None:
    attention = seeded(name)
    x, mask = batch(7, 3, 1, 5)
    together = attention(x, mask)
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = attention(x[row : row + 1, :length], mask[row : row + 1, :length])
        torch.testing.assert_close(together[row, :length], alone[0], rtol=0, atol=1e-12)


@every_attention
def test_a_row_is_the_same_alone_and_in_a_padded_batch_through_the_whole_encoder(name: str) -> None:
    encoder = tiny_encoder(attention=ATTENTIONS[name]).double()
    rows = random_rows(12)
    together = encoder(*pad(rows))
    alone = torch.cat([encoder(*pad([row])) for row in rows])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-12)


@every_attention
def test_what_stands_at_padding_is_never_read(name: str) -> None:
    encoder = tiny_encoder(attention=ATTENTIONS[name])
    ids, mask = pad(random_rows(6))
    assert torch.equal(encoder(ids, mask), encoder(ids.where(mask.bool(), 7), mask))


def test_codes_agree_as_their_hamming_distance_says() -> None:
    attention = binarized(bits=11)
    h = codes(attention, *batch(9, 4))
    assert set(h.flatten().tolist()) == {-1.0, 1.0}
    hamming = (h[..., :, None, :] != h[..., None, :, :]).sum(-1)
    assert torch.equal(h @ h.transpose(-1, -2), (11 - 2 * hamming).double())


@pytest.mark.parametrize("bits", [4, 16])
def test_the_linear_form_is_the_quadratic_form(bits: int) -> None:
    attention = binarized(bits=bits)
    x, mask = batch(9, 4, 1)
    v = attention.value(x).unflatten(-1, (HEADS, DEPTH)).transpose(1, 2)
    quadratic = (weights(attention, x, mask) @ v).transpose(1, 2).flatten(-2)
    difference = (attention(x, mask) - quadratic)[mask]
    assert difference.abs().max() < 1e-12


def test_released_weights_get_their_own_bias_as_they_were_trained() -> None:
    attention = binarized(bias="own")
    x, mask = batch(9, 4)
    h = codes(attention, x, mask)
    real = mask[:, None, :, None].double()
    v = attention.value(x).unflatten(-1, (HEADS, DEPTH)).transpose(1, 2) * real
    alike = h @ (h * real).transpose(-1, -2)  # (b, heads, n, n)
    total = (alike + attention.beta * real.transpose(-1, -2)).sum(-1, keepdim=True)
    theirs = ((alike @ v + attention.beta * v) / total).transpose(1, 2).flatten(-2)
    torch.testing.assert_close(attention(x, mask)[mask], theirs[mask])
    # Their rows do not sum to one: values that are one come out as much less.
    sums = ((alike.sum(-1, keepdim=True) + attention.beta) / total)[mask[:, None].expand(2, 3, 9)]
    assert sums.max() < 0.9


def test_a_static_bandwidth_makes_a_tokens_code_its_own() -> None:
    row, static = binarized(), binarized(static_sigma=True)
    x, mask = batch(12)
    with torch.no_grad():
        static.sigma.copy_(bandwidth(distances(row.tokens(x), row.anchors), mask)[0])
    torch.testing.assert_close(static(x, mask), row(x, mask))

    few = mask & (torch.arange(12) < 5)
    assert torch.equal(static.kernel(x, few)[:, :, :5], static.kernel(x, mask)[:, :, :5])
    assert not torch.equal(row.kernel(x, few)[:, :, :5], row.kernel(x, mask)[:, :, :5])


def turned(x: Tensor, positions: Tensor) -> Tensor:
    """Rotate by complex numbers: coordinate c is real, c + d / 2 imaginary."""
    half = x.shape[-1] // 2
    turn = positions[:, None] * 10_000 ** (-torch.arange(half).double() / half)
    z = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(turn), turn)
    return torch.cat([z.real, z.imag], -1)


def quadratic(attention: LinearAttention, x: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
    """Attend the quadratic way, every token being at a position of its own."""
    q, k, v = (
        layer(x).unflatten(-1, (-1, x.shape[-1] // attention.heads)).transpose(1, 2)
        for layer in (attention.query, attention.key, attention.value)
    )
    q, k = (torch.relu(turned(y, positions) @ attention.omega) + FEATURE_FLOOR for y in (q, k))
    positive = (q @ k.transpose(-1, -2)) * mask[:, None, None, :]
    mixed = positive / positive.sum(-1, keepdim=True) @ v
    out: Tensor = attention.out(mixed.transpose(1, 2).flatten(-2))
    return out


def test_linear_attention_is_its_quadratic_form() -> None:
    attention = seeded("linear")
    assert isinstance(attention, LinearAttention)
    x, mask = batch(9, 4, 1)
    difference = attention(x, mask) - quadratic(attention, x, mask, torch.arange(9.0).double())
    assert difference[mask].abs().max() < 1e-12


def test_an_order_is_known_through_rotation_alone() -> None:
    attention = seeded("linear")
    assert isinstance(attention, LinearAttention)
    x, mask = batch(9)
    order = torch.randperm(9, generator=torch.Generator().manual_seed(0))
    shuffled = x[:, order]
    # Each token takes its position along: nothing else tells the order.
    moved = quadratic(attention, shuffled, mask, order.double())
    torch.testing.assert_close(moved, attention(x, mask)[:, order])
    assert (attention(shuffled, mask) - moved).abs().max() > 1e-4
    for name in ("softmax", "binarized"):
        plain = seeded(name)
        torch.testing.assert_close(plain(shuffled, mask), plain(x, mask)[:, order])


def after(attention: nn.Module, x: Tensor, gap: int) -> Tensor:
    """Attend behind a gap of padding, which shifts every position."""
    padded = torch.cat([torch.ones_like(x[:, :1]).expand(-1, gap, -1), x], 1)
    mask = (torch.arange(padded.shape[1]) >= gap)[None]
    out: Tensor = attention(padded, mask)[:, gap:]
    return out


def test_rotary_softmax_knows_distances_only_and_linear_attention_nearly() -> None:
    x, mask = batch(20)
    softmax, linear_ = seeded("rotary"), seeded("linear")
    torch.testing.assert_close(after(softmax, x, 7), softmax(x, mask), rtol=0, atol=1e-12)
    moved = after(linear_, x, 7) - linear_(x, mask)
    relative = (moved.norm() / linear_(x, mask).norm()).item()
    assert 1e-6 < relative < 0.2  # 0.1 to 0.14 with gaps of 1 to 50


def test_a_token_that_no_feature_fires_for_gets_the_mean_of_the_values() -> None:
    attention = seeded("linear")
    assert isinstance(attention, LinearAttention)
    for layer in (attention.query, attention.key):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    x, mask = batch(6, 2)
    for row, length in ((0, 6), (1, 2)):
        mean = attention.out(attention.value(x[row, :length]).mean(0)).expand(length, WIDTH)
        torch.testing.assert_close(attention(x, mask)[row, :length], mean)


def test_random_features_are_orthogonal_in_blocks_drawn_once_and_saved() -> None:
    attention = seeded("linear")
    assert isinstance(attention, LinearAttention)
    assert attention.omega.shape == (DEPTH, 32)
    for block in torch.unflatten(attention.omega, 1, (-1, DEPTH)).transpose(0, 1):
        products = block.T @ block
        assert (products - products.diagonal().diag()).abs().max() < 1e-5
    assert "omega" in attention.state_dict()
    assert "omega" not in dict(attention.named_parameters())
    x, mask = batch(6)
    assert torch.equal(attention.train()(x, mask), attention.eval()(x, mask))


@pytest.mark.parametrize("name", ["rotary", "linear"])
def test_rotary_positions_need_pairs_of_coordinates(name: str) -> None:
    with pytest.raises(InvalidInput, match="must be even; got width 9 over 3 heads"):
        ATTENTIONS[name](9, 3)


@every_attention
def test_no_mask_says_that_every_token_is_real(name: str) -> None:
    attention = seeded(name)
    x, mask = batch(7, 7)
    torch.testing.assert_close(attention(x, None), attention(x, mask), rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", ["softmax", "rotary"])
def test_long_rows_are_attended_to_as_short_ones(name: str) -> None:
    attention = seeded(name)
    x, mask = batch(LONG, 5)
    torch.testing.assert_close(attention(x, mask)[1, :5], attention(x[1:, :5], mask[1:, :5])[0])


def test_every_weight_is_positive_and_their_ratio_is_bounded_by_beta() -> None:
    attention = binarized(bits=8)
    assert attention.beta == 9
    x, mask = batch(40)
    drawn = weights(attention, x, mask)
    assert drawn.min() > 0
    ratio = drawn.amax(-1) / drawn.amin(-1)
    assert (ratio <= (9 + 8) / (9 - 8) + 1e-9).all()
    torch.testing.assert_close(drawn.sum(-1), torch.ones_like(drawn[..., 0]))


def test_values_that_are_constant_come_out_as_they_are() -> None:
    attention = binarized()
    constant = torch.linspace(-2, 3, WIDTH).double()
    nn.init.zeros_(attention.value.weight)
    attention.value.bias.data.copy_(constant)
    x, mask = batch(6, 2)
    torch.testing.assert_close(attention(x, mask)[mask], constant.expand(8, WIDTH))


def test_a_great_beta_gives_the_mean_of_the_real_values() -> None:
    attention = binarized(beta=1e12)
    x, mask = batch(6, 2)
    for row, length in ((0, 6), (1, 2)):
        mean = attention.value(x[row, :length]).mean(0).expand(length, WIDTH)
        torch.testing.assert_close(attention(x, mask)[row, :length], mean)


@pytest.mark.parametrize("beta", [16.0, 3.0, -1.0])
def test_a_beta_that_could_make_weights_negative_is_refused(beta: float) -> None:
    with pytest.raises(InvalidInput, match=rf"greater than the 16 bits.*got {beta}"):
        BinarizedAttention(WIDTH, HEADS, bits=16, beta=beta)


def test_the_gradient_passes_a_sign_inside_one_and_nowhere_else() -> None:
    y = torch.tensor([-5.0, -1.01, -0.99, -1e-9, 0.0, 0.3, 0.99, 1.01, 5.0], requires_grad=True)
    code = binary_code(y)
    assert code.tolist() == [-1, -1, -1, -1, 1, 1, 1, 1, 1]
    pull = torch.arange(1.0, 10.0)
    (gradient,) = torch.autograd.grad(code, y, pull)
    assert torch.equal(gradient, pull * (y.abs() < 1))


def test_codes_in_training_are_the_codes_in_evaluation() -> None:
    y = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    assert torch.equal(binary_code(y.clone().requires_grad_()), binary_code(y))


def test_the_task_trains_the_shared_projection_and_no_hash() -> None:
    attention = binarized()
    x, mask = batch(6, 2)
    attention(x, mask).square().sum().backward()
    gradient = attention.query_key.weight.grad
    assert gradient is not None
    assert gradient.abs().max() > 0
    learned = {name for name, _ in attention.named_parameters()}
    assert not learned & {"anchors", "mean", "hash"}
    assert {"anchors", "mean", "hash"} <= set(attention.state_dict())


def undecided(encoder: TextEncoder, ids: Tensor, mask: Tensor) -> Tensor:
    """Mark rows in which some bit of some layer is so near its threshold that rounding flips it."""
    x, real = encoder.tokens(ids), mask.bool()
    near = torch.zeros(len(ids), dtype=torch.bool)
    for block in encoder.transformer.blocks:
        attention = block.attention
        if isinstance(attention, BinarizedAttention):
            response = attention.kernel(x, real) @ attention.hash  # (b, heads, n, bits)
            near |= ((response.abs() < 1e-6) & real[:, None, :, None]).flatten(1).any(1)
        x = block(x, real)
    return near


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in {"softmax", "binarized"}))
        for name in (*ATTENTIONS, "hashed")
    ],
)
def test_onnx_runtime_gives_what_torch_gives(name: str) -> None:
    encoder = tiny_encoder(attention=ATTENTIONS.get(name, SoftmaxAttention))
    if name == "hashed":
        draw = torch.Generator().manual_seed(0)
        binarize(encoder, pad(random_rows(8, seed=1)), layers=(0, 1), generator=draw)
    graph = text_graph(encoder) if name == "hashed" else encoder_graph(name)
    session = onnxruntime.InferenceSession(graph)
    ids, mask = pad(random_rows(200, length=(0, 14), seed=2))
    with torch.no_grad():
        ours = encoder(ids, mask).numpy()
        flips = undecided(encoder, ids, mask).numpy()
    feed = {"input_ids": ids.numpy(), "attention_mask": mask.numpy()}
    (theirs,) = session.run(["embedding"], feed)
    assert flips.mean() <= 0.02
    np.testing.assert_allclose(theirs[~flips], ours[~flips], rtol=0, atol=2e-6)


def test_the_annotated_shapes_are_true() -> None:
    names = [f"attar.training.encoders.{name}" for name in ("attention", "transformer", "text")]
    with checked([*names, "attar.training.hashing"]) as modules:
        attention, transformer, text, hashing = modules.values()
    plain = tiny_encoder()
    encoder = text.TextEncoder(
        text.TextConfig(
            vocabulary=plain.shape.vocabulary,
            max_length=16,
            rank=3,
            dim=5,
            transformer=transformer.TransformerConfig(width=16, depth=2, heads=4, hidden=32),
        )
    )
    ids, mask = pad(random_rows(8))
    assert encoder(ids, mask).shape == (8, 5)
    draw = torch.Generator().manual_seed(0)
    settings = hashing.Hashing(static_sigma=True)
    hashing.binarize(encoder, (ids, mask), layers=(1,), hashing=settings, generator=draw)
    assert encoder(ids, mask).shape == (8, 5)
    x = torch.randn(2, 7, 16)
    assert attention.LinearAttention(16, 4)(x, None).shape == (2, 7, 16)
    with pytest.raises(TypeCheckError):
        encoder(ids, mask[:, 1:])
    with pytest.raises(TypeCheckError):
        encoder(ids.float(), mask)
