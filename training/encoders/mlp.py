"""The multilayer perceptron: the projector in front of most objectives."""

from itertools import pairwise

from torch import nn


def mlp(*widths: int) -> nn.Sequential:
    """Map (n, widths[0]) to (n, widths[-1]), batch norm and ReLU on the layers in between.

    This is the projector of Barlow Twins and SimCLR's: the last layer is linear, without bias.
    """
    layers: list[nn.Module] = []
    *hidden, last = pairwise(widths)
    for inward, outward in hidden:
        layers += [
            nn.Linear(inward, outward, bias=False),
            nn.BatchNorm1d(outward),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Linear(*last, bias=False))
