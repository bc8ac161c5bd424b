"""A sweep: runs of one recipe with varied settings, ranked by RankMe, so without labels.

Garrido et al., ICML 2023, arXiv:2210.02885.
"""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import Any, Final

from torch import distributed as dist

from attar.errors import AlreadyExists, InvalidInput

from .catalogue import find
from .checkpoints.run import CHECKPOINT
from .metrics import EVENTS, METRICS
from .overrides import override
from .pretraining import pretrain
from .run_data import report

SWEEP: Final = "sweep.json"
BEST: Final = "best"
RANKMES: Final = "rankme_projector", "rankme"  # the first that a probe gives
MOST_RUNS: Final = 1000
_NAME_BYTES: Final = 255  # of a file system's names


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a sweep: its settings as `name=value`, and its last probe or why it failed."""

    changes: tuple[str, ...]
    folder: str
    figures: dict[str, float]
    failure: str = ""

    @property
    def rankme(self) -> float:
        """RankMe of the projector's outputs, as in the paper, or of embeddings; 0 if it failed."""
        return next((self.figures[name] for name in RANKMES if name in self.figures), 0.0)

    def row(self) -> dict[str, Any]:
        """Give the run as a row of sweep.json."""
        settings = dict(change.split("=", 1) for change in self.changes)
        row: dict[str, Any] = {"settings": settings, "folder": self.folder, **self.figures}
        return {**row, "failure": self.failure} if self.failure else row


def sweep(
    name: str,
    out: str | Path,
    *,
    vary: Sequence[str],
    data: str | None = None,
    reading: Sequence[str] = (),
    changes: Sequence[str] = (),
    steps: int | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Path:
    """Run a recipe at every combination of settings; keep the run with the highest RankMe.

    `vary` has `name=value,value,...` for each setting that varies; `data`, `reading`, `changes`,
    `steps`, `seed` and `restart` are those of `pretrain`, for each run. Each run has a folder in
    `out`, named by its settings. `out/sweep.json` has a row for each run, the highest RankMe first,
    and `out/best` is a copy of the first without its checkpoint, ready for export. Labels, where
    the data have them, give figures in the rows and choose nothing. RankMe is of the projector's
    outputs where a probe gives that, else of the embeddings. It compares runs of one recipe on one
    data set (section 3 of the paper). An interrupted sweep continues with the run that was
    interrupted, at its last checkpoint. A run that fails after it
    began, as one that diverges does, is a row with its failure.

    Returns `out/best`. Raises InvalidInput for a setting or a value that there is not, before the
    first run, for a recipe of several runs, under torchrun and when every run failed; otherwise as
    `pretrain`.
    """
    out = Path(out)
    points = _points(name, vary, changes)
    if out.exists() and not out.is_dir():
        raise AlreadyExists(f"--out {out} is a file; give a folder")
    runs: list[Run] = []
    for number, point in enumerate(points, 1):
        folder = out / _folder(point)
        report(f"run {number} of {len(points)}: {' '.join(point)}")
        figures, failure = {}, ""
        try:
            pretrain(
                name,
                folder,
                data=data,
                reading=reading,
                changes=(*changes, *point),
                steps=steps,
                seed=seed,
                restart=restart,
            )
        except (FloatingPointError, InvalidInput) as error:
            if not folder.exists():  # refused before it began, as every run will be
                raise
            failure = str(error)
            report(f"{folder.name} failed: {failure}")
        else:
            figures = _last_probe(folder / METRICS)
        runs.append(Run(point, folder.name, figures, failure))
        _write(out, name, runs)
    return _keep_best(out, runs)


def _points(name: str, vary: Sequence[str], changes: Sequence[str]) -> list[tuple[str, ...]]:
    """Give the settings of each run as `name=value`, checked; raises InvalidInput."""
    recipe = find(name)
    if recipe.stages is not None:
        raise InvalidInput(f"{name} is several runs, and a sweep compares single ones")
    if dist.is_torchelastic_launched():
        raise InvalidInput("a sweep writes from one process; start it without torchrun")
    if not vary:
        raise InvalidInput("a sweep varies a setting; give --vary name=value,value")
    axes = [tuple(_values(axis)) for axis in vary]
    count = prod(map(len, axes))
    if not 2 <= count <= MOST_RUNS:
        raise InvalidInput(f"a sweep has 2 to {MOST_RUNS:,} runs; --vary gives {count:,}")
    points = list(product(*axes))
    for point in points:
        override(recipe.settings, (*changes, *point))
    folders = [_folder(point) for point in points]
    longest = max((folder.encode() for folder in folders), key=len)
    if len(longest) > _NAME_BYTES:
        raise InvalidInput(
            f"--vary names a folder of {len(longest)} bytes, and a folder's name has at most "
            f"{_NAME_BYTES}; vary fewer settings, or give shorter values"
        )
    if repeated := next((folder for folder in folders if folders.count(folder) > 1), None):
        raise InvalidInput(f"--vary has {repeated} twice; leave one out")
    return points


def _values(axis: str) -> Iterator[str]:
    name, equals, values = axis.partition("=")
    if not equals or not all(value.strip() for value in values.split(",")):
        raise InvalidInput(f"--vary takes name=value,value; got {axis!r}")
    for value in values.split(","):
        yield f"{name.strip()}={value.strip()}"


def _folder(point: Sequence[str]) -> str:
    return re.sub(r"[^\w.=,+-]", "_", ",".join(point))


def _last_probe(path: Path) -> dict[str, float]:
    """Give the figures of a run's last probe; raises InvalidInput for a recipe without RankMe."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    probed = [row for row in rows if any(name in row for name in RANKMES)]
    if not probed:
        raise InvalidInput("the recipe's probe has no RankMe, so its runs cannot be ranked")
    return {name: value for name, value in probed[-1].items() if name != "step"}


def _ranked(runs: Sequence[Run]) -> list[Run]:
    """Give the runs, the highest RankMe first and those that failed last."""
    return sorted(runs, key=lambda run: -run.rankme)


def _write(out: Path, name: str, runs: Sequence[Run]) -> None:
    draft = out / f"{SWEEP}.partial"
    draft.write_text(
        json.dumps({"recipe": name, "rows": [run.row() for run in _ranked(runs)]}, indent=2) + "\n",
        "utf-8",
    )
    draft.replace(out / SWEEP)


def _keep_best(out: Path, runs: Sequence[Run]) -> Path:
    first = _ranked(runs)[0]
    if first.failure:
        raise InvalidInput(f"every run of the sweep failed; the first: {first.failure}")
    best, draft = out / BEST, out / f"{BEST}.partial"
    shutil.rmtree(draft, ignore_errors=True)
    skipped = shutil.ignore_patterns(CHECKPOINT, EVENTS)
    shutil.copytree(out / first.folder, draft, ignore=skipped)
    shutil.rmtree(best, ignore_errors=True)
    draft.replace(best)
    report(f"highest RankMe: {first.folder}; its encoder is in {best}")
    return best
