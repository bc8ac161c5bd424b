"""The host step of a cross-encoder: pairs of texts to token ids, each pair judged by itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer

from .errors import BundleRefused, InputTooLong, InvalidInput
from .inputs import (
    HOW_TO_CUT,
    ROLES,
    Items,
    Prepared,
    Role,
    TextInput,
    TextPair,
    Truncation,
    as_text,
    listed,
    one_of,
)

_TRIED: Final = "a text"

Ids: TypeAlias = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class _Text:
    """A text with its ids, none of them special, and whether they are all of them."""

    text: str
    ids: Ids
    whole: bool


@dataclass(frozen=True, slots=True, eq=False)
class _Template:
    """What a tokenizer puts before, between and after the texts of a pair, and their segments."""

    before: Ids
    between: Ids
    after: Ids
    segments: tuple[int, int, int, int, int]  # of before, query, between, document, after

    @property
    def size(self) -> int:
        return len(self.before) + len(self.between) + len(self.after)


class PairInput:
    """Pairs of a query and a document to token ids, with special tokens around both.

    A pair that is too long is cut as transformers does with "longest_first": the longer text first,
    until both are of one length. Each text is tokenised once a call, however many pairs have it.
    """

    def __init__(
        self, tokenizer: bytes, *, max_length: int, segments: bool, truncation_side: str | None
    ) -> None:
        """Read a tokenizer.json; `max_length` is of a pair, special tokens included.

        With `segments` the graph is given which token is of which text. Raises BundleRefused as
        TextInput does, and where there is no room for a token of each text.
        """
        self._text = TextInput(
            tokenizer, max_length=max_length, prompts={}, truncation_side=truncation_side
        )
        self.truncation_side = self._text.truncation_side
        self._segments = segments
        whole = Tokenizer.from_str(tokenizer.decode())
        whole.no_truncation()
        whole.no_padding()
        self._around = _around(whole.encode(_TRIED))
        self._template = _template(whole.encode(_TRIED, _TRIED))
        self._max_length = max_length
        self._room = max_length - self._template.size
        if self._room < 2:
            raise BundleRefused(
                "tokenizer",
                f"max_length {max_length} leaves no room for two texts besides "
                f"{self._template.size} special tokens",
            )

    def prepare(self, items: Items, *, role: Role, truncation: Truncation) -> list[Prepared]:
        """Tokenise every pair, or raise InvalidInput that names the first bad one by its index.

        A pair has no role: a cross-encoder knows the query from the document by their order.
        """
        one_of("role", role, ROLES)
        one_of("truncation", truncation, get_args(Truncation))
        pairs = [_pair(item, index) for index, item in enumerate(listed(items))]
        texts = dict.fromkeys(text for pair in pairs for text in (pair.query, pair.document))
        ids = self._ids(list(texts), pairs)
        return [
            self._row(ids[pair.query], ids[pair.document], index, truncation)
            for index, pair in enumerate(pairs)
        ]

    def batch(self, rows: Sequence[Prepared]) -> tuple[NDArray[Any], ...]:
        """Stack rows, padded to the longest: ids, mask and segments if used, (n, length) int64."""
        ids, mask = self._text.batch(rows)
        if not self._segments:
            return ids, mask
        segments = np.zeros_like(ids)
        for i, row in enumerate(rows):
            segments[i, : row.tokens] = row.arrays[2]
        return ids, mask, segments

    def key(self, row: Prepared) -> tuple[int, ...]:
        """Rows of one key may share a batch: all, since the mask covers padding."""
        return ()

    def _ids(self, texts: list[str], pairs: Sequence[TextPair]) -> dict[str, _Text]:
        """Tokenise each text."""
        try:
            rows = self._text.prepare(texts, role="passage", truncation="truncate")
        except InvalidInput:
            rows = [self._alone(text, pairs) for text in texts]
        start, end = self._around
        return {
            text: _Text(text, row.arrays[0][start : row.tokens - end], whole=not row.truncated)
            for text, row in zip(texts, rows, strict=True)
        }

    def _alone(self, text: str, pairs: Sequence[TextPair]) -> Prepared:
        """Tokenise one text; a fault of it is named by the first pair that has it."""
        try:
            (row,) = self._text.prepare([text], role="passage", truncation="truncate")
        except InvalidInput as error:
            index = next(i for i, pair in enumerate(pairs) if text in (pair.query, pair.document))
            refused = type(error)(f"item {index} " + str(error).removeprefix("item 0 "))
            refused.tokens = error.tokens
            raise refused from None
        return row

    def _row(self, query: _Text, document: _Text, index: int, truncation: Truncation) -> Prepared:
        a, b, template = query.ids, document.ids, self._template
        cut = not (query.whole and document.whole and len(a) + len(b) <= self._room)
        if cut and truncation == "error":
            raise self._too_long(query, document, index)
        if cut:
            sizes = longest_first(*self._lengths(query, document), self._room)
            a, b = self._cut(a, sizes[0]), self._cut(b, sizes[1])
        parts = (template.before, a, template.between, b, template.after)
        ids = np.concatenate(parts)
        arrays: tuple[Ids, ...] = (ids, np.ones_like(ids))
        if self._segments:
            kinds = np.array(template.segments, np.int64)
            arrays = (*arrays, np.repeat(kinds, [len(part) for part in parts]))
        return Prepared(arrays, len(ids), truncated=cut)

    def _lengths(self, query: _Text, document: _Text) -> tuple[int, int]:
        """Give the lengths that decide how a pair is cut.

        Of two texts that are both longer than the room, which one is the longer counts too.
        """
        if min(len(query.ids), len(document.ids)) <= self._room:
            return len(query.ids), len(document.ids)
        return self._text.count(query.text), self._text.count(document.text)

    def _too_long(self, query: _Text, document: _Text, index: int) -> InputTooLong:
        total = len(query.ids) + len(document.ids) + self._template.size
        more = "" if query.whole and document.whole else "more than "
        refused = InputTooLong(
            f"item {index} has {more}{total} tokens and the cross-encoder takes "
            f"{self._max_length}; shorten it, or {HOW_TO_CUT}"
        )
        refused.tokens = total
        return refused

    def _cut(self, ids: Ids, size: int) -> Ids:
        return ids[:size] if self.truncation_side == "right" else ids[len(ids) - size :]


def longest_first(a: int, b: int, room: int) -> tuple[int, int]:
    """Give the lengths that two texts of `a` and `b` tokens are cut to, together `room` at most.

    The longer is cut until both are of one length, and then both; of an odd room the longer text
    has the greater half. So does the strategy of this name in Hugging Face's tokenizers.

    Example:
        >>> longest_first(3, 10, 8)
        (3, 5)
    """
    if a + b <= room:
        return a, b
    shorter = min(a, b, room // 2)
    sizes = (shorter, room - shorter)
    return sizes if a <= b else (sizes[1], sizes[0])


def _pair(item: object, index: int) -> TextPair:
    if not isinstance(item, TextPair):
        raise InvalidInput(
            f"item {index} must be a pair of a query and a document; got {type(item).__name__}"
        )
    as_text(item.query, index)
    as_text(item.document, index)
    return item


def _around(single: Tokens) -> tuple[int, int]:
    """Count the special tokens before and after one text."""
    own = [at for at, sequence in enumerate(single.sequence_ids) if sequence is not None]
    if not own:
        raise BundleRefused("tokenizer", f"the tokenizer makes no tokens of the text {_TRIED!r}")
    return own[0], len(single.ids) - own[-1] - 1


def _template(pair: Tokens) -> _Template:
    """Read off a pair what stands around its texts; BundleRefused where that is no fixed frame."""
    ids, kinds = np.array(pair.ids, np.int64), pair.type_ids
    of = pair.sequence_ids
    first = [at for at, sequence in enumerate(of) if sequence == 0]
    second = [at for at, sequence in enumerate(of) if sequence == 1]
    parts = (
        slice(0, first[0]),
        slice(first[0], first[-1] + 1),
        slice(first[-1] + 1, second[0]),
        slice(second[0], second[-1] + 1),
        slice(second[-1] + 1, len(ids)),
    )
    segments = [{*kinds[part]} or {0} for part in parts]
    if any(len(kinds) > 1 for kinds in segments):
        raise BundleRefused(
            "tokenizer", "the tokenizer gives one part of a pair several segments (type_ids)"
        )
    before, query, between, document, after = (min(kinds) for kinds in segments)
    return _Template(
        before=ids[parts[0]],
        between=ids[parts[2]],
        after=ids[parts[4]],
        segments=(before, query, between, document, after),
    )
