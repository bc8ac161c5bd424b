"""A graph's operations, layer by layer, from its shapes alone: nothing runs.

What depends on constants or shapes alone costs nothing: it is worked out once. Items have the
length asked for, so there is no padding to leave out. Bytes are those that would move if nothing
stayed in a cache: each operator reads its inputs and writes its outputs, and a mere view moves
nothing.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx
from onnx import ModelProto, NodeProto, TensorProto, inliner

from attar.errors import InvalidInput

from .operations import ATTENTIONS, CONVOLUTIONS, NORMS, Operations, projection, work
from .shapes import ABSENT, MATRIX_PRODUCTS, VIEWS, Value, attribute, constant, follow

Arithmetic: TypeAlias = Literal["float32", "float16", "int8"]

INPUTS = "inputs"
"""The layer of what is done to the inputs before any weight, such as to a mask."""

_HALVES = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, *_HALVES)
_INTEGERS = CONVOLUTIONS.union(MATRIX_PRODUCTS) - {"Conv", "FusedConv", "MatMul", "FusedMatMul"}
_PARTIAL = frozenset({"Expand", "Gather", "GatherBlockQuantized", "GatherND", "Slice", "Split"})
"""Operators that read only as much as they write."""

_ANONYMOUS = re.compile(r"val_[0-9]+")  # what torch's exporter calls a matrix that it transposed
_LEAVES = frozenset({"weight", "bias", "int8", "int4", "scale", "zero", "zero_point", "quantized"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator's work, the layer it belongs to, and whether it is part of attention.

    Attention is what happens between the projections: products of queries, keys and values,
    softmax or codes. The projections themselves are not.
    """

    kind: str
    layer: str
    attention: bool
    arithmetic: Arithmetic
    operations: Operations


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """Every operator's work, and how many operators of each unknown kind were left out."""

    nodes: tuple[Node, ...]
    unknown: Mapping[str, int]

    def layers(self) -> Mapping[str, tuple[Node, ...]]:
        """Give the operators by their layer, in the graph's order."""
        layers: dict[str, list[Node]] = {}
        for node in self.nodes:
            layers.setdefault(node.layer, []).append(node)
        return {name: tuple(nodes) for name, nodes in layers.items()}


def total(nodes: Iterable[Node]) -> Operations:
    """Sum the work of some operators."""
    return sum((node.operations for node in nodes), start=Operations())


def count(graph: bytes, sizes: Mapping[str, int]) -> Count:
    """Count a serialized model's operations with its free axes at `sizes`.

    Raises InvalidInput when an axis has no size or a wrong one, or the graph cannot run at them.
    """
    model = inliner.inline_local_functions(onnx.load_from_string(graph))
    _check(model, sizes)
    walk = _Walk(model, sizes)
    for node in model.graph.node:
        walk.step(node)
    nodes = tuple(
        Node(
            kind=step.node.op_type,
            layer=layer,
            attention=attention and not step.projects,
            arithmetic=step.arithmetic,
            operations=step.operations,
        )
        for step, (layer, attention) in zip(walk.steps, _placed(walk), strict=True)
    )
    return Count(nodes=nodes, unknown=dict(walk.unknown))


def _check(model: ModelProto, sizes: Mapping[str, int]) -> None:
    axes = {
        axis.dim_param
        for value in model.graph.input
        for axis in value.type.tensor_type.shape.dim
        if axis.dim_param
    }
    free = ", ".join(sorted(axes)) or "none"
    if missing := sorted(axes - sizes.keys()):
        raise InvalidInput(f"{', '.join(missing)} has no size; the graph's free axes are {free}")
    for axis, size in sizes.items():
        if axis not in axes:
            raise InvalidInput(f"the graph has no axis {axis!r}; its free axes are {free}")
        if size < 1:
            raise InvalidInput(f"axis {axis} must be 1 or more; got {size}")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """An operator that costs something, with what decides where it belongs."""

    node: NodeProto
    operations: Operations
    arithmetic: Arithmetic
    weighted: bool  # a product with weights, a look-up or a norm: attention ends there
    mixes: bool  # a product of two activations: what makes attention
    projects: bool = False  # the projections inside of a fused attention


