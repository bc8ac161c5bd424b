"""What the import and export commands print, and how their flags are read."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.table import Column, Table

from attar.errors import InvalidInput
from attar.export.bundling import Exported
from attar.export.exporting import export
from attar.export.importing import import_folder
from attar.training.binarizing import RECOVERY, Conversion
from attar.training.catalogue import catalogue, claim_of
from attar.training.choices import Pooling, Route, Side
from attar.training.encoders.attention import CODE_BITS
from attar.training.hashing import Hashing
from attar.training.huggingface.config import Declared

from .console import console, show_bundle


def import_bundle(
    folder: str,
    bundle: Path,
    *,
    route: Route | None,
    pooling: Pooling | None,
    normalize: bool,
    prompts: Mapping[str, str],
    dims: str,
    tower: Side | None,
    max_seconds: float | None,
    weights: Path | None,
    licence: str | None,
    variants: Sequence[str],
    calibration: Path | None,
    tokens: bool,
) -> None:
    """Write a bundle and show its parity."""
    declared = Declared(
        route=route,
        pooling=pooling,
        normalize=normalize,
        prompts={role: prompt for role, prompt in prompts.items() if prompt},
        dims=read_widths("--dims", dims),
    )
    texts = [] if calibration is None else lines(calibration)
    exported = import_folder(
        folder,
        bundle,
        declared=declared,
        side=tower,
        max_seconds=max_seconds,
        weights=weights,
        licence=licence,
        variants=variants,
        calibration=texts,
        tokens=tokens,
    )
    show_exported(exported)


def lines(path: Path) -> list[str]:
    """Read a text file's lines that hold something, two or more."""
    try:
        texts = [line for line in path.read_text("utf-8-sig").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8 text: {error}") from error
    if len(texts) < 2:
        raise InvalidInput(f"{path} has {len(texts)} lines of text; give two or more")
    return texts


def read_widths(flag: str, text: str) -> tuple[int, ...]:
    """Read widths that commas part, such as 64,128, in rising order."""
    try:
        return tuple(sorted({int(word) for word in text.split(",") if text}))
    except ValueError:
        raise InvalidInput(f"{flag} takes widths such as 64,128; got {text!r}") from None


def list_recipes() -> None:
    """Print one row a recipe."""
    names = Column("recipe", min_width=max(map(len, catalogue())))  # names are typed as they stand
    table = Table(names, "family", "modality", "paper", "claim", box=None)
    for name, recipe in catalogue().items():
        table.add_row(name, recipe.family, recipe.modality, recipe.paper, claim_of(name).statement)
    console.print(table, soft_wrap=False)


def show_sweep(path: Path) -> None:
    """Print one row a run of a sweep, the highest RankMe first."""
    rows = json.loads(path.read_text("utf-8"))["rows"]
    varied = list(rows[0]["settings"])
    figures = [name for name in rows[0] if isinstance(rows[0][name], float)]
    table = Table(*varied, *figures, box=None)
    for row in rows:
        values = [f"{row[name]:.4g}" if name in row else "" for name in figures]
        table.add_row(
            *row["settings"].values(), *([row["failure"]] if "failure" in row else values)
        )
    console.print(table)


def export_encoder(
    encoder: Path,
    bundle: Path,
    *,
    data: str | None,
    reading: Sequence[str],
    softmax: bool,
    compatible_with: Path | None,
    tokens: bool,
) -> None:
    """Write a bundle, with binarized variants where they can be made unless `softmax` says no."""
    settings = None if softmax else Conversion()
    show_exported(
        export(
            encoder,
            bundle,
            data=data,
            reading=reading,
            binarized=settings,
            compatible_with=compatible_with,
            tokens=tokens,
        )
    )


def binarize_encoder(
    encoder: Path,
    bundle: Path,
    *,
    settings: Conversion,
    data: str | None,
    reading: Sequence[str],
    native: bool,
) -> None:
    """Write a bundle with binarized variants; raises InvalidInput where none can be made."""
    show_exported(
        export(
            encoder,
            bundle,
            data=data,
            reading=reading,
            binarized=settings,
            required=True,
            native=native,
        )
    )


def copied_layers(text: str | None) -> int | tuple[int, ...] | None:
    """Read `--layers` of `attar distill`: one number counts layers, several name them."""
    numbers = None if text is None else _layer_numbers(text)
    return numbers[0] if numbers and len(numbers) == 1 else numbers


def read_hashing(
    *,
    layers: str | None,
    bits: int | None,
    beta: float | None,
    static_sigma: bool,
    steps: int | None,
) -> Conversion:
    """Read the flags of `attar binarize`; what is None is the recipe's."""
    return Conversion(
        layers=None if layers is None else _layer_numbers(layers),
        hashing=Hashing(bits=bits or CODE_BITS, beta=beta, static_sigma=static_sigma),
        recovery=replace(RECOVERY, steps=steps or RECOVERY.steps),
    )


def _layer_numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(layer) for layer in text.split(","))
    except ValueError:
        raise InvalidInput(
            f"--layers are numbers from 0, with commas between; got {text!r}"
        ) from None


def show_exported(exported: Exported) -> None:
    """Show what was written, and what was not and why."""
    show_bundle(exported.bundle.path)
    for name, reasons in exported.refused.items():
        console.print(f"{name} was not written: {'; '.join(reasons)}", style="yellow")
