"""The host's step before the graph: items to tensors, one item at a time, each judged by itself."""

import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from json import JSONDecodeError
from typing import Any, Final, Literal, TypeAlias, TypeGuard, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer

from .errors import BundleRefused, InputTooLong, InvalidInput, ShapeError
from .manifest import AxisRange, Limits, TensorSpec
from .token_ids import PRIVATE, OwnIds
from .tokenizer_scan.check import check_file
from .tokenizer_scan.growth import check_growth

Role: TypeAlias = str
"""What a text is for: one of `ROLES`, or another name of the bundle's prompts."""

ROLES: Final = ("passage", "query")
"""What every text bundle takes; a role without a prompt has none."""

Truncation: TypeAlias = Literal["truncate", "error"]
Priority: TypeAlias = Literal["interactive", "bulk"]
T = TypeVar("T")
HOW_TO_CUT: Final = "pass truncation='truncate'"
"""What InputTooLong advises; a protocol that spells it otherwise puts its own words there."""


@dataclass(frozen=True, slots=True)
class TextPair:
    """A query, and a document that is scored for it."""

    query: str
    document: str

    def __len__(self) -> int:
        """Count the characters of both."""
        return len(self.query) + len(self.document)


Items: TypeAlias = (
    Sequence[str]
    | Sequence[Sequence[int]]
    | Sequence[NDArray[Any]]
    | NDArray[Any]
    | Sequence[TextPair]
)

