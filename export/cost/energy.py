"""Energy of arithmetic as a model of a 45 nm chip prices it: a model, never a measurement.

The prices are Horowitz's ("Computing's energy problem (and what we can do about it)", ISSCC 2014,
figure 1.1.9), of which EcoFormer uses those of 32-bit floats (Liu et al. 2022, arXiv:2209.09004).
Nothing is said of memory, which costs more than arithmetic on every real chip, nor of time.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from .count import Arithmetic, Node
from .operations import Operations

LABEL = "modelled: arithmetic alone at 45 nm, not measured"
"""To be printed with every number of this module."""

PICOJOULES: Mapping[Arithmetic, tuple[float, float]] = MappingProxyType(
    {"float32": (3.7, 0.9), "float16": (1.1, 0.4), "int8": (0.2, 0.1)}
)
"""pJ of a multiplication and an addition; products of 8 bits are summed in 32."""


def picojoules(operations: Operations, arithmetic: Arithmetic = "float32") -> float:
    """Price operations of one arithmetic."""
    multiplication, addition = PICOJOULES[arithmetic]
    return multiplication * operations.multiplications + addition * operations.additions


def energy(nodes: Iterable[Node]) -> float:
    """Price the operators of a graph, each in its own arithmetic: pJ."""
    return sum(picojoules(node.operations, node.arithmetic) for node in nodes)


def softmax_attention(*, tokens: int, width: int, heads: int) -> Operations:
    """Count one softmax attention without its projections, as EcoFormer does.

    2 n^2 c + h n^2 multiplications and 2 n^2 c additions, of n tokens of width c and h heads.
    """
    products = 2 * tokens**2 * width
    return Operations(multiplications=products + heads * tokens**2, additions=products)


def binarized_attention(
    *, tokens: int, width: int, heads: int, bits: int = 16, anchors: int = 25
) -> Operations:
    """Count one binarized attention without its projections, as EcoFormer does.

    For each head, of n tokens of depth d hashed to b bits by m anchors: n (2 m + m b + b + 1 + d)
    multiplications and n (2 m d + m b + 2 b + 2 b d + d) additions. Like the authors' script it
    leaves out the n m d multiplications of the squared distances.
    """
    depth = width // heads
    hashing = anchors * bits
    return Operations(
        multiplications=heads * tokens * (2 * anchors + hashing + bits + 1 + depth),
        additions=heads
        * tokens
        * (2 * anchors * depth + hashing + 2 * bits + 2 * bits * depth + depth),
    )
