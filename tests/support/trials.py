"""Trials of bundles, each once a session: a trial is a process that imports ONNX Runtime."""

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from attar.server.engine.bundle_repository import BundleLocation, Proven
from attar.server.engine.trial_process import Prover

from .session_cache import folder

MOST_BYTES = 2**24  # of a bundle that is known again; what is larger is tried each time


@dataclass(frozen=True, slots=True)
class KnownTrials:
    """A prover that does not try the same bytes again by the same settings; refusals are tried."""

    prover: Prover

    async def __call__(self, location: BundleLocation, variant: str | None) -> Proven:
        """Give what an earlier trial gave, or try the bundle."""
        content = _content(location.path)
        if content is None or self.prover.require_signature is not None:
            return await self.prover(location, variant)
        named = sha256(repr((content, variant, self.prover)).encode()).hexdigest()
        known = folder() / f"trial-{named}"
        if known.exists():
            return Proven(content=location.content, variant=known.read_text("utf-8") or None)
        proven = await self.prover(location, variant)
        if proven.content == location.content:
            partial = known.with_suffix(f".{os.getpid()}")
            partial.write_text(proven.variant or "", "utf-8")
            partial.replace(known)
        return proven


def prover(**settings: Any) -> KnownTrials:
    """Make a prover as `Prover` does."""
    return KnownTrials(Prover(**settings))


def _content(path: Path) -> str | None:
    """Give a digest of a bundle's names and bytes; None where they are too many or unreadable."""
    digest = sha256()
    left = MOST_BYTES
    with suppress(OSError):
        for file in sorted(_files(path)):
            size = file.stat().st_size
            left -= size
            if left < 0:
                return None
            digest.update(f"{file.relative_to(path)}\0{size}\0".encode())
            digest.update(file.read_bytes())
        return digest.hexdigest()
    return None


def _files(path: Path) -> Iterator[Path]:
    """Give the files of a folder, or a file itself."""
    for file in path.rglob("*") if path.is_dir() else (path,):
        if file.is_file():
            yield file
