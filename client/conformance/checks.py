"""The checks: each asks the server, compares with the bundle, and says in words what differs."""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attar.encodings import Vectors
from attar.errors import AttarError, InvalidInput, NotSupported
from attar.runtime import Encoder

from .http_server import HttpServer, ResponseError
from .hypotheses import Embed, Hypothesis, of_every_text, of_length, of_letters, right
from .texts import EMPTY, KINDS, PLAIN, long_text

MIN_COSINE: Final = 0.999
AT_ONCE: Final = 8  # requests, in the check of concurrency
ROUNDS: Final = 4
_LENGTH_TOLERANCE: Final = 1e-2


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check: `holds` is None where there is nothing to judge by, and `why` says more.

    `cosine` is the worst of the server's embeddings with the bundle's, where they are compared.
    """

    what: str
    holds: bool | None
    why: str = ""
    cosine: float | None = None


def check_server(
    server: HttpServer, encoder: Encoder, *, min_cosine: float = MIN_COSINE
) -> list[Check]:
    """Ask a server for embeddings of texts, and compare each with the encoder's.

    An embedding is right where its cosine with the encoder's is `min_cosine` or more; a server of
    int8 weights needs less, or the same variant of the bundle as `encoder`. The server gets some
    hundred short texts, two long ones and 8 requests at a time.

    Raises InvalidInput for a cosine out of (0, 1], NotSupported for a bundle that embeds no texts,
    and Unavailable where no server answers.
    """
    encoder.manifest.require_encoder("a check of a server")
    if encoder.modality != "text":
        raise NotSupported(
            f"{encoder.manifest.name} takes {encoder.modality}, and servers are checked with texts"
        )
    if not 0 < min_cosine <= 1:
        raise InvalidInput(f"min_cosine must be above 0 and at most 1; got {min_cosine}")
    try:
        plain = server.embed(PLAIN[:1])
    except ResponseError as error:
        return [Check(what="answers", holds=False, why=f"a plain text is not embedded: {error}")]
    answered = Check(what="answers", holds=True)
    if plain.shape[1] != encoder.dim:
        why = f"an embedding has {plain.shape[1]} numbers; the bundle's has {encoder.dim}"
        return [answered, Check(what="width", holds=False, why=why)]
    judge = _Judge(server, encoder, min_cosine)
    return [answered, Check(what="width", holds=True), *judge.checks()]


class _Judge:
    """The checks of one server, which share its answers to single texts."""

    def __init__(self, server: HttpServer, encoder: Encoder, min_cosine: float) -> None:
        self._server = server
        self._encoder = encoder
        self._min_cosine = min_cosine
        self._embed: Embed = right(encoder)  # or what explains the answers to plain texts

    def checks(self) -> Iterator[Check]:
        try:
            alone = np.concatenate([self._server.embed([text]) for text in PLAIN])
        except ResponseError as error:
            yield Check(what="plain texts", holds=False, why=str(error))
            return
        yield self._length(alone)
        plain, is_explained = self._plain(alone)
        yield plain
        if is_explained:
            yield from self._letters()
            yield self._truncation()
        else:
            for what in ("tokenisation", "truncation"):
                yield Check(what=what, holds=None, why="plain texts differ already")
        yield from self._batch(alone)
        yield self._concurrency(alone)
        yield self._empty()

    def _length(self, alone: Vectors) -> Check:
        """Compare the lengths of vectors."""
        lengths = np.linalg.norm(alone, axis=1)
        expected = np.linalg.norm(right(self._encoder)(PLAIN), axis=1)
        ratio = lengths / expected
        if np.all(np.abs(ratio - 1) <= _LENGTH_TOLERANCE):
            return Check(what="normalisation", holds=True)
        shown = f"lengths are {lengths.min():.3g} to {lengths.max():.3g}"
        unit = "1" if self._encoder.manifest.output.normalized else "others"
        return Check(what="normalisation", holds=False, why=f"{shown}; the bundle's are {unit}")

    def _plain(self, alone: Vectors) -> tuple[Check, bool]:
        """Compare embeddings of plain texts; say whether they are right, or why they are not.

        What explains them is what the checks after this one expect.
        """
        worst = _worst(alone, self._embed(PLAIN))
        if worst >= self._min_cosine:
            return Check(what="plain texts", holds=True, cosine=worst), True
        why = "another pooling, other weights, a coarser precision, or a prompt of the server's own"
        if not np.isfinite(alone).all():
            why = "an embedding has NaN or infinity"
        found = self._explanation(of_every_text(self._encoder), PLAIN, alone)
        if found is not None:
            self._embed, why = found.embed, found.words
        check = Check(what="plain texts", holds=False, why=why, cosine=worst)
        return check, found is not None

    def _explanation(
        self, hypotheses: Iterable[Hypothesis], texts: Sequence[str], vectors: Vectors
    ) -> Hypothesis | None:
        """Give the first hypothesis under which the server's answers are right."""
        for hypothesis in hypotheses:
            if _worst(vectors, hypothesis.embed(texts)) >= self._min_cosine:
                return hypothesis
        return None

    def _letters(self) -> Iterator[Check]:
        """Compare embeddings of texts that tokenizers treat in their own ways, kind by kind."""
        differing: dict[str, float] = {}
        texts: list[str] = []
        rows: list[Vectors] = []
        refused: list[str] = []
        worst = 1.0
        for kind, examples in KINDS.items():
            takes = [text for text in examples if self._is_taken(text)]
            try:
                vectors = [self._server.embed([text]) for text in takes]
            except ResponseError:
                refused.append(kind)
                continue
            texts += takes
            rows += vectors
            if takes:
                cosine = _worst(np.concatenate(vectors), self._embed(takes))
                worst = min(worst, cosine)
                if cosine < self._min_cosine:
                    differing[kind] = cosine
        if refused:
            why = f"texts with {', '.join(refused)} are refused; the bundle takes them"
            yield Check(what="texts taken", holds=False, why=why)
        if not differing:
            yield Check(what="tokenisation", holds=True, cosine=worst)
            return
        found = self._explanation(of_letters(self._encoder), texts, np.concatenate(rows))
        kinds = "texts with " + ", ".join(differing)
        why = f"{found.words}: {kinds}" if found else f"{kinds} differ"
        yield Check(what="tokenisation", holds=False, why=why, cosine=worst)

    def _is_taken(self, text: str) -> bool:
        try:
            self._embed([text])
        except AttarError:
            return False
        return True

    def _truncation(self) -> Check:
        """Send a text that is too long: it is refused, or cut as the bundle cuts it."""
        limit = self._encoder.max_length or 0
        text = long_text(4 * limit)
        try:
            vectors = self._server.embed([text])
        except ResponseError as error:
            if error.is_refusal:
                return Check(what="truncation", holds=True, why="a long text is refused")
            return Check(what="truncation", holds=False, why=f"a long text: {error}")
        worst = _worst(vectors, self._embed([text]))
        if worst >= self._min_cosine:
            why = f"a long text is cut at {limit} tokens"
            return Check(what="truncation", holds=True, why=why, cosine=worst)
        found = self._explanation(of_length(self._encoder), [text], vectors)
        why = found.words if found else "a long text is cut elsewhere than the bundle cuts it"
        return Check(what="truncation", holds=False, why=why, cosine=worst)

    def _batch(self, alone: Vectors) -> Iterator[Check]:
        """Send texts of unlike lengths together: rows in their order, the same as alone."""
        try:
            together = self._server.embed(PLAIN)
        except ResponseError as error:
            yield Check(what="order", holds=False, why=f"{len(PLAIN)} texts together: {error}")
            return
        moved = _of_others(together, alone, range(len(PLAIN)), self._min_cosine)
        if moved:
            why = f"rows {', '.join(map(str, moved))} of an answer are other texts' embeddings"
            yield Check(what="order", holds=False, why=why)
            yield Check(what="batch invariance", holds=None, why="rows are out of order")
            return
        yield Check(what="order", holds=True)
        worst = _worst(together, alone)
        holds = worst >= self._min_cosine
        why = "" if holds else "a text among longer ones has another embedding than alone"
        yield Check(what="batch invariance", holds=holds, why=why, cosine=worst)

    def _concurrency(self, alone: Vectors) -> Check:
        """Send single texts at the same time: each gets its own embedding."""
        sent = [*range(len(PLAIN))] * ROUNDS
        with ThreadPoolExecutor(AT_ONCE) as threads:
            answers = [threads.submit(self._server.embed, [PLAIN[i]]) for i in sent]
        try:
            rows = np.concatenate([answer.result() for answer in answers])
        except (ResponseError, AttarError) as error:
            return Check(what="concurrency", holds=False, why=f"{AT_ONCE} at a time: {error}")
        worst = _worst(rows, alone[sent])
        if worst >= self._min_cosine:
            return Check(what="concurrency", holds=True, cosine=worst)
        why = f"of {AT_ONCE} requests at a time some get another text's embedding"
        if not _of_others(rows, alone, sent, self._min_cosine):
            why = f"with {AT_ONCE} requests at a time embeddings differ"
        return Check(what="concurrency", holds=False, why=why, cosine=worst)

    def _empty(self) -> Check:
        """Send texts of no word: numbers, or a refusal."""
        wrong = dict(self._faults_of_empty())
        why = "; ".join(f"{text}: {fault}" for text, fault in wrong.items())
        return Check(what="empty texts", holds=not wrong, why=why)

    def _faults_of_empty(self) -> Iterator[tuple[str, str]]:
        for text in EMPTY:
            try:
                vectors = self._server.embed([text])
            except ResponseError as error:
                if not error.is_refusal:
                    yield repr(text), str(error)
            else:
                if not np.isfinite(vectors).all():
                    yield repr(text), "NaN or infinity"


def _cosines(rows: Vectors, others: Vectors) -> NDArray[np.float64]:
    """Give the cosine of each row with each of the others, (n, m); NaN for a row without one."""
    units = []
    for matrix in (rows, others):
        doubles = matrix.astype(np.float64)
        with np.errstate(all="ignore"):
            units.append(doubles / np.linalg.norm(doubles, axis=1, keepdims=True))
    cosines: NDArray[np.float64] = units[0] @ units[1].T
    return cosines


def _worst(rows: Vectors, others: Vectors) -> float:
    """Give the least cosine of two rows at the same place; -2 where one has none."""
    if len(rows) != len(others):
        return -2.0
    cosines = np.diagonal(_cosines(rows, others))
    return float(cosines.min()) if np.isfinite(cosines).all() else -2.0


def _of_others(rows: Vectors, alone: Vectors, texts: Sequence[int], min_cosine: float) -> list[int]:
    """Give the rows that are the embedding of another text than `texts` says, by its index."""
    cosines = np.nan_to_num(_cosines(rows, alone), nan=-2.0) >= min_cosine
    return [i for i, own in enumerate(texts) if not cosines[i, own] and cosines[i].any()]
