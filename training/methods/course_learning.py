"""Courses of token detection: a discriminator finds what a generator and two views changed.

Chen et al. 2023 (MCL), arXiv:2305.03981, on ELECTRA (Clark et al. 2020, arXiv:2003.10555).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, TypeAlias, get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attar.errors import InvalidInput

from ..distributed import step_generator, weight
from ..encoders.text import TextEncoder
from ..method import Method, Metrics
from ..objectives.token_detection import token_detection
from ..views.text import Tokens, insert_tokens, mask_tokens, swap_tokens
from .masked_language import MaskedLanguage, MaskedLanguageBatch, mean_cross_entropy

Course: TypeAlias = Literal["replaced", "swapped", "inserted", "corrected"]
COURSES: Final[tuple[Course, ...]] = get_args(Course)


class CourseLearningBatch(NamedTuple):
    """Texts with masked, with swapped and with inserted tokens, and numbers to sample by."""

    masked: MaskedLanguageBatch
    swapped: Tokens
    moved: Tensor  # (n, length) bool
    inserted: Tokens  # (n, longer) ids, blank where one was inserted, and their mask
    added: Tensor  # (n, longer) bool
    draws: Tensor  # (n, 3, longer), uniform in [0, 1)


class CourseLearning(Method[CourseLearningBatch]):
    """The discriminator is the encoder; a smaller generator learns masked language modelling.

    - "replaced": the discriminator finds the masked tokens that the generator replaced by others
      (ELECTRA). Always a course.
    - "swapped": it finds tokens that changed places.
    - "inserted": it finds tokens that the generator inserted.
    - "corrected": where the discriminator was wrong about a token, or nowhere in a text and then
      where tokens were masked, the generator predicts the token again in the replaced text, and the
      discriminator judges again what it put there.

    The loss is the generator's cross-entropy plus `weight` times the detection losses. No gradient
    goes from one network to the other. Logs the loss of each course.
    """

    encoder: TextEncoder

    def __init__(
        self,
        encoder: TextEncoder,
        generator: TextEncoder,
        *,
        blank: int,
        weight: float = 50.0,
        courses: Sequence[Course] = COURSES,
    ) -> None:
        super().__init__()
        if "replaced" not in courses:
            raise InvalidInput(f"replaced must be one of the courses; got {', '.join(courses)}")
        self.encoder = encoder
        self.generator = MaskedLanguage(generator)
        self.blank = blank
        self.weight = weight
        self.courses = tuple(courses)
        width = encoder.shape.transformer.width
        heads = (course for course in self.courses if course != "corrected")
        self.detectors = nn.ModuleDict({course: _detector(width) for course in heads})

    def loss(self, batch: CourseLearningBatch, step: int) -> tuple[Tensor, Metrics]:
        """Give the generator's loss plus the weighted losses of the courses."""
        ids, hidden = batch.masked.ids, batch.masked.hidden
        clean = Tokens(ids, batch.masked.masked.mask)
        logits = self.generator.logits(batch.masked.masked, hidden)
        predicting = {"masked": mean_cross_entropy(logits, ids[hidden])}
        replaced = _put(clean, hidden, sample(logits, batch.draws[:, 0], hidden))
        changed, real = replaced.ids != ids, replaced.mask.bool()
        judged = self._judge("replaced", replaced)
        detecting = {"replaced": _error(judged, changed, real)}
        if "swapped" in self.courses:
            detecting["swapped"] = _error(self._judge("swapped", batch.swapped), batch.moved, real)
        if "inserted" in self.courses:
            detecting["inserted"] = self._inserted(batch)
        if "corrected" in self.courses:
            wrong = ((judged > 0) != changed) & real
            again = wrong.where(wrong.any(dim=1, keepdim=True), hidden)
            guesses, predicting["masked_again"] = self._predict_again(batch, replaced, again)
            corrected = _put(replaced, again, guesses)
            judged_again = self._judge("replaced", corrected)
            detecting["replaced_again"] = _error(judged_again, corrected.ids != ids, again)
        loss = _total(predicting) + self.weight * _total(detecting)
        return loss, {name: term.detach() for name, term in (predicting | detecting).items()}

    def _inserted(self, batch: CourseLearningBatch) -> Tensor:
        """Let the generator fill the blanks that were inserted, and the discriminator find them."""
        with torch.no_grad():
            logits = self.generator.logits(batch.inserted, batch.added)
        guesses = sample(logits, batch.draws[:, 1], batch.added)
        judged = self._judge("inserted", _put(batch.inserted, batch.added, guesses))
        return _error(judged, batch.added, batch.inserted.mask.bool())

    def _predict_again(
        self, batch: CourseLearningBatch, replaced: Tokens, again: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let the generator predict the tokens at `again`; give what it samples, and its loss."""
        blanks = Tokens(replaced.ids.masked_fill(again, self.blank), replaced.mask)
        logits = self.generator.logits(blanks, again)
        loss = mean_cross_entropy(logits, batch.masked.ids[again])
        return sample(logits, batch.draws[:, 2], again), loss

    def _judge(self, course: Course, tokens: Tokens) -> Float[Tensor, "n length"]:
        """Give the logit of each token: high where the discriminator thinks it was changed."""
        states = self.encoder.transformer(self.encoder.tokens(tokens.ids), tokens.mask.bool())
        logits: Tensor = self.detectors[course](states)
        return logits.squeeze(-1)


def course_batches(
    seed: int, *, blank: int, longest: int, rate: float
) -> Callable[[Tokens, int], CourseLearningBatch]:
    """Give what makes the batch of a step: masks, swaps and inserts a share `rate` of the tokens.

    All masked and inserted tokens are `blank`, as in ELECTRA. A text with inserted tokens is cut to
    the `longest` that an encoder reads.
    """

    def views(tokens: Tokens, step: int) -> CourseLearningBatch:
        draw = step_generator(seed, step)
        masked = mask_tokens(
            tokens, draw, blank=blank, vocabulary=blank, rate=rate, replaced=0, unchanged=0
        )
        swapped = swap_tokens(tokens, draw, rate=rate)
        inserted = insert_tokens(tokens, draw, blank=blank, longest=longest, rate=rate)
        width = max(tokens.ids.shape[1], inserted.data.ids.shape[1])
        draws = torch.rand(len(tokens.ids), 3, width, generator=draw)
        return CourseLearningBatch(
            MaskedLanguageBatch(masked.data, tokens.ids, masked.params["hidden"]),
            swapped.data,
            swapped.params["moved"],
            inserted.data,
            inserted.params["added"],
            draws.to(tokens.ids.device),
        )

    return views


@torch.no_grad()
def sample(
    logits: Float[Tensor, "m vocabulary"],
    draws: Float[Tensor, "n longer"],
    at: Bool[Tensor, "n length"],
) -> Int[Tensor, " m"]:
    """Sample a token for each of the m positions `at` by the uniform draw of its position.

    So what a text gets does not depend on its batch, or on how many processes there are.
    """
    below = draws[:, : at.shape[1]][at][:, None]
    shares = logits.float().softmax(-1).cumsum(-1)
    return (shares < below).sum(-1).clamp(max=logits.shape[-1] - 1)


def _detector(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))


def _put(tokens: Tokens, at: Tensor, ids: Tensor) -> Tokens:
    """Put (m,) ids at the positions `at`, row by row."""
    return Tokens(tokens.ids.masked_scatter(at, ids), tokens.mask)


def _error(judged: Tensor, changed: Tensor, counted: Tensor) -> Tensor:
    """Give this process's part of the mean detection loss over all processes."""
    return token_detection(judged, changed, counted) * weight(counted.sum())


def _total(losses: Mapping[str, Tensor]) -> Tensor:
    return torch.stack([*losses.values()]).sum()
