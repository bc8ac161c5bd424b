"""The run of a student of layers: what it learns from, how it is judged, and when it is refused."""

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput

from .. import distributed, run_data
from ..adaptation.general_text import GeneralText
from ..checkpoints.run import CHECKPOINT, read_record
from ..data.text import Row
from ..early_stopping import BEST, BestWeights
from ..encoders.text import TextEncoder, TextNetwork
from ..loop import Training
from ..methods.distillation import DistillationBatch
from ..probes.retrieval import ranks
from ..probes.text_retrieval import Retrieval, embed
from ..recipes.text import distil
from ..text_data import TextData
from . import report, wide_start

FIGURE: Final = "mrr"  # of the probe, by which weights are chosen
MIN_COSINE: Final = 0.35
"""The least mean cosine to the teacher on general text.

Two copied layers of all-MiniLM begin at 0.24, and there a text has a cosine of 0.04 with what the
teacher gives for another. So a student below the bar has not learned its teacher's space.
"""


@dataclass(frozen=True, kw_only=True)
class LayerRun:
    """A student that is trained in place, with its data.

    `texts` are the pairs to train on, and the validation by which weights are chosen. `test` has
    other held-out queries; its last documents are the bodies of the pairs to train on. `general`
    are a name and texts of no subject in particular. `out` is the folder of the run. The linear
    parts of `copied` layers learn first, alone (`wide_start`).
    """

    teacher: TextNetwork
    student: TextEncoder
    texts: TextData
    test: Retrieval
    general: tuple[str, tuple[Row, ...]]
    settings: distil.Settings
    min_cosine: float
    out: Path
    copied: bool

    @cached_property
    def targets(self) -> distil.Targets:
        """The teacher's embeddings of the pairs to train on."""
        run_data.report("the teacher embeds the corpus")
        return distil.targets(self.teacher, self.texts)

    def training(self) -> Training[DistillationBatch]:
        """Compose the run; after each probe, the best weights so far are kept in a file."""
        if self.copied:
            run_data.report("the linear parts of the student learn, over its layers as they are")
            wide_start.learn(self.student, self.texts.pairs, self.targets, self.settings)
        training = distil.build(self.texts, self.targets, self.student, self.settings)

        def probe(step: int) -> dict[str, float]:
            figures = self.texts.probe(self.student)
            if distributed.first():
                # Of equal probes the last one has learnt most from the teacher.
                self._best.update(step, figures[FIGURE], prefer_later=True)
            return figures

        return replace(training, probe=probe)

    def finish(self) -> None:
        """Give the student its best weights, and compare it with the teacher.

        Raises InvalidInput where its mean cosine to the teacher on general text is too small.
        """
        step, weights = self._best.read()
        self.student.load_state_dict(weights)
        general = GeneralText.of(*self.general, self.teacher)
        agreement = general.agreement(self.student)
        self._refuse_strange(agreement.cosine)
        report.write(
            self.out,
            teacher=self._teacher_ranks(),
            student=report.ranks_of(self.student, self.test),
            steps=read_record(self.out / CHECKPOINT).step,
            best_step=step,
            general=(general, agreement),
        )

    @property
    def _best(self) -> BestWeights:
        return BestWeights(self.student, self.out / BEST)

    def _refuse_strange(self, cosine: float) -> None:
        """Refuse a student that is too far from its teacher; the run's files stay."""
        source, rows = self.general
        if not cosine >= self.min_cosine:  # NaN refuses too
            raise InvalidInput(
                f"the student's mean cosine to its teacher is {cosine:.3f} on "
                f"{len(rows)} general texts ({source}), below {self.min_cosine:g}: "
                "it is not in its teacher's space. Continue the run in "
                f"{self.out} with more --steps, start again with more --layers or texts, or accept "
                f"it with --min-cosine {max(0.0, cosine - 0.005):.2f}"
            )

    def _teacher_ranks(self) -> NDArray[np.int64]:
        """Give the teacher's rank of each test query's document; what it has embedded is reused."""
        bodies = self.targets.second
        others = self.test.documents[: len(self.test.documents) - len(bodies)]
        documents = np.concatenate([embed(self.teacher, others), bodies])
        return ranks(embed(self.teacher, self.test.queries), documents, self.test.relevant)
