"""TERA beats mean frames and an untrained encoder, on figures of tones."""

from dataclasses import replace
from pathlib import Path
from typing import Final

from torch import Tensor, nn

from ...claim import Claim, difference
from ...data.audio import waveforms
from ...data.source import Source
from ...datasets.spoken_digits import spoken_digits
from ...datasets.tones import tones
from ...encoders.log_mel import LogMel, LogMelConfig
from ...loop import fit
from ...probes.encoder import probe_encoder
from ...recipes.audio.tera import SMALL, build

WAYS = {"time": (0.0, 0.0), "time_frequency": (0.2, 0.0), "all": (0.2, 0.15)}


class MeanFrame(nn.Module):
    """The mean of the log-mel frames: what a linear probe is given without an encoder."""

    def __init__(self, frames: LogMelConfig) -> None:
        super().__init__()
        self.log_mel = LogMel(frames)

    def forward(self, waveform: Tensor) -> Tensor:
        """Give (b, bands)."""
        frames: Tensor = self.log_mel(waveform)
        return frames.mean(2)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Probe the mean frame, an encoder before training, and one after each set of alterations."""
    default = replace(SMALL, seed=seed)
    clips = waveforms(data, hertz=default.frames.hertz)
    mean = probe_encoder(MeanFrame(default.frames), clips)
    figures = {"mean_frame/linear": mean["linear"]}
    for name, (frequency, magnitude) in WAYS.items():
        settings = replace(default, frequency=frequency, magnitude=magnitude)
        rows = fit(build(data, settings), accelerator="cpu", progress=False).rows
        figures["untrained/linear"] = next(row["linear"] for row in rows if "linear" in row)
        figures[f"{name}/linear"] = rows[-1]["linear"]
    return figures


def digits_of(folder: Path, *, unheard: str) -> Source:
    """Give half-second clips of spoken digits for `trial`, one speaker's held out."""
    return spoken_digits(folder, length=4000, test_speakers=(unheard,))


claim: Final = Claim(
    "a linear probe of which melodic figure a clip plays is on average more accurate on the "
    "frozen encoder than on the mean log-mel frame, and than before training",
    tones,
    trial,
    effects=(
        difference("all/linear", "mean_frame/linear"),
        difference("all/linear", "untrained/linear"),
    ),
)