VALUES_SLACK = 0.25
"""Of the range of the values in training: resizing overshoots; another scale is further away."""
SEND_TEXT: Final = "send the text itself (LangChain does with check_embedding_ctx_length=False)"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item as the graph takes it, without the batch axis.

    `tokens` is what it costs a run: a text's tokens, and for a tensor as many as its numbers make.
    """

    arrays: tuple[NDArray[Any], ...]
    tokens: int
    truncated: bool
    key: bytes = b""  # equal for equal items, where the caller of `prepare` set `identified`


def identified(row: Prepared) -> Prepared:
    """Give the row with its key: a hash of 256 bits of everything that the graph gets of it."""
    digest = blake2b(digest_size=32)
    for array in row.arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return replace(row, key=digest.digest())


_TRIED = "a text"  # at load
_CHARACTERS_PER_TOKEN = 32  # more than there are in a text of any language
_MOST_CHARACTERS = 2**18  # of one text that has few tokens for them: blanks, or one word
_MOST_AT_ONCE = 2**16  # characters that are tokenised together
_SHOWN = 20  # characters of a word in a message, and words


def _outcome(job: Callable[[], T]) -> T | BaseException:
    """Give a result, or what was raised: tokenizers panics by errors that are no Exception."""
    try:
        return job()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:  # noqa: BLE001 -- its caller tells it as an AttarError
        return error


class TextInput:
    """Texts to token ids: the role's prompt in front, special tokens kept when a text is cut.

    Token ids are taken as they are, with no prompt, nothing added and nothing cut, where they can
    be this tokenizer's own output, or with `allow_token_ids`.
    """

    def __init__(
        self,
        tokenizer: bytes,
        *,
        max_length: int,
        prompts: Mapping[str, str],
        allow_token_ids: bool = False,
        truncation_side: str | None = None,
    ) -> None:
        """Read a tokenizer.json; its own padding and length of truncation are switched off.

        `truncation_side` is the end of a long text that is cut, "left" or "right"; None is what the
        tokenizer.json says.
        """
        try:
            check_file(tokenizer)
        except (UnicodeDecodeError, JSONDecodeError) as error:
            raise BundleRefused("tokenizer", f"the tokenizer cannot be read: {error}") from None
        except ValueError as error:
            raise BundleRefused("tokenizer", f"the tokenizer is refused: {error}") from None
        read = _outcome(lambda: Tokenizer.from_str(tokenizer.decode()))
        if isinstance(read, BaseException):
            raise BundleRefused("tokenizer", f"the tokenizer cannot be read: {read}")
        self._tokenizer = read
        try:
            check_growth(read)
        except ValueError as error:
            raise BundleRefused("tokenizer", f"the tokenizer is refused: {error}") from None
        specials = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if specials >= max_length:
            raise BundleRefused(
                "tokenizer",
                f"max_length {max_length} leaves no room besides {specials} special tokens",
            )
        own = self._tokenizer.truncation
        self.truncation_side: str = truncation_side or (own["direction"] if own else "right")
        self._tokenizer.enable_truncation(max_length, direction=self.truncation_side)
        padding = self._tokenizer.padding
        self._pad_id: int = padding["pad_id"] if padding else 0
        self._tokenizer.no_padding()
        self._max_length = max_length
        self._usual = _CHARACTERS_PER_TOKEN * max_length
        self._largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self._prompts = dict(prompts)
        self._roles = tuple(dict.fromkeys((*ROLES, *prompts)))
        self._try()
        self._own_ids = None if allow_token_ids else self._own()

    def prepare(self, items: Items, *, role: Role, truncation: Truncation) -> list[Prepared]:
        """Tokenise every item, or raise InvalidInput that names the first bad one by its index."""
        prompt = self._prompts.get(one_of("role", role, self._roles), "")
        one_of("truncation", truncation, get_args(Truncation))
        values = listed(items)
        if is_token_ids(values):
            return [self._checked_ids(item, i) for i, item in enumerate(values)]
        texts = [prompt + as_text(item, i) for i, item in enumerate(values)]
        rows: list[Prepared] = []
        for group in self._groups(texts):
            start = len(rows)
            rows += self._rows(self._encoded(texts[group], start), start, truncation)
        return rows

    def count(self, text: str) -> int:
        """Count a text's tokens without special ones, of a very long one as far as it is read."""
        ((tokens, _),) = self._encoded([text], 0)
        return self._text_tokens(tokens)

    def _groups(self, texts: Sequence[str]) -> Iterator[slice]:
        """Divide texts into what is tokenised at once: tokens take a hundred times their text."""
        start = size = 0
        for i, text in enumerate(texts):
            size += min(len(text), self._usual)
            if size > _MOST_AT_ONCE:
                yield slice(start, i + 1)
                start, size = i + 1, 0
        yield slice(start, len(texts))

    def _try(self) -> None:
        """Refuse a tokenizer that panics at a text; one that lacks an unknown token may not."""
        tried = self._tokenized([_TRIED])
        if isinstance(tried, BaseException) and not isinstance(tried, Exception):
            raise BundleRefused(
                "tokenizer", f"the tokenizer panics at the text {_TRIED!r}: {tried}"
            )

    def _own(self) -> OwnIds:
        pieces = _outcome(lambda: self._tokenizer.model.tokenize(PRIVATE))
        one = pieces[0] if isinstance(pieces, list) and len(pieces) == 1 else None
        return OwnIds(self._tokenizer, unknown=one and one.id)

    def _encoded(self, texts: Sequence[str], start: int) -> list[tuple[Tokens, bool]]:
        """Tokenise texts, the first of which is item `start`, and say whether each was whole.

        All together, except very long ones; one by one where that fails, to name the first that
        cannot be.
        """
        if not any(len(text) > self._usual for text in texts):
            together = self._tokenized(texts)
            if not isinstance(together, BaseException):
                return [(tokens, True) for tokens in together]
        return [self._encoded_alone(text, start + i) for i, text in enumerate(texts)]

    def _encoded_alone(self, text: str, index: int) -> tuple[Tokens, bool]:
        """Tokenise a text, or as much of a very long one as decides the tokens that are kept."""
        size = self._usual
        while True:
            start = text[:size] if self.truncation_side == "right" else text[-size:]
            encoded = self._tokenized([start])
            if isinstance(encoded, BaseException):
                raise InvalidInput(f"item {index} {self._fault(start, encoded)}")
            (tokens,) = encoded
            # What the end of a part changes is beyond what is kept.
            if len(start) == len(text) or len(tokens.overflowing) > 1:
                return tokens, len(start) == len(text)
            if size >= max(_MOST_CHARACTERS, self._usual):
                refused = InvalidInput(
                    f"item {index} has {len(text)} characters, of which {size} make "
                    f"{len(tokens)} tokens; leave out what is no text, or cut it"
                )
                refused.tokens = len(tokens)
                raise refused
            size = min(4 * size, max(_MOST_CHARACTERS, self._usual))

    def _tokenized(self, texts: Sequence[str]) -> list[Tokens] | BaseException:
        return _outcome(lambda: self._tokenizer.encode_batch_fast(texts))

    def _fault(self, text: str, error: BaseException) -> str:
        """Say what of a text the tokenizer has no token for, or else what it said."""
        pieces = _outcome(lambda: self._pre_tokenized(text))
        if isinstance(pieces, BaseException):
            pieces = []
        unknown = [word for word in dict.fromkeys(pieces) if not self._takes(word)]
        if not unknown:
            return f"cannot be tokenised, {error}; leave it out"
        # A word of characters that are all known alone is named whole.
        strange = [c for c in dict.fromkeys("".join(unknown)) if not self._takes(c)] or unknown
        named = ", ".join(repr(part[:_SHOWN]) for part in strange[:_SHOWN])
        return (
            f"holds {named}, which this tokenizer has no token for, and it has none for what is "
            "unknown; leave that out, or export the encoder with a tokenizer that has one"
        )

    def _pre_tokenized(self, text: str) -> list[str]:
        """Split a text into what the tokenizer's model sees."""
        normalizer, splitter = self._tokenizer.normalizer, self._tokenizer.pre_tokenizer
        whole = normalizer.normalize_str(text) if normalizer else text
        return [word for word, _ in splitter.pre_tokenize_str(whole)] if splitter else [whole]

    def _takes(self, word: str) -> bool:
        outcome = _outcome(lambda: self._tokenizer.model.tokenize(word))
        return not isinstance(outcome, BaseException)

    def _rows(
        self, encoded: Sequence[tuple[Tokens, bool]], start: int, truncation: Truncation
    ) -> list[Prepared]:
        """Give the rows of texts, the first of which is item `start`.

        Their ids are parts of one array and their masks parts of another: two arrays for each text
        would take longer than a graph that only looks rows up.
        """
        ids = [tokens.ids for tokens, _ in encoded]
        together = np.fromiter(chain.from_iterable(ids), np.int64)
        ones = np.ones(max(map(len, ids), default=0), np.int64)
        ones.setflags(write=False)  # the mask of every text is its beginning
        rows: list[Prepared] = []
        end = 0
        for index, ((tokens, whole), own) in enumerate(zip(encoded, ids, strict=True), start):
            cut = bool(tokens.overflowing)
            if cut and truncation == "error":
                raise self._too_long(tokens, index, whole=whole)
            if not own:
                raise InvalidInput(f"item {index} has no tokens; leave it out")
            begin, end = end, end + len(own)
            rows.append(Prepared((together[begin:end], ones[: len(own)]), len(own), cut))
        return rows

    def _too_long(self, tokens: Tokens, index: int, *, whole: bool) -> InputTooLong:
        total = self._text_tokens(tokens) + tokens.special_tokens_mask.count(1)
        more = "" if whole else "more than "
        refused = InputTooLong(
            f"item {index} has {more}{total} tokens and the encoder takes {self._max_length}; "
            f"shorten it, or {HOW_TO_CUT}"
        )
        refused.tokens = total
        return refused

    @staticmethod
    def _text_tokens(tokens: Tokens) -> int:
        parts = (tokens, *tokens.overflowing)
        return sum(part.special_tokens_mask.count(0) for part in parts)

    def _checked_ids(self, item: object, index: int) -> Prepared:
        """Hold ids that somebody else made to this tokenizer, or only to what it has rows for."""
        # Before they are copied; a scalar array has a len that raises.
        scalar = isinstance(item, np.ndarray) and not item.ndim
        if isinstance(item, Sized) and not scalar and len(item) > self._max_length:
            raise InputTooLong(
                f"item {index} has {len(item)} tokens and the encoder takes {self._max_length}; "
                "shorten it: token ids are taken as they are and never cut"
            )
        try:
            ids = np.array(item)
        except ValueError:
            ids = np.array(None)
        large = ids.dtype.kind == "O" and all(type(one) is int for one in ids.reshape(-1))
        if ids.ndim != 1 or (ids.dtype.kind not in "iu" and not large and len(ids)):
            raise InvalidInput(f"item {index} must be a flat list of token ids, whole numbers")
        if not len(ids):
            raise InvalidInput(f"item {index} has no tokens; leave it out")
        if ids.min() < 0 or ids.max() > self._largest:
            bad = int(np.flatnonzero((ids < 0) | (ids > self._largest))[0])
            raise InvalidInput(
                f"item {index} has token id {ids[bad]} at {bad}, which is another tokenizer's: "
                f"this one's are 0 to {self._largest}; {SEND_TEXT}"
            )
        ids = ids.astype(np.int64)
        own = self._own_ids
        fault = "" if own is None else _outcome(lambda: own.fault(ids.tolist()))
        if fault:
            raise InvalidInput(
                f"item {index} has token ids that are not this tokenizer's: {fault}; {SEND_TEXT}, "
                "or set allow_token_ids to have any ids taken as they are"
            )
        return Prepared((ids, np.ones_like(ids)), len(ids), truncated=False)

    def batch(self, rows: Sequence[Prepared]) -> tuple[NDArray[Any], ...]:
        """Stack rows, padded to the longest: ids and mask, both (n, length) int64."""
        shape = (len(rows), max(row.tokens for row in rows))
        ids, mask = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64)
        for i, row in enumerate(rows):
            ids[i, : row.tokens], mask[i, : row.tokens] = row.arrays[:2]
        return ids, mask

    def key(self, row: Prepared) -> tuple[int, ...]:
        """Rows of one key may share a batch: for text all, since the mask covers padding."""
        return ()


