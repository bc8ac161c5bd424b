"""MCL: an encoder finds the tokens that a generator replaced or inserted, and those that moved.

Chen et al. 2023, Findings of ACL, arXiv:2305.03981, on ELECTRA (Clark et al., ICLR 2020,
arXiv:2003.10555).
"""

from dataclasses import dataclass
from typing import Final

from ...composing import seeded
from ...encoders.students import BERT_BASE, generator_of
from ...encoders.text import TextEncoder
from ...loop import Training
from ...methods.course_learning import (
    COURSES,
    Course,
    CourseLearning,
    CourseLearningBatch,
    course_batches,
)
from ...recipe import Recipe
from ...text_data import TextData
from .common import PretrainingSettings
from .single_texts import single_texts, with_mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(PretrainingSettings):
    """The recipe's numbers; `change` is the share of tokens that are masked, moved or inserted."""

    change: float = 0.15
    weight: float = 50.0  # of the discriminator's losses
    courses: tuple[Course, ...] = COURSES


SMALL: Final = Settings()
PAPER: Final = Settings(  # ELECTRA-base, appendix A; MCL's own are not known for sure
    steps=766_000, batch_size=256, rate=2e-4, warmup=10_000, shape=BERT_BASE
)


def build(data: TextData, settings: Settings) -> Training[CourseLearningBatch]:
    """Compose the run; its probe gives retrieval and RankMe."""
    mask, shape = settings.shape.vocabulary, with_mask(settings.shape)
    with seeded(settings.seed):
        encoder, generator = TextEncoder(shape), TextEncoder(generator_of(shape))
        own = settings.only("weight", "courses")
        method = CourseLearning(encoder, generator, blank=mask, **own)
    views = course_batches(
        settings.seed, blank=mask, longest=shape.max_length, rate=settings.change
    )
    return single_texts(method, data, settings, views=views)


recipe = Recipe(
    paper="Chen et al. 2023, arXiv:2305.03981",
    family="classify",
    modality="text",
    settings=SMALL,
    published=PAPER,
    build=build,
    differences=(
        "generator and discriminator have a token table each; no dropout",
        "corrected are the tokens that the discriminator alone judged wrongly",
        "one run of all courses, and no average of the weights of several (course soup)",
        "a text is one document, cut; the probes see the mean of the tokens instead of [CLS]",
    ),
)
