"""The data of an adaptation: its pairs as token ids, filtered and mined by the base encoder."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attar.errors import InvalidInput
from attar.inputs import Role, TextInput

from ..checkpoints.encoder_folder import TextModel
from ..data.consistency import COPIED, consistent
from ..data.hard_negatives import hard_negatives
from ..data.text import Row
from ..encoders.text import TextEncoder
from ..probes.retrieval import ranks
from ..probes.text_retrieval import Retrieval, embed
from ..run_data import report
from .pair_split import PairSplit
from .passage_pairs import PassagePairs

PROBED = 600  # passages that a validation query is searched among, to be quick
SEARCHED = 2000  # passages that a test query is searched among, before and after
WRITTEN = ("title_and_body", "summary_and_rest")
"""The rules whose queries the author of the document wrote; the filter is for made ones."""
COPIES = ("inverse_cloze", "keyword_query", "two_dropouts")
"""The rules whose queries are words of their passages by construction."""


@dataclass(frozen=True, slots=True)
class PairTokenizer:
    """The tokenizer of a model with its prompts; it cuts texts at `max_length` tokens."""

    model: TextModel[TextEncoder]
    max_length: int

    def rows(self, texts: Sequence[str], role: Role, *, what: str) -> tuple[Row, ...]:
        """Give the token ids of texts, and report how many of `what` they are were cut."""
        tokenizer, prompts = self.model.tokenizer, self.model.prompts
        host = TextInput(tokenizer, max_length=self.max_length, prompts=prompts)
        rows = host.prepare(texts, role=role, truncation="truncate")
        if cut := sum(row.truncated for row in rows):
            report(
                f"{cut:,} of {len(rows):,} {what} have more than {self.max_length} tokens, and are "
                "cut there (--length)"
            )
        return tuple(row.arrays[0] for row in rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPairs:
    """The pairs as token ids.

    `train` are those that are trained on, `passages` all of test, validation and training, in this
    order.
    """

    train: PassagePairs
    validation: PassagePairs
    test: PassagePairs
    passages: tuple[Row, ...]

    @property
    def chooses(self) -> Retrieval:
        """The task that chooses weights: validation queries, among few passages to be quick."""
        validation = self.passages[len(self.test) :]
        return _task(self.validation, validation[: max(PROBED, len(self.validation))])

    @property
    def judges(self) -> Retrieval:
        """The task that judges weights: test queries, among `SEARCHED` passages."""
        return _task(self.test, self.passages[: max(SEARCHED, len(self.test))])

    @property
    def sizes(self) -> dict[str, int]:
        """The pairs of each part, and the passages that are searched."""
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        searched = len(self.judges.documents)
        return {**{name: len(part) for name, part in parts.items()}, "passages": searched}


def prepared(
    pairs: PairSplit, tokenizer: PairTokenizer, *, negatives: int
) -> tuple[TokenPairs, NDArray[np.int64]]:
    """Tokenise, filter and mine by the base encoder; give its ranks of the test passages too.

    Pairs that their authors wrote stay (`WRITTEN`). Of others those stay to train on that the base
    is consistent with (`data.consistency`). Each has `negatives` hard negatives of the base's
    ranking. Raises InvalidInput where fewer than two pairs stay.
    """
    encoder = tokenizer.model.encoder
    every = (*pairs.test, *pairs.validation, *pairs.train)
    queries = tokenizer.rows([pair.summary for pair in every], "query", what="queries")
    passages = tokenizer.rows([pair.body for pair in every], "passage", what="passages")
    tests, first = len(pairs.test), len(pairs.test) + len(pairs.validation)
    train = PassagePairs(queries=queries[first:], passages=passages[first:])
    if pairs.rule not in WRITTEN or negatives:
        train = _chosen(pairs, train, encoder, negatives)
    data = TokenPairs(
        train=train,
        validation=PassagePairs(queries=queries[tests:first], passages=passages[tests:first]),
        test=PassagePairs(queries=queries[:tests], passages=passages[:tests]),
        passages=passages,
    )
    task = data.judges
    report(f"the base embeds {len(task.documents):,} passages, to compare with")
    documents = embed(encoder, task.documents, progress="embedding")
    before = ranks(embed(encoder, task.queries), documents, task.relevant)
    return data, before


def _chosen(
    pairs: PairSplit, train: PassagePairs, encoder: TextEncoder, negatives: int
) -> PassagePairs:
    """Give the pairs to train on that pass the filter, with their hard negatives."""
    report(f"the base embeds the {len(train):,} pairs, to filter them")
    queries, passages = (
        embed(encoder, part, progress="embedding") for part in (train.queries, train.passages)
    )
    rows = np.arange(len(train))
    if pairs.rule not in WRITTEN:
        rows = _consistent(pairs, queries, passages)
    return PassagePairs(
        queries=[train.queries[row] for row in rows.tolist()],
        passages=[train.passages[row] for row in rows.tolist()],
        negatives=_mined(queries[rows], passages[rows], negatives),
    )


def _consistent(
    pairs: PairSplit, queries: NDArray[np.float32], passages: NDArray[np.float32]
) -> NDArray[np.int64]:
    """Give the rows of the pairs to train on that pass the filter."""
    copied = math.inf if pairs.rule in COPIES else COPIED
    consistency = consistent(pairs.train, queries, passages, copied=copied)
    report(*consistency.lines())
    if len(consistency.rows) < 2:
        raise InvalidInput(
            f"{len(consistency.rows)} of {len(pairs.train)} pairs passed the consistency filter, "
            "and two are the least; give more documents, or another rule"
        )
    return consistency.rows


def _mined(
    queries: NDArray[np.float32], passages: NDArray[np.float32], count: int
) -> NDArray[np.int64] | None:
    """Give `count` hard negatives of each query; where it has fewer, the next passages fill up."""
    if not count:
        return None
    mined = hard_negatives(queries, passages, count=count)
    report(*mined.lines())
    following = (np.arange(len(queries))[:, None] + 1 + np.arange(count)) % len(queries)
    return np.where(mined.rows < 0, following, mined.rows)


def _task(wanted: PassagePairs, passages: Sequence[Row]) -> Retrieval:
    """Give the task to find each wanted passage, which come first, among all passages."""
    relevant = np.arange(len(wanted), dtype=np.int64)
    return Retrieval(queries=tuple(wanted.queries), documents=tuple(passages), relevant=relevant)
