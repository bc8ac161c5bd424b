"""Items made up to try an encoder with: the least and the largest that its manifest allows."""

import math
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import BackendError, InvalidInput
from .inputs import Prepared, TensorInput, TextPair
from .manifest import AxisRange, Limits, Manifest, Range, TensorSpec
from .runtime import Encoder

LADDER = (1, 16, 256, 1024)
"""Sizes of the named axes that are tried, one after the other, where a manifest limits none."""

MOST_TOKENS = 512
"""Of the largest text that is tried: attention over 8,192 tokens takes gigabytes."""

TEXT = "warm up"

ANY = 2**40
"""A size that no item reaches."""


def smallest(encoder: Encoder) -> Iterator[Prepared]:
    """Give the least item; where a manifest does not limit a named axis, larger ones after it.

    A trial of an encoder with this manifest takes the first that runs.
    """
    manifest = encoder.manifest
    if is_text(manifest):
        yield _text(encoder)
        return
    seen = set()
    for size in LADDER if is_open(manifest) else LADDER[:1]:
        if (shape := shape_of(manifest.inputs[0], manifest.limits, size)) not in seen:
            seen.add(shape)
            yield tensors(manifest, shape, 1)[0]


def largest(encoder: Encoder) -> Prepared | None:
    """Give the largest tensor; None for texts, or where there is one size or the least is open."""
    manifest = encoder.manifest
    spec, limits = manifest.inputs[0], manifest.limits
    if is_text(manifest) or is_open(manifest):
        return None
    least, most = (shape_of(spec, limits, size) for size in (1, ANY))
    return None if least == most else tensors(manifest, most, 1)[0]


def check(encoder: Encoder) -> None:
    """Embed the least and the largest item; raises BackendError where one is not embedded."""
    most = _long_text(encoder) if is_text(encoder.manifest) else largest(encoder)
    least = first_that_runs(encoder)
    if encoder.manifest.tokens is not None:
        encoder.finish_tokens(*encoder.infer_tokens([least]))
    if most is not None:
        encoder.finish(encoder.infer([most]))


def first_that_runs(encoder: Encoder) -> Prepared:
    """Give the first of `smallest` that the encoder embeds; raises BackendError where none is."""
    refused = ""
    for row in smallest(encoder):
        try:
            encoder.finish(encoder.infer([row]))
        except BackendError as error:
            refused = str(error)
        else:
            return row
    raise none_runs(encoder, refused)


def none_runs(encoder: Encoder, refused: str) -> BackendError:
    """Say that none of `smallest` was embedded, and why the last was not."""
    name = encoder.manifest.name
    if is_open(encoder.manifest):
        return BackendError(
            f"{name} embeds no item of the sizes tried, {', '.join(map(str, LADDER))}: {refused}; "
            "export it again with limits that state the least and the largest size"
        )
    return BackendError(f"{name} does not embed its least item: {refused}; export it again")


def is_text(manifest: Manifest) -> bool:
    """Tell whether it takes texts, or pairs of them."""
    return manifest.preprocessing.tokenizer is not None


def is_open(manifest: Manifest) -> bool:
    """Tell whether an axis of a tensor has a name and no limits."""
    limits = manifest.limits or Limits()
    named = {axis for axis in manifest.inputs[0].shape[1:] if isinstance(axis, str)}
    return not is_text(manifest) and bool(named - limits.axes.keys())


def shape_of(spec: TensorSpec, limits: Limits | None, size: int) -> tuple[int, ...]:
    """Give an item's shape with named axes as near to `size` as the limits allow, no batch axis."""
    limits = limits or Limits()
    named = {axis for axis in spec.shape[1:] if isinstance(axis, str)}
    if not named:
        return tuple(axis for axis in spec.shape[1:] if isinstance(axis, int))
    ranges = {axis: limits.axes.get(axis, AxisRange(min=1, max=ANY)) for axis in named}
    ratio = limits.max_ratio or math.inf
    # All of one size, but where a limit of one axis keeps it from that.
    size = max(size, math.ceil(max(each.min for each in ranges.values()) / ratio))

    def at(size: int) -> tuple[int, ...]:
        sizes = {axis: min(max(size, each.min), each.max) for axis, each in ranges.items()}
        most = min(sizes.values()) * ratio
        return tuple(
            axis if isinstance(axis, int) else int(min(sizes[axis], most))
            for axis in spec.shape[1:]
        )

    most = limits.max_elements or math.inf
    return at(bisect_right(range(1, size + 1), most, key=lambda size: math.prod(at(size))))


def length_of(spec: TensorSpec, shape: Sequence[int]) -> int:
    """Give the largest size of a named axis of an item's shape, 1 where no axis has a name."""
    sizes = zip(spec.shape[1:], shape, strict=True)
    return max((size for axis, size in sizes if isinstance(axis, str)), default=1)


def tensors(
    manifest: Manifest, shape: Sequence[int], count: int, *, seed: int = 0
) -> list[Prepared]:
    """Make up prepared items of a shape: noise of the values that the manifest states."""
    spec, limits = manifest.inputs[0], manifest.limits
    values = None if limits is None else limits.values
    draw = np.random.default_rng(seed)
    made = noise(draw, spec.dtype, (count, *shape), values)
    return TensorInput(spec, limits).prepare(made, role="passage", truncation="error")


def noise(
    draw: np.random.Generator, dtype: str, shape: Sequence[int], values: Range | None = None
) -> NDArray[Any]:
    """Draw numbers in the range of `values`: any byte, small whole numbers, or of deviation 1."""
    kind = np.dtype(dtype).kind
    if kind == "b":
        return draw.integers(0, 2, shape).astype(bool)
    if kind in "iu":
        low, high = (0, 255 if dtype == "uint8" else 127)
        if values is not None:
            low, high = math.ceil(values.min), math.floor(values.max)
        return draw.integers(low, high, shape, dtype=np.dtype(dtype), endpoint=True)
    if values is not None:
        return draw.uniform(values.min, values.max, shape).astype(dtype)
    return draw.standard_normal(shape, np.float32).astype(dtype)


def _long_text(encoder: Encoder) -> Prepared:
    """Give the longest text, of one token over and over, within `MOST_TOKENS`."""
    least = _text(encoder)
    middle = least.tokens // 2
    room = max(0, min(encoder.max_length or MOST_TOKENS, MOST_TOKENS) - least.tokens)
    longer = tuple(np.insert(array, middle, [array[middle]] * room) for array in least.arrays)
    return Prepared(longer, least.tokens + room, truncated=False)


def _text(encoder: Encoder) -> Prepared:
    """Give a short text, or one token where the tokenizer knows none of its words."""
    pairs = encoder.manifest.scores_pairs
    try:
        (row,) = encoder.prepare([TextPair(TEXT, TEXT)] if pairs else [TEXT])
    except InvalidInput:
        ids = np.zeros(1, np.int64)
        arrays = (ids, np.ones_like(ids), ids)[: len(encoder.manifest.inputs)]
        return Prepared(arrays, 1, truncated=False)
    return row