class TensorInput:
    """Arrays as they are, held to the manifest's dtype, shape and limits."""

    def __init__(self, spec: TensorSpec, limits: Limits | None = None) -> None:
        """Take the spec of the graph's one input, and which items it may have."""
        self._spec = spec
        self._limits = limits or Limits()
        self._dtype = np.dtype(spec.dtype)
        self._axes = spec.shape[1:]

    def prepare(self, items: Items, *, role: Role, truncation: Truncation) -> list[Prepared]:
        """Check every item, or raise ShapeError or InvalidInput that names the first bad one."""
        one_of("role", role, ROLES)
        one_of("truncation", truncation, get_args(Truncation))
        return [self._row(item, i) for i, item in enumerate(listed(items))]

    def _row(self, item: object, index: int) -> Prepared:
        array = _array(item, index)
        self._check_shape(array, index)
        self._check_dtype(array, index)
        converted = self._converted(array, index)
        cost = self._limits.cost
        tokens = cost.tokens + math.ceil(converted.size / cost.elements)
        return Prepared((converted,), tokens, truncated=False)

    def _check_shape(self, array: NDArray[Any], index: int) -> None:
        """Refuse a shape that is not the spec's, or a size beyond its limits."""
        sizes: dict[int | str, int] = {}
        fits = array.ndim == len(self._axes) and all(
            size == axis if isinstance(axis, int) else size == sizes.setdefault(axis, size)
            for axis, size in zip(self._axes, array.shape, strict=True)
        )
        if not fits:
            raise ShapeError(
                f"item {index} has shape {array.shape}; {self._expected}"
                f"{_shape_hint(array, self._axes)}"
            )
        limits = self._limits
        for axis, size in sizes.items():
            allowed = limits.axes.get(str(axis), AxisRange(min=1, max=sys.maxsize))
            if size < allowed.min:
                raise ShapeError(
                    f"item {index} has {size} {axis} and the encoder takes {allowed.min} or more; "
                    "leave it out, or pad it as the training data was"
                )
            if size > allowed.max:
                raise ShapeError(
                    f"item {index} has {size} {axis} and the encoder takes {allowed.max} at most; "
                    "cut it, or scale it down where that keeps what it shows"
                )
        if limits.max_elements is not None and array.size > limits.max_elements:
            raise ShapeError(
                f"item {index} of shape {array.shape} has {array.size} numbers and the encoder "
                f"takes {limits.max_elements} at most; cut it, or scale it down"
            )
        ratio = max(sizes.values(), default=1) / min(sizes.values(), default=1)
        if limits.max_ratio is not None and ratio > limits.max_ratio:
            raise ShapeError(
                f"item {index} of shape {array.shape} is {ratio:g} times as long as wide and the "
                f"encoder takes {limits.max_ratio:g} times at most; cut it"
            )

    def _check_dtype(self, array: NDArray[Any], index: int) -> None:
        """Refuse numbers that the spec's dtype would change: it may round, not wrap or cut."""
        if not np.can_cast(array.dtype, self._dtype, "same_kind"):
            raise ShapeError(f"item {index} has dtype {array.dtype}; {self._expected}")
        if array.dtype.kind == "b" and self._dtype.kind in "iu":
            raise ShapeError(
                f"item {index} has dtype bool; {self._expected}: turn true and false into the "
                "numbers that they stand for, as 255 and 0"
            )
        if self._dtype.kind in "iu" and not np.can_cast(array.dtype, self._dtype, "safe"):
            allowed = np.iinfo(self._dtype)
            least, most = int(array.min()), int(array.max())
            if least < allowed.min or most > allowed.max:
                raise InvalidInput(
                    f"item {index} has numbers from {least} to {most}; {self._expected}, which "
                    f"holds {allowed.min} to {allowed.max}: scale them"
                )

    def _converted(self, array: NDArray[Any], index: int) -> NDArray[Any]:
        """Give the array as the graph takes it, of finite numbers near those it was trained on."""
        with np.errstate(over="ignore"):  # reported below, for the item
            converted = np.ascontiguousarray(array, self._dtype)
        if converted.dtype.kind == "f" and not np.isfinite(converted).all():
            beyond = array.dtype != converted.dtype and np.isfinite(array).all()
            what = f"a number beyond {self._dtype}" if beyond else "a NaN or an infinity"
            raise InvalidInput(f"item {index} holds {what}; {self._expected} of finite numbers")
        if (values := self._limits.values) is not None:
            least, most = float(converted.min()), float(converted.max())
            slack = VALUES_SLACK * (values.max - values.min)
            if least < values.min - slack or most > values.max + slack:
                raise InvalidInput(
                    f"item {index} has numbers from {least:g} to {most:g} and the encoder was "
                    f"trained on {values.min:g} to {values.max:g}; scale them as its training "
                    "data was"
                )
        return converted

    @property
    def _expected(self) -> str:
        return f"{self._spec.name} must be {self._dtype} {self._axes}"

    def batch(self, rows: Sequence[Prepared]) -> tuple[NDArray[Any], ...]:
        """Stack rows of one key."""
        return (np.stack([row.arrays[0] for row in rows]),)

    def key(self, row: Prepared) -> tuple[int, ...]:
        """Rows of one key may share a batch: those of one shape, since nothing masks padding."""
        return row.arrays[0].shape


