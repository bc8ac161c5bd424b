"""The log of a run: rows of named figures, as JSON lines and TensorBoard events."""

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from torch.utils.tensorboard import SummaryWriter

from attar.errors import InvalidInput

from .lineage import FRESH

Row = dict[str, float]

METRICS: Final = "metrics.jsonl"
EVENTS: Final = "events.out.tfevents.*"  # as TensorBoard names its own


class MetricsLog:
    """Keeps a run's rows; given a folder, also in `metrics.jsonl` and TensorBoard events there.

    Rows found in the folder are kept up to step `after`, where the run is taken up again.
    """

    def __init__(self, out: Path | None, *, after: int) -> None:
        self.rows: list[Row] = []
        self._file = self._events = None
        if out is None:
            return
        path = out / METRICS
        if path.exists() and after:
            self.rows = [row for row in _read(path) if row["step"] <= after]
        draft = path.with_suffix(".partial")
        draft.write_text("".join(json.dumps(row) + "\n" for row in self.rows))
        draft.replace(path)
        self._file = path.open("a", buffering=1)  # a line at a time: what a kill leaves is whole
        self._events = SummaryWriter(str(out), purge_step=after + 1)

    def write(self, row: Row) -> None:
        """Add a row; it has at least `step`, the number of steps made."""
        self.rows.append(row)
        if self._file is not None and self._events is not None:
            self._file.write(json.dumps(row) + "\n")
            for name, value in row.items():
                if name != "step":
                    self._events.add_scalar(name, value, int(row["step"]))

    def latest(self, names: Iterable[str]) -> str:
        """Give the last figure of each name there is, as words for a line of progress."""
        parts = []
        for name in names:
            values = [row[name] for row in self.rows if name in row]
            parts += [f", {name} {values[-1]:.4g}"] if values else []
        return "".join(parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._file is not None and self._events is not None:
            self._file.close()
            self._events.close()


def _read(path: Path) -> list[Row]:
    """Give the rows of a log, less a last line that a kill cut short; InvalidInput for others."""
    lines = path.read_text().splitlines(keepends=True)
    try:
        rows = [json.loads(line) for line in lines if line.endswith("\n")]
        return [row | {"step": int(row["step"])} for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise InvalidInput(f"{path} is no log of attar's ({error!r}); {FRESH}") from error
