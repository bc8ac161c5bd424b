"""Ranges of shapes that an engine is tuned for: a few buckets of length, each with every batch.

TensorRT picks its kernels for one shape and takes others as far as a profile says.  One profile
from the shortest text to the longest would run short texts by kernels for long ones; so lengths
are cut into buckets, and a batch, padded to its longest text, runs in the bucket of that length.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attar.errors import InvalidInput
from attar.manifest import TensorSpec

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

SHORTEST = 16  # a bucket below it would hold texts of a few words alone
LIKELY_TOKENS = 4096  # padded, in one run: what a profile's likeliest batch holds, at any length


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """For each input its least shape, the likeliest, which is tuned for, and the largest."""

    least: Shapes
    likely: Shapes
    largest: Shapes

    def takes(self, shapes: Shapes) -> bool:
        """Say whether inputs of these shapes may run under it."""
        return shapes.keys() == self.least.keys() and all(
            len(shape) == len(self.least[name])
            and all(
                low <= size <= high
                for low, size, high in zip(self.least[name], shape, self.largest[name], strict=True)
            )
            for name, shape in shapes.items()
        )


def profiles(
    inputs: Sequence[TensorSpec], *, max_batch: int, lengths: Sequence[int]
) -> tuple[Profile, ...]:
    """Give one profile a bucket; `lengths` are the buckets' ends, rising, the last the longest.

    Together they take every batch of 1 to `max_batch` rows of every length of 1 to the last, and
    no two the same shapes. Inputs of fixed size have one profile, and no lengths.

    Raises InvalidInput for a `max_batch` below 1, for lengths that do not rise from 1, that are
    missing or that have no axis to apply to, and for inputs with several free axes besides batch.
    """
    if max_batch < 1:
        raise InvalidInput(f"max_batch must be 1 or more; got {max_batch}")
    free = sorted({axis for spec in inputs for axis in spec.shape[1:] if isinstance(axis, str)})
    if len(free) > 1:
        raise InvalidInput(
            f"an engine's profiles know one free axis besides batch; the inputs have {free}"
        )
    if not free:
        if lengths:
            raise InvalidInput(f"lengths {[*lengths]} have no axis to apply to: inputs are fixed")
        return (_profile(inputs, batches=(1, max_batch, max_batch), length=(1, 1, 1)),)
    if not lengths:
        raise InvalidInput(f"axis {free[0]!r} is free; pass lengths, the ends of its buckets")
    if lengths[0] < 1 or any(a >= b for a, b in itertools.pairwise(lengths)):
        raise InvalidInput(f"lengths must rise from 1 or more; got {[*lengths]}")
    return tuple(
        _profile(
            inputs,
            batches=(1, min(max_batch, max(1, LIKELY_TOKENS // end)), max_batch),
            length=(below + 1, end, end),
        )
        for below, end in itertools.pairwise((0, *lengths))
    )


def buckets(longest: int) -> tuple[int, ...]:
    """Give the usual ends of buckets: the longest length, a quarter of it, and so on down."""
    ends = [longest]
    while ends[-1] // 4 >= SHORTEST:
        ends.append(ends[-1] // 4)
    return tuple(reversed(ends))


def _profile(
    inputs: Sequence[TensorSpec], *, batches: tuple[int, int, int], length: tuple[int, int, int]
) -> Profile:
    least, likely, largest = (
        {
            spec.name: tuple(
                axis if isinstance(axis, int) else batch if axis == "batch" else size
                for axis in spec.shape
            )
            for spec in inputs
        }
        for batch, size in zip(batches, length, strict=True)
    )
    return Profile(least=least, likely=likely, largest=largest)
