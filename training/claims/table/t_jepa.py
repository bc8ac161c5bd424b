"""T-JEPA's embedding against standardised features, on tumours."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from ...claim import Claim, difference
from ...data.source import Source
from ...datasets.tables import breast_cancer
from ...loop import fit
from ...probes.encoder import probe_encoder
from ...reading import read
from ...recipes.table.t_jepa import SMALL, build


class Standardised(nn.Module):
    """Rows at mean 0 and variance 1: what the probes are given without an encoder."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__()
        self.deviation, self.mean = torch.std_mean(rows, 0)

    def forward(self, rows: Tensor) -> Tensor:
        """Give (b, features)."""
        return (rows - self.mean) / self.deviation.clamp(min=1e-6)


def trial(data: Source, seed: int) -> dict[str, float]:
    """Probe standardised rows, and encoders trained with and without the regularising token."""
    raw = probe_encoder(Standardised(data.train[torch.arange(len(data.train))]), data)
    figures = {f"raw/{name}": raw[name] for name in ("linear", "knn")}
    for name, regularise in (("t_jepa", True), ("without_token", False)):
        training = build(data, replace(SMALL, seed=seed, regularise=regularise))
        rows = fit(training, accelerator="cpu", progress=False).rows
        before, after = (row for row in rows if "linear" in row)
        figures |= {f"untrained/{kind}": before[kind] for kind in ("linear", "knn")}
        figures |= {f"{name}/{kind}": after[kind] for kind in ("linear", "knn")}
        spread = next(row for row in reversed(rows) if "spread_features" in row)
        kinds = "spread_features", "spread_rows"
        figures |= {f"{name}/{kind}": spread[kind] for kind in kinds}
    return figures


def last_rows(path: Path, *, test: int) -> Source:
    """Read a table whose last `test` rows are its test part, as UCI's Letter (4000) for `trial`."""
    return read(str(path), form="table", test_last=test)


claim: Final = Claim(
    "on held-out tumours a linear probe of the embedding is on average at most a point less "
    "accurate than one of standardised features, and k-NN more accurate",
    breast_cancer,
    trial,
    effects=(
        difference("t_jepa/linear", "raw/linear", above=-0.01),
        difference("t_jepa/knn", "raw/knn"),
    ),
)
