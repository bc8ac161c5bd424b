"""Early stopping: end a run whose probe no longer improves, and keep the weights of its best probe.

Prechelt 1998, "Early stopping - but when?", criterion UP with probes for epochs.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from attar.errors import InvalidInput

from .lineage import FRESH
from .loop import History

BEST: Final = "best.safetensors"


def is_exhausted(history: History, figure: str, *, probes: int) -> bool:
    """Say whether the last `probes` probes are no better in `figure` than one before them."""
    values = [value for _, value in history.series(figure)]
    return len(values) > probes and max(values[-probes:]) <= max(values[:-probes])


@dataclass(frozen=True, slots=True)
class BestWeights:
    """The weights of a module at its best probe so far, in a file of the run's folder.

    The file says the step and the value, so that a run that is taken up again goes on from it.
    """

    module: nn.Module
    path: Path

    def update(self, step: int, value: float, *, prefer_later: bool = False) -> None:
        """Keep the weights after `step` steps if `value` is above that of all earlier steps.

        With `prefer_later` they are kept at an equal value too.
        """
        if self.path.exists():
            kept_step, kept_value = self._record()
            is_worse = kept_value > value if prefer_later else kept_value >= value
            if kept_step < step and is_worse:
                return
        tensors = {name: t.detach().cpu().contiguous() for name, t in self._state().items()}
        draft = self.path.with_suffix(".partial")
        save_file(tensors, draft, metadata={"step": str(step), "value": repr(float(value))})
        draft.replace(self.path)

    def read(self) -> tuple[int, dict[str, Tensor]]:
        """Give the step and the weights; raises InvalidInput for a file that is damaged."""
        step, _ = self._record()
        return step, load_file(self.path)

    def _state(self) -> Mapping[str, Tensor]:
        state: Mapping[str, Tensor] = self.module.state_dict()
        return state

    def _record(self) -> tuple[int, float]:
        try:
            with safe_open(self.path, "pt") as file:
                about = file.metadata() or {}
                return int(about["step"]), float(about["value"])
        except (OSError, SafetensorError, KeyError, ValueError) as error:
            raise InvalidInput(f"{self.path} is missing or damaged ({error!r}); {FRESH}") from error
