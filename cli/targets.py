"""What `attar export --target` makes of a bundle, and says of it."""

from pathlib import Path

from attar.bundle import Bundle
from attar.export.triton import MAX_BATCH, Device, export_triton

from .tables import console


def triton(
    bundle: Path, out: Path, *, variant: str | None, device: Device | None, max_batch: int | None
) -> None:
    """Write a model repository."""
    written = export_triton(
        Bundle.open(bundle),
        out,
        variant=variant,
        device=device or "cpu",
        max_batch=max_batch or MAX_BATCH,
    )
    names = " and ".join(written.models)
    console.print(
        f"{names}, version {written.version}, written to {out}; "
        f"next: tritonserver --model-repository {out}"
    )
