"""Weights on the line between two networks of one shape.

Wortsman et al., WiSE-FT, CVPR 2022, arXiv:2109.01903, equation 1.
"""

from collections.abc import Mapping

from torch import Tensor

from attar.errors import InvalidInput

Weights = Mapping[str, Tensor]


def interpolate(start: Weights, end: Weights, share: float) -> dict[str, Tensor]:
    """Give (1 - share) start + share end for each weight by name; 0 is the start, 1 the end.

    Raises InvalidInput where the names or shapes differ, or `share` is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise InvalidInput(f"share must be in [0, 1]; got {share}")
    shapes = [{name: weight.shape for name, weight in each.items()} for each in (start, end)]
    if shapes[0] != shapes[1]:
        raise InvalidInput(
            "the weights have other names or shapes; interpolate between two networks of one shape"
        )
    return {name: start[name].lerp(end[name].to(start[name]), share) for name in start}