class _Walk:
    """Goes through a graph once, in its order, learning every value and every operator's work."""

    def __init__(self, model: ModelProto, sizes: Mapping[str, int]) -> None:
        self.steps: list[_Step] = []
        self.unknown: Counter[str] = Counter()
        self.values = {tensor.name: constant(tensor) for tensor in model.graph.initializer}
        self.makers: dict[str, NodeProto] = {}
        self.users: dict[str, list[NodeProto]] = {}
        self.active: set[str] = set()  # values behind weights: no masks, no positions
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        for value in model.graph.input:
            kind = value.type.tensor_type
            shape = tuple(sizes.get(axis.dim_param, axis.dim_value) for axis in kind.shape.dim)
            self.values.setdefault(value.name, Value(kind=kind.elem_type, shape=shape))
        for node in model.graph.node:
            for name in filter(None, node.input):
                self.users.setdefault(name, []).append(node)

    def step(self, node: NodeProto) -> None:
        """Learn what the node gives, and what it costs."""
        inputs = self.inputs(node)
        outputs = follow(node, inputs, self.opsets)
        weighted = self.weighted(node)
        active = weighted or any(name in self.active for name in node.input)
        for name, value in zip(node.output, outputs, strict=True):
            self.values[name], self.makers[name] = value, node
            if active:
                self.active.add(name)
        if node.op_type in VIEWS or all(v.constant or v.data is not None for v in outputs):
            return
        met = [outputs[0], *(value for value in inputs if value != ABSENT)]
        done = None if any(value.shape is None for value in met) else work(node, inputs, outputs[0])
        if done is None:
            self.unknown[f"{node.domain}.{node.op_type}".removeprefix(".")] += 1
            return
        mixes = node.op_type in ATTENTIONS or (
            node.op_type in MATRIX_PRODUCTS and self.active.issuperset(node.input[:2])
        )
        step = _Step(
            node=node,
            operations=Operations(
                multiplications=done[0], additions=done[1], moved=self._moved(node, outputs)
            ),
            arithmetic=self._arithmetic(node, (*outputs, *inputs)),
            weighted=weighted,
            mixes=mixes,
        )
        if node.op_type == "Attention" and node.domain == "com.microsoft":
            self.steps.append(_projection(step, inputs))
        self.steps.append(step)

    def inputs(self, node: NodeProto) -> list[Value]:
        """Give what is known of a node's inputs."""
        return [self.values.get(name, ABSENT) for name in node.input]

    def weighted(self, node: NodeProto) -> bool:
        """Tell what parts layers: products with weights, their biases, look-ups and norms."""
        kind, inputs = node.op_type, self.inputs(node)
        if kind in CONVOLUTIONS | NORMS | {"ConvTranspose", "Gemm", "MatMulNBits"}:
            return True
        if kind.startswith("Gather"):
            return inputs[0].constant and not inputs[1].constant
        if kind in MATRIX_PRODUCTS:
            # Heads share a constant matrix inside of attention, and there tokens have four axes.
            matrix = any(value.constant and len(value.shape or ()) == 2 for value in inputs[:2])
            return matrix and len(inputs[0].shape or ()) <= 3
        if kind == "Add":
            behind = [self.makers[name] for name in node.input if name in self.makers]
            bias = any(value.constant and value.size > 1 for value in inputs)
            return bias and any(self.weighted(maker) for maker in behind)
        return False

    def source(self, name: str) -> str:
        """Give the name under which a value's numbers lie in memory: its codes, if it has some."""
        maker = self.makers.get(name)
        return maker.input[0] if maker and maker.op_type == "DequantizeLinear" else name

    def _moved(self, node: NodeProto, outputs: Sequence[Value]) -> int:
        written = sum(value.bytes for value in outputs)
        if node.op_type in _PARTIAL:
            return 2 * written
        names = [self.source(name) for name in node.input]
        return written + sum(self.values.get(name, ABSENT).bytes for name in names)

    def _arithmetic(self, node: NodeProto, values: Sequence[Value]) -> Arithmetic:
        """Tell what a node computes in; a product of dequantised values runs on their codes."""
        codes = all(self.source(name) != name for name in node.input[:2])
        product = node.op_type in {"Conv", "Gemm", *MATRIX_PRODUCTS}
        rounded = node.op_type == "MatMulNBits" and attribute(node, "accuracy_level", 0) == 4
        if node.op_type in _INTEGERS or (codes and product) or rounded:
            return "int8"
        floats = [value.kind for value in values if value.kind in _FLOATS]
        return "float16" if floats and floats[0] in _HALVES else "float32"