def _array(item: object, index: int | None) -> NDArray[Any]:
    """Take an item, or all of them, for an array, or say why it is none."""
    name = "items" if index is None else f"item {index}"
    if isinstance(item, np.ma.MaskedArray) and np.ma.is_masked(item):
        raise InvalidInput(f"{name} is masked in part; fill what is masked (filled)")
    try:
        return np.asarray(item)
    except Exception as error:
        raise InvalidInput(
            f"{name}, a {type(item).__name__}, cannot be taken for an array: {error}"
        ) from error


def _shape_hint(array: NDArray[Any], axes: Sequence[int | str]) -> str:
    """Say what often helps where the shape does not fit, if anything is known to."""
    shape, least = array.shape, array.ndim
    if least == len(axes) - 1 and least:
        return "; if this is a part of one item, wrap that in a list; a grey image needs channels"
    if least == len(axes) + 1 and least > 1:
        return "; pass its rows as the items, or drop the axis of size 1"
    if least == 3 == len(axes) and axes[-1] == 3:
        if shape[-1] == 4:
            return "; drop the alpha channel (Pillow's convert('RGB'))"
        if shape[-1] == 1:
            return "; repeat the grey channel (Pillow's convert('RGB'))"
        if shape[0] == 3:
            return "; move the channels to the end (transpose(1, 2, 0))"
    if least == 3 == len(axes) and shape[-1] == axes[0] and axes[0] in (1, 3):
        return "; move the channels to the front (transpose(2, 0, 1))"
    return ""


