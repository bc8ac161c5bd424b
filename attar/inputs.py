"""The host's step before the graph: items to tensors, one item at a time, each judged by itself."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, Literal, TypeAlias, TypeGuard, get_args

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding as Tokens
from tokenizers import Tokenizer

from .bundle import Bundle
from .errors import BundleRefused, InputTooLong, InvalidInput, ShapeError
from .manifest import TensorSpec

Role: TypeAlias = Literal["passage", "query"]
Truncation: TypeAlias = Literal["truncate", "error"]
Priority: TypeAlias = Literal["interactive", "bulk"]
HOW_TO_CUT: Final = "pass truncation='truncate'"
"""What InputTooLong advises; a protocol that spells it otherwise puts its own words there."""
Items: TypeAlias = Sequence[str] | Sequence[Sequence[int]] | Sequence[NDArray[Any]] | NDArray[Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One item as the graph takes it, without the batch axis."""

    arrays: tuple[NDArray[Any], ...]
    tokens: int
    truncated: bool
    key: bytes = b""  # equal for equal items, where whoever prepared them asked `identified`


def identified(row: Prepared) -> Prepared:
    """Give the row with its key: a hash of 256 bits of everything that the graph gets of it."""
    digest = blake2b(digest_size=32)
    for array in row.arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(array.data)
    return replace(row, key=digest.digest())


class TextInput:
    """Texts to token ids: the role's prompt in front, special tokens kept when a text is cut.

    Token ids are taken as they are, as whoever made them meant them: no prompt, nothing added,
    nothing cut.
    """

    def __init__(self, tokenizer: bytes, *, max_length: int, prompts: Mapping[str, str]) -> None:
        """Read a tokenizer.json; its own padding and truncation are switched off."""
        try:
            self._tokenizer = Tokenizer.from_str(tokenizer.decode())
        except Exception as error:  # noqa: BLE001 -- tokenizers raises bare Exception
            raise BundleRefused("tokenizer", f"the tokenizer cannot be read: {error}") from None
        specials = self._tokenizer.num_special_tokens_to_add(is_pair=False)
        if specials >= max_length:
            raise BundleRefused(
                "tokenizer",
                f"max_length {max_length} leaves no room beside {specials} special tokens",
            )
        self._tokenizer.enable_truncation(max_length)
        padding = self._tokenizer.padding
        self._pad_id: int = padding["pad_id"] if padding else 0
        self._tokenizer.no_padding()
        self._max_length = max_length
        self._largest = max(self._tokenizer.get_vocab(with_added_tokens=True).values())
        self._prompts = dict(prompts)

    def prepare(self, items: Items, *, role: Role, truncation: Truncation) -> list[Prepared]:
        """Tokenise every item, or raise InvalidInput that names the first bad one by its index."""
        prompt = self._prompts.get(_one_of("role", role, Role), "")
        _one_of("truncation", truncation, Truncation)
        if is_token_ids(items):
            return [self._given(item, i) for i, item in enumerate(items)]
        texts = [prompt + _text(item, i) for i, item in enumerate(_sequence(items))]
        rows = self._tokenizer.encode_batch_fast(texts)
        return [self._row(tokens, i, truncation) for i, tokens in enumerate(rows)]

    def _row(self, tokens: Tokens, index: int, truncation: Truncation) -> Prepared:
        cut = bool(tokens.overflowing)
        if cut and truncation == "error":
            parts = (tokens, *tokens.overflowing)
            words = sum(part.special_tokens_mask.count(0) for part in parts)
            total = words + tokens.special_tokens_mask.count(1)
            raise InputTooLong(
                f"item {index} has {total} tokens and the encoder takes {self._max_length}; "
                f"shorten it, or {HOW_TO_CUT}"
            )
        ids = np.array(tokens.ids, np.int64)
        if not len(ids):
            raise InvalidInput(f"item {index} has no tokens; leave it out")
        return Prepared((ids, np.ones_like(ids)), len(ids), cut)

    def _given(self, item: object, index: int) -> Prepared:
        """Hold ids that somebody else made to what the graph can look up."""
        try:
            ids = np.array(item)
        except ValueError:
            ids = np.array(None)
        if ids.ndim != 1 or (ids.dtype.kind not in "iu" and len(ids)):
            raise InvalidInput(f"item {index} must be a flat list of token ids, whole numbers")
        if not len(ids):
            raise InvalidInput(f"item {index} has no tokens; leave it out")
        if len(ids) > self._max_length:
            raise InputTooLong(
                f"item {index} has {len(ids)} tokens and the encoder takes {self._max_length}; "
                "shorten it: token ids are taken as they are and never cut"
            )
        if ids.min() < 0 or ids.max() > self._largest:
            bad = int(np.flatnonzero((ids < 0) | (ids > self._largest))[0])
            raise InvalidInput(
                f"item {index} has token id {ids[bad]} at {bad}; this tokenizer's are "
                f"0 to {self._largest}: are they another model's?"
            )
        ids = ids.astype(np.int64)
        return Prepared((ids, np.ones_like(ids)), len(ids), truncated=False)

    def batch(self, rows: Sequence[Prepared]) -> tuple[NDArray[Any], ...]:
        """Stack rows, padded to the longest: ids and mask, both (n, length) int64."""
        shape = (len(rows), max(row.tokens for row in rows))
        ids, mask = np.full(shape, self._pad_id, np.int64), np.zeros(shape, np.int64)
        for i, row in enumerate(rows):
            ids[i, : row.tokens], mask[i, : row.tokens] = row.arrays
        return ids, mask

    def key(self, row: Prepared) -> tuple[int, ...]:  # noqa: ARG002
        """Rows of one key may share a batch: for text all, since the mask covers padding."""
        return ()


