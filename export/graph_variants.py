"""The variants that follow from the reference's graph alone: no data, nothing learned."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from attar.errors import InvalidInput

from .bundling import Candidate
from .gates import FP32, HALF, INT4, INT8, Gate
from .passes.fuse import fuse
from .passes.half import on_a_cpu, to_half
from .passes.weight_only import quantize_weights

GPU = "CUDAExecutionProvider"

_MADE: Mapping[str, tuple[str, Gate, str | None, Callable[[bytes], bytes]]] = MappingProxyType(
    {
        "fp32_fused": ("fp32", FP32, None, fuse),
        "fp16": ("fp16", HALF, GPU, partial(to_half, precision="fp16")),
        "bf16": ("bf16", INT8, GPU, partial(to_half, precision="bf16")),
        "int8_dynamic": ("int8", INT8, None, partial(quantize_weights, bits=8, accuracy="int8")),
        "int8_weights": ("int8", INT8, None, partial(quantize_weights, bits=8, accuracy="float32")),
        "int4": ("int4", INT4, None, partial(quantize_weights, bits=4, accuracy="float32")),
    }
)
"""By name: precision, gate, the execution provider it is made for, and what makes its graph."""

DERIVED = tuple(_MADE)


def derive(name: str, graph: bytes, *, attention: str | None = None) -> Candidate:
    """Make the variant `name`, one of `DERIVED`, of the reference's `graph`.

    Raises InvalidInput when the graph has nothing that the variant would change.
    """
    precision, gate, provider, make = _MADE[name]
    try:
        made = make(graph)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error
    return Candidate(
        name=name,
        graph=made,
        precision=precision,
        gate=gate,
        attention=attention,
        provider=provider,
        stand_in=on_a_cpu(made) if name == "bf16" else None,
    )
