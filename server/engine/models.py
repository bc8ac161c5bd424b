"""Models: bundles that are loaded, batched and ready."""

class Model:
    """One encoder and its batcher."""

    name: str
    version: str
    encoder: Encoder

    def __init__(self, encoder: Encoder, *, max_batch_tokens: int, max_queue_items: int, max_queue_tokens: int, observer: Observer) -> None: ...
    @property
    def ready(self) -> bool: ...  # a forward pass has succeeded and the serve loop lives
    async def close(self, *, drain: bool) -> None: ...


class Models:
    def __init__(self, models: Iterable[Model]) -> None: ...  # InvalidInput when two share a name
    def __getitem__(self, name: str) -> Model: ...  # NotFound names the known ones; "" is the only one
    def __iter__(self) -> Iterator[Model]: ...
    @property
    def ready(self) -> bool: ...
    async def start(self) -> None: ...  # starts the serve loops, warms every model up; returns when all are ready, raises BackendError
    async def close(self, *, drain: bool) -> None: ...  # new calls get Unavailable; drain: what was accepted is answered first
