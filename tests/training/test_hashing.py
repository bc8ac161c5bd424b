"""Hash functions are learned bit by bit, never for the worse, and codes follow attention."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.training.binarizing import Conversion, convert
from attar.training.data.text import pad
from attar.training.encoders.attention import BinarizedAttention, binary_code, unit
from attar.training.encoders.series import SeriesConfig, SeriesEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.hashing import (
    LABELLED,
    Hashing,
    HashReport,
    binarize,
    learn_hashes,
    shared_projection,
    similarity_labels,
)
from attar.training.probes.text_retrieval import embed
from benchmarks.support.encoders import ATTENTIONS, random_rows, tiny_encoder

TOKENS, DEPTH, CLUSTERS = 196, 32, 8


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def clustered(*, seed: int) -> tuple[Tensor, Tensor]:
    """Give two batches (1, n, d) of unit tokens around the same centres, one held out."""
    draw = generator(seed)
    centres = torch.randn(CLUSTERS, DEPTH, generator=draw)
    places = torch.randint(CLUSTERS, (2, TOKENS), generator=draw)
    noise = torch.randn(2, TOKENS, DEPTH, generator=draw)
    tokens = unit(centres[places] + noise)
    return tokens[:1], tokens[1:]


def one_head(*, bits: int) -> BinarizedAttention:
    """Give an attention whose tokens are its inputs."""
    attention = BinarizedAttention(DEPTH, 1, bits=bits)
    nn.init.eye_(attention.query_key.weight)
    nn.init.zeros_(attention.query_key.bias)
    return attention


def learn(
    attention: BinarizedAttention, x: Tensor, *, steps: int = 100, rate: float = 0.1, seed: int
) -> HashReport:
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    return learn_hashes(attention, x, mask, steps=steps, rate=rate, generator=generator(seed))


def correlation(codes: Tensor, tokens: Tensor) -> float:
    """Correlate the codes' agreement with the tokens' inner products, over all pairs of tokens."""
    pairs = ~torch.eye(len(tokens), dtype=torch.bool)
    agreement, product = (codes @ codes.T)[pairs], (tokens @ tokens.T)[pairs]
    return float(torch.corrcoef(torch.stack([agreement, product]))[0, 1])


def kernel_codes(attention: BinarizedAttention, x: Tensor) -> Tensor:
    mask = torch.ones(x.shape[:2], dtype=torch.bool)
    with torch.no_grad():
        return binary_code(attention.kernel(x, mask) @ attention.hash)[0, 0]


@pytest.mark.parametrize("seed", range(3))
def test_no_bit_is_kept_at_a_higher_loss_than_it_started_from(seed: int) -> None:
    report = learn(one_head(bits=8), clustered(seed=seed)[0], seed=seed)
    assert len(report.start) == len(report.learned) == 8
    assert all(after <= before for before, after in zip(report.start, report.learned, strict=True))
    assert sum(report.learned) < sum(report.start)


@pytest.mark.parametrize("rate", [0.1, 1e4])  # the second overshoots, so that starts are kept
def test_the_reported_losses_are_those_of_the_codes_that_were_kept(rate: float) -> None:
    bits = 5
    attention = one_head(bits=bits)
    x, _ = clustered(seed=0)
    report = learn(attention, x, rate=rate, seed=0)
    h = kernel_codes(attention, x).double()
    product = (x @ x.transpose(-1, -2))[0]
    residual = np.zeros((TOKENS, TOKENS))
    for i, row in enumerate(product.tolist()):
        order = sorted(range(TOKENS), key=row.__getitem__)
        residual[i, order[:10]], residual[i, order[-10:]] = -bits, bits
    for bit, reported in enumerate(report.learned):
        y = h[:, bit].numpy()
        assert reported == pytest.approx(-(y @ residual @ y) / (TOKENS * bits), rel=1e-4)
        residual -= np.outer(y, y)


def test_learning_is_the_same_for_the_same_seed_and_leaves_the_global_one_alone() -> None:
    x, _ = clustered(seed=0)
    state = torch.get_rng_state()
    one, other, third = (copy.deepcopy(one_head(bits=4)) for _ in range(3))
    torch.set_rng_state(state)
    for attention, seed in ((one, 5), (other, 5), (third, 6)):
        learn(attention, x, seed=seed)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one.hash, other.hash)
    assert not torch.equal(one.hash, third.hash)


def test_padding_teaches_nothing() -> None:
    x, _ = clustered(seed=0)
    one, other = one_head(bits=4), one_head(bits=4)
    padded = torch.cat([x, 100 * torch.ones_like(x)], dim=1)
    mask = torch.arange(2 * TOKENS)[None] < TOKENS
    learn(one, x, seed=0)
    learn_hashes(other, padded, mask, generator=generator(0))
    torch.testing.assert_close(one.anchors, other.anchors)
    torch.testing.assert_close(one.mean, other.mean)
    torch.testing.assert_close(one.hash, other.hash, rtol=1e-3, atol=1e-3)


def test_labels_are_the_nearest_and_farthest_of_each_row() -> None:
    angles = torch.tensor([0.0, 10.0, 95.0, 200.0, 0.0]).deg2rad()
    tokens = torch.stack([angles.cos(), angles.sin()], dim=-1)[None, None]
    mask = torch.tensor([[True, True, True, True, False]])
    one_each_way = similarity_labels(tokens, mask, similar=1)
    assert one_each_way[0, 0].tolist() == [
        [1, 0, 0, -1, 0],  # 0: itself; 200 is 160 away
        [0, 1, 0, -1, 0],  # 10: itself; 200 is 170 away
        [0, 0, 1, -1, 0],  # 95: itself; 200 is 105 away
        [0, -1, 0, 1, 0],  # 200: itself; 10 is 170 away
        [0, 0, 0, 0, 0],  # padding
    ]


def test_a_row_shorter_than_two_shares_labels_half_each_way() -> None:
    angles = torch.tensor([[0.0, 10.0, 95.0, 200.0], [0.0, 30.0, 90.0, 0.0]]).deg2rad()
    tokens = torch.stack([angles.cos(), angles.sin()], dim=-1)[:, None]
    mask = torch.tensor([[True, True, True, True], [True, True, True, False]])
    four, three = similarity_labels(tokens, mask, similar=10)[:, 0]
    assert four.tolist() == [[1, 1, -1, -1], [1, 1, -1, -1], [-1, 1, 1, -1], [-1, -1, 1, 1]]
    assert three.tolist() == [[1, 0, -1, 0], [0, 1, -1, 0], [-1, 0, 1, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize("bits", [8, 16])
def test_codes_follow_attention_better_than_random_hyperplanes(bits: int) -> None:
    learned: list[float] = []
    untrained: list[float] = []
    simhash: list[float] = []
    for seed in range(3):
        train, held_out = clustered(seed=seed)
        attention = one_head(bits=bits)
        for steps, found in ((100, learned), (0, untrained)):
            learn(attention, train, steps=steps, seed=seed)
            found.append(correlation(kernel_codes(attention, held_out), held_out[0]))
        planes = torch.randn(DEPTH, bits, generator=generator(seed))
        simhash.append(correlation(binary_code(held_out[0] @ planes), held_out[0]))
    assert min(np.subtract(learned, simhash)) > 0
    # The kernel does most of it: learning adds where bits are few (methods are compared at 8).
    assert np.mean(untrained) > np.mean(simhash)
    if bits == 8:
        assert np.mean(learned) > np.mean(untrained)


def test_more_anchors_than_tokens_are_refused() -> None:
    attention = one_head(bits=4)
    x, _ = clustered(seed=0)
    mask = torch.arange(TOKENS)[None] < 24
    with pytest.raises(InvalidInput, match=r"25 anchors .* the batch has 24; pass a larger batch"):
        learn_hashes(attention, x, mask, generator=generator())


def spectrum(seed: int, rank: int, *, width: int = 12) -> Tensor:
    return torch.randn(rank, width, generator=generator(seed), dtype=torch.float64)


@given(st.integers(0, 10_000))
def test_the_shared_projection_is_exact_where_attention_is_symmetric_and_positive(
    seed: int,
) -> None:
    # Two heads of depth 4, and Q^T K = R^T R of rank 4 and 2, factored another way.
    draw = generator(seed)
    queries, keys, products = [], [], []
    for rank in (4, 2):
        root = spectrum(seed + rank, rank)
        turn = torch.randn(rank, rank, generator=draw, dtype=torch.float64)
        turn += 3 * torch.eye(rank)
        blank = torch.zeros(4 - rank, 12, dtype=torch.float64)
        queries.append(torch.cat([turn @ root, blank]))
        keys.append(torch.cat([torch.linalg.inv(turn).T @ root, blank]))
        products.append(root.T @ root)
    shared = shared_projection(torch.cat(queries), torch.cat(keys), heads=2)
    for head, product in zip(shared.chunk(2), products, strict=True):
        torch.testing.assert_close(head.T @ head, product, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 10_000), st.sampled_from([4, 6, 12]))
def test_no_other_projection_is_nearer(seed: int, width: int) -> None:
    query, key, noise = (spectrum(seed + i, 4, width=width) for i in range(3))
    product = query.T @ key
    best = shared_projection(query, key, heads=1)

    def distance(projection: Tensor) -> float:
        return float((projection.T @ projection - product).norm())

    others = [query, key, (query + key) / 2]
    others += [best + scale * noise for scale in (1e-3, -1e-2, 0.1, 1.0)]
    assert all(distance(best) <= distance(other) + 1e-9 for other in others)


def test_binarizing_keeps_values_and_outputs_and_the_other_layers() -> None:
    encoder = tiny_encoder()
    before = copy.deepcopy(encoder)
    reports = binarize(encoder, pad(random_rows(8)), layers=(1,), generator=generator())
    assert set(reports) == {1}
    kept, swapped = encoder.transformer.blocks
    was_kept, was_swapped = before.transformer.blocks
    assert isinstance(swapped.attention, BinarizedAttention)
    weights, softmax = swapped.attention.state_dict(), was_swapped.attention.state_dict()
    for name in ("value.weight", "value.bias", "out.weight", "out.bias"):
        assert torch.equal(weights[name], softmax[name])
    for name, tensor in was_kept.state_dict().items():
        assert torch.equal(kept.state_dict()[name], tensor)
    vectors = embed(encoder, random_rows(5))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)


def test_later_layers_learn_from_what_binarized_ones_give_them() -> None:
    tokens = pad(random_rows(8))
    both, second = tiny_encoder(), tiny_encoder()
    binarize(both, tokens, layers=(0, 1), generator=generator())
    binarize(second, tokens, layers=(0,), generator=generator())
    binarize(second, tokens, layers=(1,), generator=generator())
    x, mask = both.tokens(tokens.ids), tokens.mask.bool()
    inside = both.transformer.blocks[0](x, mask)
    attention = both.transformer.blocks[1].attention
    assert isinstance(attention, BinarizedAttention)
    seen = attention.tokens(inside)[mask.nonzero()[:, 0], :, mask.nonzero()[:, 1]]
    for anchor in attention.anchors.transpose(0, 1):  # each is a token the layer saw
        assert (seen - anchor).abs().amax((1, 2)).min() < 1e-6


def test_layers_that_do_not_exist_are_refused_and_nothing_is_changed() -> None:
    encoder = tiny_encoder()
    kept = copy.deepcopy(encoder.state_dict())
    for layers, named in (((0, 2), 2), ((-1,), -1)):
        with pytest.raises(InvalidInput, match=f"no layer {named}; the encoder has 0 to 1"):
            binarize(encoder, pad(random_rows(8)), layers=layers, generator=generator())
    assert all(torch.equal(kept[name], now) for name, now in encoder.state_dict().items())


def test_an_encoder_of_series_is_binarized_too_and_learns_from_some_tokens_of_a_long_one() -> None:
    shape = TransformerConfig(width=16, depth=2, heads=2, hidden=32)
    encoder = SeriesEncoder(SeriesConfig(window=4, hop=2, transformer=shape)).eval()
    series = torch.randn(3, 1, 4 * LABELLED, generator=generator())  # twice the tokens labelled
    before = encoder(series)

    made = convert(encoder, (series,), Conversion(layers=(0, 1)))

    assert torch.equal(encoder(series), before)
    kinds = [type(block.attention) for block in made.encoder.transformer.blocks]
    assert kinds == [BinarizedAttention, BinarizedAttention]
    assert set(made.hashes) == {0, 1}
    assert torch.isfinite(made.encoder(series)).all()


def test_learning_keeps_the_mean_bandwidth_of_the_rows() -> None:
    attention = one_head(bits=4)
    x = torch.cat(clustered(seed=0))
    learn(attention, x, seed=0)
    with torch.no_grad():
        distance = 2 - 2 * attention.tokens(x) @ attention.anchors.transpose(-1, -2)
    assert attention.sigma.flatten().tolist() == pytest.approx([float(distance.mean())], rel=1e-5)


def test_codes_take_the_requested_form() -> None:
    encoder = tiny_encoder()
    hashing = Hashing(bits=8, anchors=5, beta=30.0, static_sigma=True)
    tokens = pad(random_rows(8))
    binarize(encoder, tokens, layers=(1,), hashing=hashing, generator=generator())
    attention = encoder.transformer.blocks[1].attention
    assert isinstance(attention, BinarizedAttention)
    assert attention.hash.shape == (4, 5, 8)
    assert (attention.beta, attention.static_sigma) == (30.0, True)


def test_an_encoder_of_other_blocks_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"only attar's token transformer .* Linear has none"):
        binarize(nn.Linear(2, 2), (torch.ones(1, 2),), layers=(0,), generator=generator())


def test_rotary_attention_is_refused() -> None:
    encoder = tiny_encoder(attention=ATTENTIONS["rotary"])
    with pytest.raises(InvalidInput, match="layer 0 has rotary positions, which codes without"):
        binarize(encoder, pad(random_rows(8)), layers=(0,), generator=generator())


def test_only_softmax_attention_is_binarized() -> None:
    encoder = tiny_encoder(attention=ATTENTIONS["binarized"])
    with pytest.raises(InvalidInput, match=r"only softmax .* layer 0 has BinarizedAttention"):
        binarize(encoder, pad(random_rows(8)), layers=(0,), generator=generator())
