"""Batching: which of the queued requests make the next batch, by their lengths alone."""

import math
from collections.abc import Sequence
from itertools import accumulate
from typing import Final

# Padding costs as much as text. A longer batch is worth it only while its padding costs less than
# the runs that it saves. Budgets are larger where runs cost more, so this is a share of the budget.
_MAX_PADDING: Final = 0.1

# The part of the queue that a batch is selected from, the oldest: the newest request passes nobody.
# A larger one pads less, and a request of an uncommon length waits longer.
_PART: Final = 1 / 3


def select_batch(costs: Sequence[int], budget: int) -> list[int]:
    """Choose the next batch among queued costs, oldest first: positions in `costs`, 0 among them.

    The oldest is always in, so nobody starves: a request with p others in front is out within p + 1
    batches. Around it the batch grows over the costs sorted by length, each time by the neighbour
    that adds the least padding, while n * longest stays within `budget` and the padding within a
    tenth of it. An item dearer than the budget makes a batch of its own.
    """
    # Among equals the older stands nearer to the oldest, on either side of it.
    order = sorted(range(len(costs)), key=lambda i: (costs[i], i if costs[i] >= costs[0] else -i))
    first = last = order.index(0)
    tokens = costs[0]
    while True:
        wider = []
        if first > 0:
            wider.append((first - 1, last, tokens + costs[order[first - 1]]))
        if last + 1 < len(order):
            wider.append((first, last + 1, tokens + costs[order[last + 1]]))
        padded = [(stop - start + 1) * costs[order[stop]] for start, stop, _ in wider]
        allowed = [
            (total - used, start, stop, used)
            for total, (start, stop, used) in zip(padded, wider, strict=True)
            if total <= budget and total - used <= _MAX_PADDING * budget
        ]
        if not allowed:
            return sorted(order[first : last + 1])
        _, first, last, tokens = min(allowed)


def window_size(costs: Sequence[int], budget: int) -> int:
    """How many of the queued costs, oldest first, a batch is selected from.

    A third of them, or as many as fill the budget if that is more.
    """
    filling = next((n for n, total in enumerate(accumulate(costs), 1) if total >= budget), None)
    return max(filling or len(costs), math.ceil(len(costs) * _PART))