def _projection(step: _Step, inputs: Sequence[Value]) -> _Step:
    """Take apart the projections that com.microsoft's Attention does itself."""
    multiplications, additions = projection(inputs)
    return _Step(
        node=step.node,
        operations=Operations(
            multiplications=multiplications, additions=additions, moved=inputs[1].bytes
        ),
        arithmetic=step.arithmetic,
        weighted=False,
        mixes=True,
        projects=True,
    )


def _placed(walk: _Walk) -> list[tuple[str, bool]]:
    """Give each step's layer, and whether it is attention.

    Between weighted operators, steps that pass on activations hang together. Where such a run
    holds a product of two activations it is attention, named after what its projections share.
    """
    steps, place = walk.steps, {id(step.node): i for i, step in enumerate(walk.steps)}
    layers: list[str] = []
    run: list[set[int]] = []  # for each step, those that it hangs together with
    fed: dict[int, list[str]] = {}
    for i, step in enumerate(steps):
        behind = _behind(step.node, walk, place, before=i)
        inherited = layers[max(behind)] if behind else ""
        layers.append((step.weighted and _named(step.node, walk)) or inherited or INPUTS)
        mine = {i}
        for j in behind if not step.weighted else ():
            if steps[j].weighted:
                fed.setdefault(i, []).append(layers[j])
            elif run[j] is not mine:
                mine |= run[j]
                for k in run[j]:
                    run[k] = mine
        run.append(mine)
        for k in mine - {i}:
            run[k] = mine
    placed = []
    for i, step in enumerate(steps):
        attention = not step.weighted and any(steps[j].mixes for j in run[i])
        feeders = [layer for j in sorted(run[i]) for layer in fed.get(j, ())]
        placed.append((_shared(feeders) if attention else layers[i], attention))
    return placed


def _behind(node: NodeProto, walk: _Walk, place: Mapping[int, int], *, before: int) -> list[int]:
    """Give the earlier steps whose activations reach a node, through views that cost nothing."""
    found, todo = [], [name for name in node.input if name in walk.active]
    while todo:
        maker = walk.makers[todo.pop()]
        at = place.get(id(maker), -1)
        if 0 <= at < before:
            found.append(at)
        elif at < 0:
            todo += [name for name in maker.input if name in walk.active]
    return found


def _named(node: NodeProto, walk: _Walk) -> str:
    """Name a layer by the path of its node, of its weights, or of the bias that is added to it."""
    if "/" in node.name:
        return ".".join(part for part in node.name.split("/")[:-1] if part)
    adds = [user for user in walk.users.get(node.output[0], ()) if user.op_type == "Add"]
    for name in (name for one in (node, *adds) for name in one.input):
        weights = walk.source(name)
        if walk.values.get(weights, ABSENT).constant and (module := _module(weights)):
            return module
    return ""


def _module(name: str) -> str:
    """Give the module in a weight's name: layers.0.query of layers.0.query.weight; "" of none."""
    parts = name.split(".")
    end = next((i for i, part in enumerate(parts) if part in _LEAVES), len(parts) - 1)
    return "" if _ANONYMOUS.fullmatch(parts[0]) else ".".join(parts[:end])


def _shared(layers: Sequence[str]) -> str:
    """Give the path that layers begin with together."""
    shared: list[str] = []
    for column in zip(*(layer.split(".") for layer in layers), strict=False):
        if len(set(column)) > 1:
            break
        shared.append(column[0])
    return ".".join(shared) or "attention"
