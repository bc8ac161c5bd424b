"""A cache of embeddings: the ones used last, bounded in items and in bytes.

A key names the space, the variant and the prepared input, so that a swap of models cannot give
another model's answer, and a swap back finds its own.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

_OVERHEAD: Final = 400  # bytes of the objects around a row: key, array, dictionary


@dataclass(frozen=True, slots=True)
class Key:
    """What an embedding depends on."""

    fingerprint: str
    variant: str
    item: bytes  # see attar.inputs.identified


class Cache:
    """Rows by key; used by one loop."""

    def __init__(self, *, max_items: int, max_bytes: int) -> None:
        """Begin empty."""
        self._max_items = max_items
        self._max_bytes = max_bytes
        self._rows: OrderedDict[Key, NDArray[np.float32]] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        """Count the rows."""
        return len(self._rows)

    def get(self, key: Key) -> NDArray[np.float32] | None:
        """Give the row of that key, which is now the one used last."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.move_to_end(key)
        return row

    def put(self, key: Key, row: NDArray[np.float32]) -> None:
        """Keep a row, in place of those that were not used for longest."""
        if key in self._rows:
            self._rows.move_to_end(key)
            return
        self._rows[key] = own = row.copy()  # a view would keep its whole batch
        self.bytes += own.nbytes + _OVERHEAD
        while len(self._rows) > self._max_items or self.bytes > self._max_bytes:
            _, oldest = self._rows.popitem(last=False)
            self.bytes -= oldest.nbytes + _OVERHEAD
