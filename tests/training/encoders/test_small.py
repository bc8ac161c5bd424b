"""The encoders that are a few layers each have the layers that their papers say."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attar.errors import InvalidInput
from attar.training.encoders.conv1d import Conv1dConfig, Conv1dEncoder
from attar.training.encoders.mlp import MlpConfig, MlpEncoder, projector
from attar.training.encoders.text import parameter_count


def test_galspecnet_has_the_published_1184_features() -> None:
    encoder = Conv1dEncoder(Conv1dConfig())
    assert encoder.layers(torch.zeros(2, 3, 2575)).shape == (2, 1184)
    convolutions = sum(3 * a * b + b for a, b in ((3, 64), (64, 64), (64, 32), (32, 32)))
    assert parameter_count(encoder) == convolutions + 1184 * 512 + 512


def test_spectra_that_are_used_up_are_refused() -> None:
    assert Conv1dConfig(samples=14, widths=(4, 4)).left == 1
    with pytest.raises(InvalidInput, match="2 layers leave nothing of 13 samples"):
        Conv1dConfig(samples=13, widths=(4, 4))


@torch.no_grad()
def test_a_perceptron_is_linear_maps_with_relu_between() -> None:
    encoder = MlpEncoder(MlpConfig(features=3, hidden=(4,), dim=2, normalized=False))
    row = torch.randn(5, 3)
    (first, second) = (m for m in encoder.modules() if isinstance(m, nn.Linear))
    torch.testing.assert_close(encoder(row), second(F.relu(first(row))))
    torch.testing.assert_close(encoder(row[:1]), encoder(row)[:1])


def test_a_projector_has_as_many_linear_layers_as_it_is_deep() -> None:
    for depth, widths in ((1, [(5, 3)]), (3, [(5, 7), (7, 7), (7, 3)])):
        layers = projector(5, 7, 3, depth=depth)
        maps = [layer for layer in layers if isinstance(layer, nn.Linear)]
        assert [(layer.in_features, layer.out_features) for layer in maps] == widths
    with pytest.raises(InvalidInput, match="depth must be at least 1; got a projector of depth 0"):
        projector(5, 7, 3, depth=0)
