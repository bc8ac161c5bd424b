"""A residual network has the published sizes, and its selective kernels select."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attar.errors import InvalidInput
from attar.training.encoders.resnet import Residual, ResNet, ResNetConfig, SelectiveConv
from attar.training.encoders.text import parameter_count

SMALL = ResNetConfig(side=8, blocks=(1, 1), width=4)


def on_meta(shape: ResNetConfig) -> ResNet:
    with torch.device("meta"):
        return ResNet(shape)


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        # Published with a classifier of 1000 classes, which is taken off here.
        (ResNetConfig(side=224), 11_689_512 - 513_000),
        (ResNetConfig(side=224, blocks=(3, 4, 6, 3)), 21_797_672 - 513_000),
        (ResNetConfig(side=224, blocks=(3, 4, 6, 3), bottleneck=True), 25_557_032 - 2_049_000),
    ],
)
def test_sizes_are_those_of_resnet_18_34_and_50(shape: ResNetConfig, parameters: int) -> None:
    assert parameter_count(on_meta(shape)) == parameters


@pytest.mark.parametrize("selective", [False, True])
@pytest.mark.parametrize(("side", "left"), [(32, 4), (64, 8), (96, 3)])
def test_small_images_keep_their_resolution_in_the_stem(
    side: int, left: int, *, selective: bool
) -> None:
    network = on_meta(ResNetConfig(side=side, width=8, selective=selective))
    image = torch.zeros(2, 3, side, side, device="meta")
    maps = network.groups(network.stem(image))
    assert maps.shape == (2, 64, left, left)


@pytest.mark.parametrize("bottleneck", [False, True])
@pytest.mark.parametrize("selective", [False, True])
@torch.no_grad()
def test_a_new_block_is_its_shortcut(*, bottleneck: bool, selective: bool) -> None:
    block = Residual(8, 8, stride=2, bottleneck=bottleneck, selective=selective).eval()
    x = torch.randn(2, 8, 6, 6)
    torch.testing.assert_close(block(x), F.relu(block.shortcut(x)))


@torch.no_grad()
def test_a_selective_convolution_is_the_mixture_of_its_two() -> None:
    torch.manual_seed(0)
    layer = SelectiveConv(3, 5, stride=2).eval()
    x = torch.randn(2, 3, 8, 8)
    convolution, squeeze, spread = layer.both[0], layer.select[0], layer.select[3]
    assert isinstance(convolution, nn.Conv2d)
    assert isinstance(squeeze, nn.Conv2d)
    assert isinstance(spread, nn.Conv2d)
    assert squeeze.out_channels == 32  # no less, though a sixteenth of 5 is
    both = F.relu(layer.both[1](convolution(x)))
    branches = both[:, :5], both[:, 5:]
    seen = (branches[0] + branches[1]).mean((2, 3))
    hidden = F.relu(layer.select[1](squeeze(seen[..., None, None])))[..., 0, 0]
    logits = hidden @ spread.weight[..., 0, 0].T
    for channel in range(5):
        share = torch.stack([logits[:, channel], logits[:, 5 + channel]]).softmax(0)
        expected = sum(
            share[place][:, None, None] * branches[place][:, channel] for place in (0, 1)
        )
        torch.testing.assert_close(layer(x)[:, channel], expected)


@torch.no_grad()
def test_what_is_selected_depends_on_the_image() -> None:
    torch.manual_seed(0)
    layer = SelectiveConv(3, 5, stride=1).eval()
    dim, bright = torch.rand(1, 3, 8, 8), 3 + torch.rand(1, 3, 8, 8)
    shares = [
        layer.select(layer.both(x).unflatten(1, (2, -1)).sum(1).mean((2, 3), keepdim=True))
        for x in (dim, bright)
    ]
    assert (shares[0] - shares[1]).abs().max() > 1e-3


def test_a_wider_network_is_wider_and_dim_maps_what_it_gives() -> None:
    assert on_meta(SMALL).dim == 8
    assert on_meta(replace(SMALL, width=8)).dim == 16
    assert on_meta(replace(SMALL, bottleneck=True)).dim == 32
    assert on_meta(replace(SMALL, dim=5)).dim == 5


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"blocks": ()}, "blocks must be at least 1"),
        ({"blocks": (2, 0)}, "blocks must be at least 1"),
        ({"channels": 0, "side": 0}, "channels and side must be at least 1"),
        ({"width": 5, "selective": True}, "width must be even where kernels are selective"),
    ],
)
def test_a_network_without_sizes_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(SMALL, **wrong)  # type: ignore[arg-type]  # that is what is refused
