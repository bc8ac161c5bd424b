"""The model factory: how a bundle on disk becomes a model, by the settings."""

import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import attar
from attar.bundle import Bundle
from attar.errors import NotSupported
from attar.heads import Head
from attar.runtime import Encoder, read_heads
from attar.signature import trusted

from .engine.bundle_repository import Repository
from .engine.cache import Cache
from .engine.model import Model
from .engine.models import Models
from .engine.trial_process import Prover
from .engine.triton import remote
from .limits.head_capacity import Capacity
from .observability.metrics import Metrics, ModelMetrics
from .settings import Settings


@dataclass(frozen=True, slots=True)
class _Opens:
    """Opens a bundle as a model, by the settings."""

    settings: Settings
    metrics: Metrics
    cache: Cache | None
    capacity: Capacity | None

    def __call__(self, path: Path, variant: str | None, /, *, content: str | None) -> Model:
        """Open that variant, and the heads where there is `capacity` for any."""
        keys = self.settings.require_signature
        bundle = Bundle.open(path, content=content, require_signature=keys)
        if self.capacity is None:
            return self._model(bundle, variant)
        size = sum(entry.bytes for entry in bundle.head_files)
        end = self.capacity.take_bundled(bundle.content, size, bundle.manifest.name)
        try:
            model = self._model(bundle, variant, heads=read_heads(bundle), closed=end)
        except BaseException:
            end()
            raise
        weakref.finalize(model, end)  # one that is given up while it opens is never closed
        return model

    def _model(
        self,
        bundle: Bundle,
        variant: str | None,
        *,
        heads: Mapping[str, Head] | None = None,
        closed: Callable[[], None] = lambda: None,
    ) -> Model:
        settings, encoder = self.settings, _encoder(bundle, variant, self.settings)
        return Model(
            encoder,
            max_batch_tokens=settings.max_batch_tokens,
            max_queue_items=settings.max_queue_items,
            max_queue_tokens=settings.max_queue_tokens,
            max_item_bytes=settings.max_item_bytes,
            max_answer_bytes=settings.max_answer_bytes,
            aging_s=settings.aging_s,
            run_timeout_s=settings.run_timeout_s,
            warm_up_s=settings.warm_up_s,
            heartbeat_s=settings.heartbeat_s,
            cache=self.cache,
            observer=ModelMetrics(self.metrics, encoder.manifest.name),
            heads=heads,
            closed=closed,
        )


def models(
    settings: Settings,
    metrics: Metrics,
    *,
    capacity: Capacity | None,
    shared: bool = False,
    ledger: Path | None = None,
) -> Models:
    """Give the models that the settings name, to be started; `shared` by several workers.

    `capacity` counts the heads of their bundles; None where another process answers by heads.
    Workers try a bundle once for all, by the folder `ledger`.
    """
    # Else all tokenizers of the process share one pool of threads, and one that hangs there, as a
    # pattern may at some text, keeps the others from theirs.
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    cache = None
    if settings.cache_items:
        cache = Cache(max_items=settings.cache_items, max_bytes=settings.cache_bytes)

    if settings.require_signature is not None:
        trusted(settings.require_signature)  # a bad file is refused before any bundle is

    served = Models(
        repository=Repository(
            open=_Opens(settings, metrics, cache, capacity),
            prove=_prover(settings, ledger),
            open_timeout_s=settings.load_timeout_s,
            bundles=settings.bundles,
            folder=settings.model_repository,
            watch_s=settings.watch_s,
            variants=settings.variant,
            loaded=metrics.loaded,
            failed=metrics.unwatched,
            shared=shared,
        )
    )
    metrics.watch(served)
    return served


def _prover(settings: Settings, ledger: Path | None) -> Prover:
    """Try bundles on the CPU, which is bounded; what else runs graphs shares this machine's memory.

    TensorRT would also build each engine twice.
    """
    return Prover(
        choices={
            "threads": settings.threads,
            "provider": settings.provider,
            "provider_options": settings.provider_options,
            "allow_token_ids": settings.allow_token_ids,
        },
        runs=settings.triton is None and settings.provider in (None, "cpu"),
        timeout_s=settings.load_timeout_s,
        memory_bytes=settings.load_memory_bytes,
        require_signature=settings.require_signature,
        ledger=ledger,
    )


def _encoder(bundle: Bundle, variant: str | None, settings: Settings) -> Encoder:
    if settings.triton is None:
        return attar.load(
            bundle,
            variant=variant,
            threads=settings.threads,
            provider=settings.provider,
            device_id=settings.device_id,
            provider_options=settings.provider_options,
            allow_token_ids=settings.allow_token_ids,
        )
    if variant not in (None, bundle.manifest.reference):
        raise NotSupported(
            f"Triton at {settings.triton} runs the graph that was exported to it, not variant "
            f"{variant}; export that one there"
        )
    return remote(
        bundle,
        settings.triton,
        timeout_s=settings.run_timeout_s,
        allow_token_ids=settings.allow_token_ids,
    )