class TensorInput:
    """Arrays as they are, held to the manifest's dtype and shape."""

    def __init__(self, spec: TensorSpec) -> None:
        """Take the spec of the graph's one input."""
        self._spec = spec
        self._dtype = np.dtype(spec.dtype)
        self._axes = spec.shape[1:]

    def prepare(self, items: Items, *, role: Role, truncation: Truncation) -> list[Prepared]:
        """Check every item, or raise ShapeError or InvalidInput that names the first bad one."""
        _one_of("role", role, Role)
        _one_of("truncation", truncation, Truncation)
        return [self._row(item, i) for i, item in enumerate(_sequence(items))]

    def _row(self, item: object, index: int) -> Prepared:
        given = np.asarray(item)
        expected = f"{self._spec.name} must be {self._dtype} {self._axes}"
        if not np.can_cast(given.dtype, self._dtype, "same_kind"):
            raise ShapeError(f"item {index} has dtype {given.dtype}; {expected}")
        sizes: dict[int | str, int] = {}
        fits = given.ndim == len(self._axes) and all(
            size == axis if isinstance(axis, int) else size == sizes.setdefault(axis, size) > 0
            for axis, size in zip(self._axes, given.shape, strict=True)
        )
        if not fits:
            raise ShapeError(f"item {index} has shape {given.shape}; {expected}")
        array = np.ascontiguousarray(given, self._dtype)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InvalidInput(
                f"item {index} holds a NaN or an infinity; {expected} of finite numbers"
            )
        return Prepared((array,), math.prod(sizes.values()), truncated=False)

    def batch(self, rows: Sequence[Prepared]) -> tuple[NDArray[Any], ...]:
        """Stack rows of one key."""
        return (np.stack([row.arrays[0] for row in rows]),)

    def key(self, row: Prepared) -> tuple[int, ...]:
        """Rows of one key may share a batch: those of one shape, since nothing masks padding."""
        return row.arrays[0].shape


def host_step(bundle: Bundle) -> TextInput | TensorInput:
    """Build the host step that the bundle's manifest declares."""
    manifest = bundle.manifest
    tokenizer, max_length = manifest.preprocessing.tokenizer, manifest.max_length
    if tokenizer is None or max_length is None:
        return TensorInput(manifest.inputs[0])
    return TextInput(
        bundle.read(tokenizer), max_length=max_length, prompts=manifest.preprocessing.prompts
    )


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


def _sequence(items: Items) -> Items:
    if isinstance(items, str | bytes) or not isinstance(items, Iterable):
        raise InvalidInput(f"items must be a list; got {type(items).__name__}: wrap it in a list")
    return items


def _text(item: object, index: int) -> str:
    if not isinstance(item, str):
        raise InvalidInput(f"item {index} must be a string; got {type(item).__name__}")
    try:
        item.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput(
            f"item {index} has half of a surrogate pair at character {error.start}; "
            "decode the text as UTF-8"
        ) from None
    return item


def _one_of(option: str, value: str, choices: object) -> str:
    if value not in get_args(choices):
        raise InvalidInput(f"{option} must be one of {', '.join(get_args(choices))}; got {value!r}")
    return value
