"""Binarized attention in one step: the operator attar.native::BinarizedAttention of attar-native.

A rewrite of a graph with binarized attention, in float or in int8, by patterns: what lies between
the projections and the output projection, some forty standard operators as torch exports them,
becomes one node. Attention of another pattern, such as EcoFormer's released form, is left as
it is. Values enter in float even where the graph sums them in int8: the operator adds floats, and
rounding them first would only be one more pass.

The graph needs the library attar-native, so it is a variant next to the standard one, and the
manifest names the library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
from onnx import NodeProto, TensorProto, helper

from attar.errors import InvalidInput, NotSupported
from attar.native import DOMAIN, LIBRARY, library_path

from ..bundling import Candidate
from ..onnx_graph import Constants, Graph, attribute, live, rewrite, stated

NATIVE = ("binarized_native", "binarized_int8_native")
"""The variants: each is the variant that it is named after, with the operator in its graph."""

OPERATOR = "BinarizedAttention"
MOST_BITS = 32  # what the operator packs a code into

Pattern: TypeAlias = str | tuple[Any, ...] | list[Any]
"""A value's name, an operator and its first inputs, or several patterns of which one holds."""

_BY_HEAD = "Transpose 0 2 1 3"

_EQUATIONS: tuple[tuple[str, Pattern], ...] = (
    (
        "out",
        (
            "Reshape",
            (
                _BY_HEAD,
                (
                    "Div",
                    ("Add", ("MatMul", "h", "context"), ("Mul", ("ReduceSum", "v"), "beta")),
                    ("Add", ("MatMul", "h", ("Unsqueeze", "ones")), "norm"),
                ),
            ),
        ),
    ),
    (
        "context",
        [
            ("MatMul", ("Transpose 0 1 3 2", "h"), "v"),
            (
                "Mul",
                (
                    "Cast",
                    (
                        "MatMulInteger",
                        ("Transpose 0 1 3 2", ("Where", "positive")),
                        ("QuantizeLinear", "v"),
                    ),
                ),
            ),
        ],
    ),
    ("h", ("Where", "positive", "plus", "minus")),
    ("positive", ("GreaterOrEqual", "projection", "zero")),
    ("projection", ("MatMul", ("Sub", ("Exp", ("Div", "distance", "width")), "mean"), "hash")),
    ("distance", ("Sub", "two", ("MatMul", ("Mul", "unit", "two"), "anchors"))),
    ("unit", ("Div", "tokens", ("Clip", ("ReduceL2", "tokens")))),
    ("tokens", (_BY_HEAD, ("Reshape", "query_key"))),
)
"""BinarizedAttention as torch exports it, each value by those that it is made of."""

_UNMASKED: tuple[tuple[str, Pattern], ...] = (
    ("v", (_BY_HEAD, ("Reshape", "value"))),
    ("ones", ("ReduceSum", "h")),
    ("norm", ("Mul", "beta", ("Cast", "length"))),
)
_MASKED: tuple[tuple[str, Pattern], ...] = (
    ("v", ("Mul", (_BY_HEAD, ("Reshape", "value")), "real")),
    ("ones", ("ReduceSum", ("Mul", "h", "real"))),
    ("norm", ("Mul", ("ReduceSum", "real"), "beta")),
    ("real", ("Cast", ("Unsqueeze", ("Unsqueeze", "mask")))),
)
_OWN_SIGMA: tuple[tuple[str, Pattern], ...] = (
    ("width", ("Mul", "sigma", "less_two")),
    (
        "sigma",
        [
            ("ReduceMean", "distance"),
            ("Div", ("ReduceSum", ("Mul", "distance", "real")), ("Mul", ("ReduceSum", "real"))),
        ],
    ),
)
_CONSTANTS = {"two": 2.0, "zero": 0.0, "plus": 1.0, "minus": -1.0, "less_two": -2.0}


def refuse_without_library(variants: Sequence[str]) -> None:
    """Raise NotSupported for a native variant where attar-native is absent: it runs to be gated."""
    native = [name for name in NATIVE if name in variants]
    if native and library_path(LIBRARY) is None:
        raise NotSupported(
            f"variant {native[0]} needs the library {LIBRARY}, which this machine lacks; "
            f"pip install {LIBRARY}, or leave the variant out"
        )


def native_candidates(
    variants: Sequence[str], candidates: Sequence[Candidate]
) -> tuple[Candidate, ...]:
    """Make the native ones of `variants`, each of the candidate that it is named after.

    Raises InvalidInput when there is no such candidate.
    """
    standard = {f"{candidate.name}_native": candidate for candidate in candidates}
    native = [name for name in NATIVE if name in variants]
    for name in native:
        if name not in standard:
            raise InvalidInput(
                f"{name} is {name.removesuffix('_native')} with a native operator, and that is not "
                "attempted; attempt both, of an encoder whose attention is binarized"
            )
    return tuple(
        replace(
            standard[name],
            name=name,
            graph=use_native(standard[name].graph),
            library=LIBRARY,
        )
        for name in native
    )


