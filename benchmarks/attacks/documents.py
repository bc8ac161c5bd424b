"""Attacks by documents: small files that cost who adapts an encoder to them hours, or gigabytes."""

from pathlib import Path
from typing import Final

from ..hostile.documents import CASES, lay, readings
from .ground import Attack, Outcome


def costly_documents(folder: Path) -> Outcome:
    """Read each as `attar adapt` does, in one process with limits; no server has a part in it."""
    lay(folder)
    each, peak_mb = readings(folder)
    wrong = [
        reading.what
        for reading, case in zip(each, CASES, strict=False)
        if not (
            reading.outcome == case.outcome
            or (isinstance(case.outcome, str) and case.outcome in str(reading.outcome))
        )
    ]
    longest = max(each, key=lambda reading: reading.cpu_s)
    note = (
        f"{len(each) - len(wrong)} of {len(CASES)} were read or refused as they should be; the "
        f"longest, {longest.what}, took {longest.cpu_s:.1f} s of a processor"
    )
    return Outcome(
        held=not wrong and len(each) == len(CASES), peak_mb=peak_mb, others_p99_ms=None, note=note
    )


ATTACKS: Final = (Attack("documents that cost more than they hold", costly_documents),)
