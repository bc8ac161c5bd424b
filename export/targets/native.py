"""Binarized attention in one step: the operator attar.native::BinarizedAttention of attar-native.

A rewrite of a graph with binarized attention, in float or in int8, by patterns: what lies between
the projections and the output projection, some forty standard operators as torch exports them,
becomes one node. Attention that is not understood, such as EcoFormer's released form, is left
alone. Values enter in float even where the graph sums them in int8: the operator adds floats, and
rounding them first would only be one more pass.

A file so written needs the library attar-native beside ONNX Runtime, so it is a variant beside the
standard one, and its manifest names the library.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from attar.errors import InvalidInput, NotSupported
from attar.native import DOMAIN, LIBRARY, library_path

from ..bundling import Candidate
from ..cost.shapes import attribute

NATIVE = ("binarized_native", "binarized_int8_native")
"""The variants: each is another one, which it is named after, with the operator in its graph."""

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
    asked = [name for name in NATIVE if name in variants]
    if asked and library_path(LIBRARY) is None:
        raise NotSupported(
            f"variant {asked[0]} needs the library {LIBRARY}, which this machine lacks; "
            f"pip install {LIBRARY}, or leave the variant out"
        )


def native_candidates(
    variants: Sequence[str], candidates: Sequence[Candidate]
) -> tuple[Candidate, ...]:
    """Make the native variants that are asked for, each of the candidate that it is named after.

    Raises InvalidInput when that one is not there.
    """
    standard = {f"{candidate.name}_native": candidate for candidate in candidates}
    asked = [name for name in NATIVE if name in variants]
    for name in asked:
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
        for name in asked
    )


def use_native(graph: bytes) -> bytes:
    """Put the native operator in place of every binarized attention that is understood.

    Raises InvalidInput when there is none.
    """
    model = onnx.load_from_string(graph)
    reader = _Reader(model)
    found = {node.output[0]: reader.attention(node.output[0]) for node in model.graph.node}
    nodes = {out: _node(out, names, reader.weights) for out, names in found.items() if names}
    if not nodes:
        raise InvalidInput(
            "no binarized attention that attar-native knows was found in the graph, so the variant "
            "would change nothing; leave it out"
        )
    sigmas = [
        numpy_helper.from_array(reader.weights[names["width"]] / np.float32(-2), f"{out}.sigma")
        for out, names in found.items()
        if names and names["width"] in reader.weights
    ]
    model.graph.initializer.extend(sigmas)
    _replace(model, nodes)
    model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


class _Reader:
    """A graph by who makes each value."""

    def __init__(self, model: ModelProto) -> None:
        self._maker = {name: node for node in model.graph.node for name in node.output}
        self.weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        values = (*model.graph.input, *model.graph.value_info)
        self._kinds = {value.name: value.type.tensor_type.elem_type for value in values}

    def attention(self, out: str) -> Mapping[str, str] | None:
        """Give the names of an attention's values, if `out` is what one gives."""
        names: Mapping[str, str] | None = {"out": out}
        for equation in _EQUATIONS:
            names = names and self._solve(names, *equation)
        if names is None:
            return None
        names = self._all(names, _MASKED) or self._all(names, _UNMASKED)
        if names is not None and names["width"] not in self.weights:
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
            met = (self._match(one, value, names) for one in pattern)
            return next((solved for solved in met if solved is not None), None)
        kind, *inputs = pattern
        node = self._maker.get(value)
        if node is None or _kind(node) != kind or len(node.input) < len(inputs):
            return None
        solved: Mapping[str, str] | None = names
        for inner, made in zip(inputs, node.input, strict=False):
            solved = None if solved is None else self._match(inner, made, solved)
        return solved

    def _holds(self, names: Mapping[str, str]) -> bool:
        """Tell whether the constants are what the formula has, and within the operator's reach."""
        constants = {name: self.weights.get(value) for name, value in names.items()}
        numbers = all(
            (found := constants[name]) is not None and found.size == 1 and found.item() == number
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
            and self._kinds.get(names.get("mask", ""), TensorProto.BOOL) == TensorProto.BOOL
        )


def _kind(node: NodeProto) -> str:
    """Name a node's operator; a transposition by its axes too."""
    if node.op_type != "Transpose":
        return node.op_type
    return " ".join(map(str, ("Transpose", *attribute(node, "perm", ()))))


def _node(out: str, names: Mapping[str, str], weights: Mapping[str, Any]) -> NodeProto:
    """Write the operator's node; its inputs are explained in native/src/operator.cpp."""
    learned = [names[name] for name in ("query_key", "value", "anchors", "mean", "hash")]
    sigma = f"{out}.sigma" if names["width"] in weights else ""
    return helper.make_node(
        OPERATOR,
        [*learned, sigma, names.get("mask", "")],
        [out],
        domain=DOMAIN,
        beta=weights[names["beta"]].item(),
    )


def _replace(model: ModelProto, nodes: Mapping[str, NodeProto]) -> None:
    """Put each node where its result was made, and drop what nobody reads then."""
    graph = model.graph
    needed, kept = {value.name for value in graph.output}, list[NodeProto]()
    for original in reversed(graph.node):
        if needed.intersection(original.output):
            node = nodes.get(original.output[0], original)
            needed.update(node.input)
            kept.append(node)
    made = {name for node in kept for name in node.output}
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    shapes = [value for value in graph.value_info if value.name in made]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(weights)
    graph.value_info.extend(shapes)
