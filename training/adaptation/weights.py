"""The weights that an adaptation ends with: on the line from the base, as far as it keeps the base.

Wortsman et al., WiSE-FT, CVPR 2022, arXiv:2109.01903: between a network and its fine-tuned copy lie
some that are better than both where the copy was tuned, and nearly as good as the first elsewhere.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from ..probes.agreement import Agreement
from ..probes.text_retrieval import Retrieval
from .general_text import GeneralText
from .soup import interpolate

SHARES = (0.25, 0.5, 0.75)  # between the base, 0, and the end, 1
MIN_AGREEMENT = 0.9  # Spearman's, on general text


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A share of the way, what validation gives for it, and how far it agrees with the base."""

    share: float
    value: float
    agreement: Agreement

    @property
    def keeps_the_base(self) -> bool:
        """Whether general text is compared nearly as by the base."""
        return self.agreement.spearman >= MIN_AGREEMENT


def choose(
    encoder: nn.Module,
    start: Mapping[str, Tensor],
    end: Mapping[str, Tensor],
    *,
    task: Retrieval,
    figure: str,
    values: Mapping[float, float],
    general: GeneralText,
) -> tuple[Trial, list[Trial]]:
    """Give the encoder the weights that validate best of those that keep the base; say which.

    `values` are the figures of shares that were validated before: at least 0, which is the base
    itself and so keeps it. All trials are given too, by share.
    """
    trials = []
    for share in sorted({*SHARES, *values}):
        encoder.load_state_dict(interpolate(start, end, share))
        value = values[share] if share in values else task(encoder)[figure]
        trials.append(Trial(share=share, value=value, agreement=general.agreement(encoder)))
    best = max((trial for trial in trials if trial.keeps_the_base), key=lambda trial: trial.value)
    encoder.load_state_dict(interpolate(start, end, best.share))
    return best, trials
