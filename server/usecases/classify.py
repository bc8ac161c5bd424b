"""Classification: linear heads fitted on labelled items."""

@dataclass(frozen=True, slots=True)
class ClassifierInfo:
    name: str
    model: str
    fingerprint: str
    labels: tuple[str, ...]
    examples: int


@dataclass(frozen=True, slots=True)
class Predicted:
    labels: tuple[str | None, ...]  # None where the item failed
    probabilities: NDArray[np.float32]  # (n, k), rows sum to 1; zeros where failed
    classes: tuple[str, ...]  # the k columns
    items: tuple[Item, ...]
    fingerprint: str


class Classification:
    def __init__(self, data_dir: Path, models: Models) -> None: ...
    async def fit(self, name: str, *, model: str = "", items: Items, labels: Sequence[str],
        truncation: Truncation = "truncate", deadline: float | None = None) -> ClassifierInfo: ...
    async def predict(self, name: str, *, items: Items, truncation: Truncation = "truncate", deadline: float | None = None) -> Predicted: ...
    async def get(self, name: str) -> ClassifierInfo: ...
    async def list(self) -> tuple[ClassifierInfo, ...]: ...
    async def delete(self, name: str) -> None: ...
