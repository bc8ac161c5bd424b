"""A bundle's operations, whether its figures hold here, and its report page."""

from pathlib import Path

import numpy as np
from rich.table import Table

from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.export.report_html import page
from attar.export.verify import Check, verify
from attar.inputs import Items
from attar.manifest import read_json

from .console import console

VERDICTS = {True: "holds", False: "DIFFERS", None: "not judged"}


def show_operations(path: Path, *, variant: str | None, length: int | None, batch: int) -> None:
    """Print multiplications, additions, bytes and modelled energy, a row a layer."""
    # Here, for the rest of this module needs no onnx.
    from attar.export.cost.count import count, total
    from attar.export.cost.energy import LABEL, energy

    bundle = Bundle.open(path)
    chosen = bundle.variant(variant or bundle.manifest.reference)
    sizes = _sizes(bundle, length=length, batch=batch)
    counts = count(bundle.read(chosen.file), sizes)
    shown = ", ".join(f"{axis} {size:,d}" for axis, size in sizes.items())
    table = Table(
        *("layer", "multiplications, M", "additions, M", "moved, MB", "energy, µJ*"),
        box=None,
        title=f"{bundle.manifest.name}, variant {chosen.name}: {shown}",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    attention = tuple(node for node in counts.nodes if node.attention)
    others = tuple(node for node in counts.nodes if not node.attention)
    rows = [*counts.layers().items()]
    rows += [("attention", attention), ("all else", others), ("the whole", counts.nodes)]
    for index, (layer, nodes) in enumerate(rows):
        if index == len(rows) - 3:
            table.add_section()
        sums = total(nodes)
        numbers = (sums.multiplications, sums.additions, sums.moved, energy(nodes))
        table.add_row(layer, *(f"{number / 1e6:,.3f}" for number in numbers))
    console.print(table)
    console.print(f"* {LABEL}")
    for kind, times in counts.unknown.items():
        console.print(f"not counted: {kind}, {times} times", style="yellow")


def show_checks(path: Path, *, items: Path | None, against: Path | None) -> bool:
    """Print the bundle's figures here and as recorded; give whether everything holds."""
    bundle = Bundle.open(path)
    inputs = None if items is None else read_items(items, bundle)
    checks = verify(path, items=inputs, against=against)
    table = Table("variant", "check", "recorded", "here", "", "", box=None)
    for check in checks:
        table.add_row(
            check.variant or "the bundle",
            check.what,
            check.recorded,
            check.here,
            VERDICTS[check.holds],
            check.why,
            style="red" if check.holds is False else None,
        )
    console.print(table)
    differing = [check for check in checks if check.holds is False]
    console.print(_sum(checks, differing))
    return not differing


def write_page(path: Path, out: Path, *, bench: Path | None) -> None:
    """Write the bundle's page, with a bench report's figures if there is one."""
    bundle = Bundle.open(path)
    report = None if bench is None else _object(bench)
    if out.is_dir() or not out.parent.is_dir():
        raise InvalidInput(f"--out {out} must be a file in a folder that exists")
    out.write_text(page(bundle, report), "utf-8")
    console.print(f"{out} is written; open it in a browser, it needs no network")


def read_items(path: Path, bundle: Bundle) -> Items:
    """Read items to compare on: a text a line, or the rows of a NumPy array in an .npy file.

    Raises InvalidInput that names the file when it is not what the bundle takes.
    """
    if bundle.manifest.preprocessing.tokenizer is None:
        try:
            with path.open("rb") as file:
                array: Items = np.lib.format.read_array(file, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise InvalidInput(
                f"--items {path} is no .npy array: {error}; write one with numpy.save"
            ) from None
        return array
    try:
        lines = path.read_text("utf-8-sig").split("\n")  # a text may hold other ends of a line
    except UnicodeDecodeError as error:
        raise InvalidInput(f"--items {path} is not UTF-8: {error}; save it as UTF-8") from None
    return [line for line in lines if line.strip()]


def _sizes(bundle: Bundle, *, length: int | None, batch: int) -> dict[str, int]:
    """Give each free axis its size; all but the batch are of one length."""
    manifest = bundle.manifest
    axes = {axis for spec in manifest.inputs for axis in spec.shape if isinstance(axis, str)}
    free = sorted(axes - {"batch"})
    length = manifest.max_length if length is None else length
    if not free and length is not None:
        raise InvalidInput(f"{manifest.name} takes inputs of one shape; leave --length out")
    if free and length is None:
        raise InvalidInput(f"{manifest.name} has the free axes {', '.join(free)}; give --length")
    if length is not None and not 1 <= length <= (manifest.max_length or length):
        raise InvalidInput(f"--length must be from 1 to {manifest.max_length}; got {length}")
    return {"batch": batch, **dict.fromkeys(free, length or 1)}


def _sum(checks: list[Check], differing: list[Check]) -> str:
    if differing:
        names = ", ".join(f"{c.variant or 'the bundle'}: {c.what}" for c in differing)
        return f"{len(differing)} of {len(checks)} checks differ: {names}"
    open_ = sum(check.holds is None for check in checks)
    return f"all {len(checks) - open_} checks hold; {open_} could not be judged"


def _object(path: Path) -> dict[str, object]:
    """Read a JSON object, strictly."""
    try:
        document = read_json(path.read_bytes(), str(path))
    except ValueError as error:
        raise InvalidInput(f"--bench: {error}; write one with `attar bench --out`") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"--bench {path} is no report; write one with `attar bench --out`")
    return document
