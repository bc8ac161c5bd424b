"""The encoders of variable stars: light curves, spectra and catalogue rows in one space."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from .conv1d import Conv1dConfig, Conv1dEncoder
from .joint_space import JointSpace
from .mlp import MlpConfig, MlpEncoder
from .series import SeriesConfig, SeriesEncoder
from .transformer import TransformerConfig


@dataclass(frozen=True, kw_only=True)
class StarSizes:
    """The sizes of the three encoders; the transformer is that of light curves."""

    dim: int = 64  # of the space
    window: int = 8  # samples of a light curve that a token sees
    hop: int = 4  # samples
    width: int = 48  # of the transformer
    depth: int = 2
    heads: int = 4
    hidden: int = 96  # in the transformer's feed-forward layers
    spectral: tuple[int, ...] = (32, 32, 16, 16)  # channels of the convolutions of spectra
    tabular: int = 128  # width of the hidden layer of catalogue rows


OFFICIAL: Final = StarSizes(
    dim=512, window=3, hop=1, width=128, depth=8, hidden=512, spectral=(64, 64, 32, 32), tabular=512
)
"""Those of AstroM3's official code (Rizhko and Bloom 2024, arXiv:2411.08842)."""


def star_encoders(shapes: Mapping[str, Sequence[int]], sizes: StarSizes) -> JointSpace:
    """Make a transformer of light curves, convolutions of spectra and an MLP of catalogue rows.

    `shapes` are those of one star in each modality, in this order, by name. Raises InvalidInput for
    light curves shorter than a token.
    """
    (photometry, curve), (spectra, spectrum), (metadata, row) = shapes.items()
    blocks = TransformerConfig(
        width=sizes.width,
        depth=sizes.depth,
        heads=sizes.heads,
        hidden=sizes.hidden,
        norm="pre",
        norm_eps=1e-5,
    )
    dim, (channels, samples), (features,) = sizes.dim, spectrum, row
    curves = SeriesConfig.of(curve, window=sizes.window, hop=sizes.hop, transformer=blocks, dim=dim)
    light = Conv1dConfig(channels=channels, samples=samples, widths=sizes.spectral, dim=dim)
    rows = MlpConfig(features=features, hidden=(sizes.tabular,), dim=dim)
    return JointSpace(
        {
            photometry: SeriesEncoder(curves),
            spectra: Conv1dEncoder(light),
            metadata: MlpEncoder(rows),
        }
    )
