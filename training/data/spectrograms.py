"""Recordings as spectrograms: log-mel frames of clips, computed when they are used."""

from dataclasses import dataclass, replace

from jaxtyping import Float, Int
from torch import Tensor

from ..views.frames import log_mel, normalized
from .source import Rows, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """How clips become frames: a window of samples, the hop to the next one, and mel bands."""

    hertz: int = 8000  # samples a second
    window: int = 512  # samples
    hop: int = 256  # samples
    bands: int = 40


@dataclass(frozen=True, slots=True)
class Spectrograms:
    """Log-mel frames of (b, 1, samples) clips.

    Each band has mean 0 and variance 1 over a clip's frames (CMVN), unless they are `plain`.
    """

    clips: Rows
    frames: Frames
    plain: bool = False

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, rows: Int[Tensor, "b"], /) -> Float[Tensor, "b bands frames"]:
        cut = self.frames
        clips = self.clips[rows][:, 0]
        energies = log_mel(clips, rate=cut.hertz, window=cut.window, hop=cut.hop, bands=cut.bands)
        return energies if self.plain else normalized(energies)


def spectrograms(data: Source, frames: Frames, *, plain: bool = False) -> Source:
    """Give a source's clips as `Spectrograms`, its labels as they are."""
    return replace(
        data,
        train=Spectrograms(data.train, frames, plain),
        test=None if data.test is None else Spectrograms(data.test, frames, plain),
    )