def is_token_ids(items: object) -> TypeGuard[Sequence[Sequence[int]]]:
    """Tell token ids from texts and arrays: a list whose first item is a list, or such an array."""
    return (
        isinstance(items, Sequence)
        and not isinstance(items, str | bytes)
        and len(items) > 0
        and (isinstance(items[0], list | tuple) or _is_flat_integers(items[0]))
    )


def _is_flat_integers(item: object) -> bool:
    return isinstance(item, np.ndarray) and item.ndim == 1 and item.dtype.kind in "iu"


def listed(items: object) -> list[Any] | NDArray[Any]:
    """Give items as a list, or as the array of numbers that they are; InvalidInput for others.

    Items are any iterable of them that has an order: a generator or a column of a table too.
    """
    if hasattr(items, "columns"):  # its iterator gives their names
        raise InvalidInput(
            f"items is a {type(items).__name__}, a table; give one of its columns, or its rows as "
            "an array (to_numpy)"
        )
    single = isinstance(items, str | bytes | bytearray | Mapping | np.generic)
    single = single or (isinstance(items, np.ndarray) and not items.ndim)
    if single or not isinstance(items, Iterable):
        raise InvalidInput(f"items must be a list; got {type(items).__name__}: wrap it in a list")
    if isinstance(items, set | frozenset):
        raise InvalidInput("items is a set, which has no order; give a list")
    if not hasattr(items, "__array__"):
        return list(items)
    array = items if isinstance(items, np.ndarray) else _array(items, None)
    return array.tolist() if array.dtype.kind in "OSTU" else array


def as_text(item: object, index: int) -> str:
    """Give the item, where it is text that can be encoded; InvalidInput names it by its index."""
    if not isinstance(item, str):
        kind = type(item).__name__
        raise InvalidInput(f"item {index} must be a string; got {kind} {item!r:.80}")
    try:
        item.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"item {index} has half of a surrogate pair at character {error.start}; "
            "decode the text as UTF-8"
        ) from None
    return item


def one_of(option: str, value: object, choices: Sequence[str]) -> str:
    """Give the value of an option that is one of `choices`, or raise InvalidInput."""
    if not isinstance(value, str) or value not in choices:
        names = ", ".join(name[:80] for name in choices[:_SHOWN])
        raise InvalidInput(f"{option} must be one of {names}; got {value!r:.80}")
    return value