def use_native(graph: bytes) -> bytes:
    """Put the native operator in place of every binarized attention of a known pattern.

    Raises InvalidInput when there is none.
    """
    reader = _Reader(Graph.read(graph))
    constants = reader.graph.constants
    matches = {node.output[0]: reader.attention(node.output[0]) for node in reader.graph.nodes}
    attentions = {out: names for out, names in matches.items() if names}
    if not attentions:
        raise InvalidInput(
            "no binarized attention that attar-native knows was found in the graph, so the variant "
            "would change nothing; leave it out"
        )
    replacements = {out: _node(out, names, constants) for out, names in attentions.items()}
    sigmas = {
        f"{out}.sigma": constants[names["width"]] / np.float32(-2)
        for out, names in attentions.items()
        if names["width"] in constants
    }
    model = reader.graph.model
    nodes = live(reader.graph.nodes, reader.graph.outputs, replacements)
    return rewrite(model, nodes, sigmas, values=stated(model, nodes), domain=DOMAIN)


class _Reader:
    """Finds binarized attention in a graph."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def attention(self, out: str) -> Mapping[str, str] | None:
        """Give the names of an attention's values, if `out` is what one gives."""
        names: Mapping[str, str] | None = {"out": out}
        for equation in _EQUATIONS:
            names = names and self._solve(names, *equation)
        if names is None:
            return None
        names = self._all(names, _MASKED) or self._all(names, _UNMASKED)
        if names is not None and names["width"] not in self.graph.constants:
            names = self._all(names, _OWN_SIGMA)
        return names if names is not None and self._holds(names) else None

    def _all(
        self, names: Mapping[str, str], equations: tuple[tuple[str, Pattern], ...]
    ) -> Mapping[str, str] | None:
        solved: Mapping[str, str] | None = names
        for equation in equations:
            solved = solved and self._solve(solved, *equation)
        return solved

    def _solve(
        self, names: Mapping[str, str], name: str, pattern: Pattern
    ) -> Mapping[str, str] | None:
        return self._match(pattern, names[name], names)

    def _match(
        self, pattern: Pattern, value: str, names: Mapping[str, str]
    ) -> Mapping[str, str] | None:
        """Give `names` and those that the pattern adds, if it can stand for the value."""
        if isinstance(pattern, str):
            return {**names, pattern: value} if names.get(pattern, value) == value else None
        if isinstance(pattern, list):
            matches = (self._match(choice, value, names) for choice in pattern)
            return next((match for match in matches if match is not None), None)
        kind, *inputs = pattern
        node = self.graph.producers.get(value)
        if node is None or _kind(node) != kind or len(node.input) < len(inputs):
            return None
        solved: Mapping[str, str] | None = names
        for inner, name in zip(inputs, node.input, strict=False):
            solved = None if solved is None else self._match(inner, name, solved)
        return solved

    def _holds(self, names: Mapping[str, str]) -> bool:
        """Whether the constants are those of the formula, and the operator can take them."""
        constants = {name: self.graph.constants.get(value) for name, value in names.items()}
        numbers = all(
            (value := constants[name]) is not None and value.size == 1 and value.item() == number
            for name, number in _CONSTANTS.items()
            if name in constants
        )
        learned = [constants[name] for name in ("anchors", "mean", "hash")]
        beta, hashes = constants["beta"], constants["hash"]
        return (
            numbers
            and all(array is not None and array.ndim == 3 for array in learned)
            and beta is not None
            and beta.size == 1
            and hashes is not None
            and hashes.shape[2] <= MOST_BITS
            and self.graph.element_type(names.get("mask", ""))
            in (TensorProto.BOOL, TensorProto.UNDEFINED)
        )


def _kind(node: NodeProto) -> str:
    """Name a node's operator; a transposition by its axes too."""
    if node.op_type != "Transpose":
        return node.op_type
    return " ".join(map(str, ("Transpose", *attribute(node, "perm", ()))))


def _node(out: str, names: Mapping[str, str], constants: Constants) -> NodeProto:
    """Write the operator's node; its inputs are explained in native/src/operator.cpp."""
    learned = [names[name] for name in ("query_key", "value", "anchors", "mean", "hash")]
    sigma = f"{out}.sigma" if names["width"] in constants else ""
    return helper.make_node(
        OPERATOR,
        [*learned, sigma, names.get("mask", "")],
        [out],
        domain=DOMAIN,
        beta=constants[names["beta"]].item(),
    )
