"""The energy model gives EcoFormer's published figures from the shapes of the layers alone."""

from dataclasses import replace

import pytest

from attar.export.cost.count import total
from attar.export.cost.energy import (
    PICOJOULES,
    binarized_attention,
    energy,
    picojoules,
    softmax_attention,
)
from attar.export.cost.operations import Operations

from ...support.graphs import counted, encoder_graph

WIDTHS, HEADS, TOKENS = (32, 64, 160, 256), (1, 2, 5, 8), (3136, 784, 196, 49)
HIDDEN, STRIDES, DEPTH, CLASSES = (8, 8, 4, 4), (8, 4, 2, 1), 2, 1000
BILLION = 1e9


def attention(*, binarized: bool) -> Operations:
    """Sum PVTv2-B0's eight layers; EcoFormer leaves the last stage its softmax."""
    layers = [
        (binarized_attention if binarized and stage < 3 else softmax_attention)(
            tokens=tokens, width=width, heads=heads
        )
        for stage, (tokens, width, heads) in enumerate(zip(TOKENS, WIDTHS, HEADS, strict=True))
    ]
    return sum(layers * DEPTH, start=Operations())


def others(projections: str) -> Operations:
    """Count PVTv2-B0 but for its attention, at 224 x 224: one addition for each multiplication.

    `projections` is "reduced" for PVTv2's own, which shrinks keys and values to 49 by a strided
    convolution, "softmax" for four square matrices a layer, and "binarized" for the three that are
    left where queries and keys share one. Biases of convolutions count, and two operations for
    each number that a norm takes, as the counter of mmcv does that the authors used.
    """
    products, channels = WIDTHS[-1] * CLASSES, 3
    for stage, (width, tokens) in enumerate(zip(WIDTHS, TOKENS, strict=True)):
        patch = (7 if stage == 0 else 3) ** 2
        norm, square = 2 * tokens * width, width**2
        products += patch * channels * width * tokens + width * tokens + 2 * norm
        hidden = HIDDEN[stage] * width
        block = 2 * width * hidden * tokens + (9 + 1) * hidden * tokens + 2 * norm
        if projections == "reduced":
            block += 2 * square * (tokens + 49)
            if STRIDES[stage] > 1:
                block += STRIDES[stage] ** 2 * square * 49 + (1 + 2) * width * 49
        else:
            shared = projections == "binarized" and stage < 3
            block += (3 if shared else 4) * square * tokens
        products += DEPTH * block
        channels = width
    return Operations(multiplications=products, additions=products)


def test_pvt_v2_b0s_totals_follow_from_its_layer_shapes() -> None:
    """9.17 against 2.51 billion pJ, 72.6 % less: attention replaced, all else as PVTv2 has it."""
    rest = others("reduced")
    softmax = picojoules(attention(binarized=False) + rest)
    binarized = picojoules(attention(binarized=True) + rest)

    assert softmax / BILLION == pytest.approx(9.17, abs=0.01)
    assert binarized / BILLION == pytest.approx(2.51, abs=0.01)
    assert 1 - binarized / softmax == pytest.approx(0.726, abs=0.001)


def test_the_authors_row_follows_when_each_network_has_its_own_projections() -> None:
    """0.54 and 0.56 billion operations, 2.5 billion pJ, 73 % saved: their table and abstract."""
    binarized = attention(binarized=True) + others("binarized")
    softmax = attention(binarized=False) + others("softmax")

    assert round(binarized.multiplications / BILLION, 2) == 0.54
    assert round(binarized.additions / BILLION, 2) == 0.56
    assert round(picojoules(binarized) / BILLION, 1) == 2.5
    assert round(1 - picojoules(binarized) / picojoules(softmax), 2) == 0.73


def test_attention_alone_is_counted_as_published_and_falls_by_99_percent() -> None:
    softmax, binarized = attention(binarized=False), attention(binarized=True)

    assert softmax.multiplications / BILLION == pytest.approx(1.466, abs=5e-4)
    assert softmax.additions / BILLION == pytest.approx(1.443, abs=5e-4)
    assert binarized.multiplications / BILLION == pytest.approx(0.0082, abs=5e-5)
    assert binarized.additions / BILLION == pytest.approx(0.0376, abs=5e-5)
    assert 1 - picojoules(binarized) / picojoules(softmax) > 0.99


@pytest.mark.parametrize(("depth", "crossover"), [(32, 16), (64, 13)])
def test_the_model_crosses_over_at_some_ten_tokens(depth: int, crossover: int) -> None:
    """Which no clock does: the crossover in time is measured, and is far higher."""
    dearer = next(
        n
        for n in range(1, 100)
        if picojoules(softmax_attention(tokens=n, width=depth, heads=1))
        > picojoules(binarized_attention(tokens=n, width=depth, heads=1))
    )
    assert dearer == pytest.approx(crossover, abs=1)


def test_binarized_attention_is_linear_and_softmax_quadratic() -> None:
    for formula, growth in ((softmax_attention, 4), (binarized_attention, 2)):
        one, two = (picojoules(formula(tokens=n, width=64, heads=2)) for n in (100, 200))
        assert two == pytest.approx(growth * one)


def test_each_operator_is_priced_in_its_own_arithmetic() -> None:
    nodes = counted(encoder_graph("softmax")).nodes
    halves = [replace(node, arithmetic="float16") for node in nodes]
    operations = total(nodes)

    assert energy(nodes) == pytest.approx(picojoules(operations))
    assert energy(halves) == pytest.approx(
        PICOJOULES["float16"][0] * operations.multiplications
        + PICOJOULES["float16"][1] * operations.additions
    )
    assert energy(nodes[:3]) + energy(nodes[3:]) == pytest.approx(energy(nodes))
