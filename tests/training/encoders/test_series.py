"""A series encoder sees every sample through windows, at any length, with any attention."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import attar
from attar.errors import InvalidInput
from attar.export.tensor import export_tensor
from attar.manifest import TensorSpec
from attar.training.encoders.series import SeriesConfig, SeriesEncoder
from attar.training.encoders.tokens import sinusoids
from attar.training.encoders.transformer import TransformerConfig
from attar.training.hashing import Hashing, binarize
from benchmarks.support.encoders import ATTENTIONS

TRANSFORMER = TransformerConfig(width=16, depth=2, heads=2, hidden=32, norm="pre", norm_eps=1e-5)


def tiny(
    *, window: int = 8, hop: int = 4, channels: int = 2, attention: str = "softmax"
) -> SeriesEncoder:
    torch.manual_seed(0)
    shape = SeriesConfig(channels=channels, window=window, hop=hop, transformer=TRANSFORMER, dim=6)
    return SeriesEncoder(shape, attention=ATTENTIONS[attention]).eval()


@pytest.mark.parametrize("name", ATTENTIONS)
@pytest.mark.parametrize("samples", [4, 63, 64])
def test_series_of_any_length_become_unit_rows(name: str, samples: int) -> None:
    series = torch.randn(3, 2, samples)
    encoder = tiny(attention=name)
    with torch.no_grad():
        assert encoder.tokens(series).shape == (3, samples // 4, 16)
        vectors = encoder(series)
    assert vectors.shape == (3, 6)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(3))


def test_no_sample_goes_unseen_and_none_is_seen_early() -> None:
    series = torch.randn(1, 2, 40, requires_grad=True)
    tokens = tiny().tokens(series)
    (gradient,) = torch.autograd.grad(tokens.square().sum(), series)
    assert (gradient != 0).all()
    (first,) = torch.autograd.grad(tiny().tokens(series)[0, 0].square().sum(), series)
    assert (first[..., :8] != 0).all()
    assert (first[..., 8:] == 0).all()


def test_the_order_of_a_series_counts() -> None:
    encoder, series = tiny(), torch.randn(1, 2, 64)
    with torch.no_grad():
        assert (encoder(series) - encoder(series.roll(16, -1))).abs().max() > 1e-3


def test_positions_are_distinct_and_their_products_depend_on_distance_alone() -> None:
    table = sinusoids(200, 32).double()
    products = table @ table.T
    for shift in (1, 7, 100):
        along = products.diagonal(shift)
        torch.testing.assert_close(along, along[:1].expand_as(along), rtol=0, atol=1e-4)
    assert products.fill_diagonal_(0).max() < 16 - 1e-3  # each row's own product is width / 2


@pytest.mark.parametrize(
    "wrong", [{"window": 0}, {"hop": 0}, {"channels": 0}, {"window": 3, "hop": 4}]
)
def test_sizes_that_would_leave_samples_out_are_refused(wrong: dict[str, int]) -> None:
    sizes: dict[str, Any] = {"channels": 2, "window": 8, "hop": 4} | wrong
    with pytest.raises(InvalidInput, match="window no less than hop"):
        SeriesConfig(**sizes, transformer=TRANSFORMER, dim=6)


@pytest.mark.slow
def test_a_binarized_series_encoder_gives_its_numbers_through_the_runtime(tmp_path: Path) -> None:
    encoder, series = tiny(), torch.randn(24, 2, 64)
    generator = torch.Generator().manual_seed(0)
    binarize(encoder, (series,), layers=(0, 1), hashing=Hashing(bits=8), generator=generator)
    spec = TensorSpec(name="series", dtype="float32", shape=("batch", 2, 64))
    path = tmp_path / "series.attar"
    export_tensor(path, encoder, name="series", spec=spec, items=series.numpy(), modality="series")
    with torch.no_grad():
        expected = encoder(series).numpy()
    found = attar.load(path).embed(series.numpy()).vectors
    np.testing.assert_allclose(found, expected, atol=1e-5)
