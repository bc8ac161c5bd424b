"""Anomaly: detectors fitted on normal items, and calibrated scores for new ones."""

@dataclass(frozen=True, slots=True)
class DetectorInfo:
    name: str
    model: str
    fingerprint: str
    neighbours: int
    references: int
    calibration: int
    target_fpr: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Scored:
    scores: NDArray[np.float32]  # (n,) mean cosine distance to the k nearest references; nan where the item failed
    p_values: NDArray[np.float32]  # (n,) conformal; nan where failed
    anomalies: NDArray[np.bool_]  # (n,)
    items: tuple[Item, ...]
    fingerprint: str
    threshold: float


class Anomaly:
    def __init__(self, data_dir: Path, models: Models, collections: Collections) -> None: ...
    async def fit(self, name: str, *, model: str = "", items: Items | None = None, collection: str | None = None,
        target_fpr: float = 0.05, neighbours: int = 5, truncation: Truncation = "truncate", deadline: float | None = None) -> DetectorInfo: ...
    async def score(self, name: str, *, items: Items, truncation: Truncation = "truncate", deadline: float | None = None) -> Scored: ...
    async def get(self, name: str) -> DetectorInfo: ...
    async def list(self) -> tuple[DetectorInfo, ...]: ...
    async def delete(self, name: str) -> None: ...
