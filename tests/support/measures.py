"""What an export measures of a variant in a new process: tests measure it in this one."""

from attar.export import measure
from attar.inputs import Prepared
from attar.manifest import Latency
from attar.runtime import Encoder

IN_A_PROCESS = measure.in_a_process
SECONDS = 0.02  # that an item is repeated for: no test says how quick a variant is


def here(encoder: Encoder, row: Prepared) -> tuple[Latency, None]:
    """Time an item on one thread; its memory is unknown, as where a system does not tell."""
    return measure.latency(encoder.bundle.path, encoder.variant.name, row), None
