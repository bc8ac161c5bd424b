"""The capacity for heads: the bytes that all heads of a server may have, and do have."""

import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from attar.errors import LimitReached


@dataclass(slots=True)
class Capacity:
    """The bytes of heads that were fitted and of those in served bundles. Any thread may use it.

    A head takes about as much memory as its file has bytes.
    """

    limit: int = sys.maxsize
    taken: int = 0
    _models: Counter[str] = field(default_factory=Counter)  # by the content of their bundle
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def left(self) -> int:
        """The bytes that no head has."""
        return self.limit - self.taken

    def refuse_beyond(self, size: int, what: str, *, fix: str = "fit on fewer items") -> None:
        """Raise `LimitReached` where new heads of so many bytes have no room; `what` names them."""
        if size > self.left:
            raise LimitReached(
                f"{what} would have {size} bytes, and the heads that are there have {self.taken} "
                f"of max_heads_bytes, {self.limit}; delete one, {fix}, or raise max_heads_bytes"
            )

    def take(self, size: int, what: str) -> None:
        """Count a new head; raises `LimitReached` where it has no room."""
        with self._lock:
            self.refuse_beyond(size, what)
            self.taken += size

    def give_back(self, size: int) -> None:
        """Count a head no more."""
        with self._lock:
            self.taken -= size

    def take_bundled(self, content: str, size: int, model: str) -> Callable[[], None]:
        """Count the heads of a bundle, once for all models of its `content`.

        So another variant of a model can take its place. Gives what ends the count for this model;
        raises `LimitReached` where the heads have no room.
        """
        with self._lock:
            if not self._models[content]:
                what = f"the heads in the bundle of model {model}"
                self.refuse_beyond(size, what, fix="serve the bundle without them")
                self.taken += size
            self._models[content] += 1
        counted = [content]

        def end() -> None:
            with self._lock:
                while counted:
                    counted.pop()
                    self._models[content] -= 1
                    if not self._models[content]:
                        del self._models[content]
                        self.taken -= size

        return end
