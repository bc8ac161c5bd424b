"""`attar export-triton` and `attar export-tensorrt`: what they write and print."""

from collections.abc import Sequence
from pathlib import Path

from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.export.targets.triton import Device, export_triton

from .console import console


def triton(bundle: Path, out: Path, *, variant: str | None, device: Device, max_batch: int) -> None:
    """Write a model repository."""
    written = export_triton(
        Bundle.open(bundle),
        out,
        variant=variant,
        device=device,
        max_batch=max_batch,
    )
    names = " and ".join(written.models)
    console.print(
        f"{names}, version {written.version}, written to {out}; "
        f"next: tritonserver --model-repository {out}"
    )


def tensorrt(
    bundle: Path, cache: Path, *, variant: str | None, max_batch: int, lengths: str | None
) -> None:
    """Build an engine in a cache, unless it is there already."""
    from attar.export.targets.tensorrt.engine import export_tensorrt, plan

    opened = Bundle.open(bundle)
    planned = plan(
        opened,
        variant=variant,
        max_batch=max_batch,
        lengths=() if lengths is None else _whole_numbers("--lengths", lengths),
    )
    engine = export_tensorrt(opened, cache, planned)
    console.print(
        f"{engine.path} {'was there already' if engine.reused else 'is built'}; cosine to the "
        f"reference {engine.parity['mean']:.6f} on average, {engine.parity['worst']:.6f} at worst"
    )


def _whole_numbers(option: str, text: str) -> Sequence[int]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InvalidInput(f"{option} must be whole numbers with commas; got {text!r}") from None
