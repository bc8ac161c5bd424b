"""An infinite rate: go on to a new domain without warming up again, and forget less of the old.

Singh et al. 2025, arXiv:2503.02844, with SimCLR on images of one domain and then of another.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from ...data.source import Source, joined
from ...groups import Groups, read_groups
from ...loop import Training
from ...methods.siamese import Inputs
from ...probes.encoder import probe_encoder
from ...recipe import Recipe
from ...samplers.stream import DomainStream
from ...schedules import DomainRate, two_domains
from . import simclr
from .common import PROBED, two_views


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(simclr.Settings):
    """The recipe's numbers, in addition to SimCLR's; `steps` are those of each of two domains."""

    schedule: DomainRate = "infinite"  # constant never anneals
    level: float = 0.25  # of the infinite schedule, as a share of the peak
    cooldown: float = 0.3  # share of a domain's steps
    floor: float = 0.01  # where it ends, likewise
    anneal: float = 0.2  # share of the last domain's steps


SMALL: Final = Settings()
PAPER: Final = Settings()  # its numbers are not given for sure


def build(data: Groups, settings: Settings) -> Training[tuple[Inputs, Inputs]]:
    """Compose the run; its probe is of the related group, and under `second/...` of the target."""
    first, second = data.related, data.target
    both, method = Source(train=joined(first.train, second.train)), simclr.contrast(settings)
    own = settings.only("steps", "batch_size", "seed")
    sampler = DomainStream.of_sizes((len(first.train), len(second.train)), **own)
    training = two_views(both, settings, method, sampler=sampler)

    def probes(_step: int) -> dict[str, float]:
        probe = partial(probe_encoder, training.method.encoder, most=PROBED)
        return probe(first) | {f"second/{name}": value for name, value in probe(second).items()}

    shares = settings.only("warmup", "level", "cooldown", "floor", "anneal")
    rate = two_domains(settings.schedule, settings.rate, settings.steps, **shares)
    return replace(training, rate=rate, steps=2 * settings.steps, probe=probes)


recipe = Recipe(
    paper="Singh et al. 2025, arXiv:2503.02844",
    family="contrast",
    modality="image",
    settings=SMALL,
    published=PAPER,
    build=build,
    read=read_groups,
    differences=(
        "SimCLR on digits, upright and turned, instead of MAE and language models on large corpora",
        "the anneal ends at its floor, which the printed formula does not reach",
        "no gain of the anneal over a constant rate is shown: the interval of seeds includes zero",
    ),
)
