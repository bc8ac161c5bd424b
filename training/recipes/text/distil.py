"""Distil a large text encoder into a small one on unlabelled pairs of texts.

Embeddings as in LEAF (Vujanic and Rueckstiess 2025, arXiv:2509.12539) and Reimers and Gurevych 2020
(arXiv:2004.09813), in-batch similarities as in SEED (Fang et al., ICLR 2021, arXiv:2101.04731), and
InfoNCE of the pairs at the widths of a Matryoshka embedding (Kusupati et al., arXiv:2205.13147).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...composing import RunSettings, compose
from ...encoders.text import TextEncoder, TextNetwork
from ...loop import Training
from ...methods.distillation import Distillation, DistillationBatch
from ...optimisers import parameter_groups
from ...probes.text_retrieval import embed
from ...text_data import TextData

SOURCES = (
    "Vujanic and Rueckstiess 2025, arXiv:2509.12539; Fang et al. 2021, arXiv:2101.04731; Kusupati "
    "et al. 2022, arXiv:2205.13147"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(RunSettings):
    """The recipe's numbers; rate, temperature and contrast were tried at one seed.

    `contrast` is the weight of the InfoNCE of pairs next to the two terms that match the teacher.
    """

    steps: int = 80
    batch_size: int = 128
    rate: float = 1e-3
    temperature: float = 0.05
    contrast: float = 1.0
    widths: tuple[int, ...] | None = None  # of the embedding; None is the full width alone


@dataclass(frozen=True, slots=True)
class Targets:
    """The teacher's embeddings of both views of the training pairs, (n, d) each, computed once."""

    first: NDArray[np.float32]
    second: NDArray[np.float32]


def targets(teacher: TextNetwork, data: TextData) -> Targets:
    """Embed the training pairs with the teacher."""
    return Targets(*(embed(teacher, part, progress="embedding") for part in data.pairs.views))


def build(
    data: TextData, goals: Targets, student: TextEncoder, settings: Settings
) -> Training[DistillationBatch]:
    """Compose the run that moves `student`, wherever it starts, to the teacher's embeddings."""
    method = Distillation(student, **settings.only("temperature", "contrast", "widths"))
    first, second = torch.from_numpy(goals.first), torch.from_numpy(goals.second)
    groups = parameter_groups(method, weight_decay=settings.weight_decay)
    return compose(
        method,
        settings,
        items=lambda rows: (*data.pairs.batch(rows), first[rows], second[rows]),
        rows=data.pairs.sampler(batch_size=settings.batch_size, seed=settings.seed),
        optimiser=torch.optim.AdamW(groups, betas=(0.9, 0.98)),
        probe=lambda: data.probe(student),
    )
