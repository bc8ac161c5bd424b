"""The variants that follow from the reference's graph alone: no data, nothing learned."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from attar.errors import InvalidInput

from .bundling import Candidate
from .gates import GATES, Gates
from .passes.fuse import fuse
from .passes.half import on_a_cpu, to_half
from .passes.weight_only import quantize_weights

GPU = "CUDAExecutionProvider"

_RECIPES: Mapping[str, tuple[str, str, str | None, Callable[[bytes], bytes]]] = MappingProxyType(
    {
        "fp32_fused": ("fp32", "fp32", None, fuse),
        "fp16": ("fp16", "half", GPU, partial(to_half, precision="fp16")),
        "bf16": ("bf16", "int8", GPU, partial(to_half, precision="bf16")),
        "int8_dynamic": ("int8", "int8", None, partial(quantize_weights, bits=8, accuracy="int8")),
        "int8_weights": (
            "int8",
            "int8",
            None,
            partial(quantize_weights, bits=8, accuracy="float32"),
        ),
        "int4": ("int4", "int4", None, partial(quantize_weights, bits=4, accuracy="float32")),
    }
)
"""By name: precision, field of Gates, execution provider it is made for, and graph function."""

DERIVED = tuple(_RECIPES)


def derive(
    name: str, graph: bytes, *, attention: str | None = None, gates: Gates = GATES
) -> Candidate:
    """Make the variant `name`, one of `DERIVED`, of the reference's `graph`.

    Raises InvalidInput when the graph has nothing that the variant would change.
    """
    precision, gate, provider, make = _RECIPES[name]
    try:
        derived = make(graph)
    except InvalidInput as error:
        raise InvalidInput(f"{name}: {error}") from error
    return Candidate(
        name=name,
        graph=derived,
        precision=precision,
        gate=getattr(gates, gate),
        attention=attention,
        provider=provider,
        stand_in=on_a_cpu(derived) if name == "bf16" else None,
    )
