"""Count a graph's operations, layer by layer, from its shapes alone: nothing runs.

What depends on constants or shapes alone costs nothing: it is worked out once. All items have the
same length, so there is no padding to leave out. Bytes are those that would move if nothing stayed
in a cache: each operator reads its inputs and writes its outputs, and a view moves nothing.

The counts are written here because no library counts binarized attention, whose products with
codes of -1 and 1 are additions.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import onnx
from onnx import ModelProto, NodeProto, TensorProto, inliner

from attar.errors import InvalidInput

from ..onnx_graph import Graph, attribute
from .operations import ATTENTIONS, CONVOLUTIONS, NORMS, Operations, projection, work
from .shapes import ABSENT, MATRIX_PRODUCTS, VIEWS, Value, constant, follow

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
    walk = _Walk(Graph(model), sizes)
    for node in walk.graph.nodes:
        walk.step(node)
    nodes = tuple(
        Node(
            kind=step.node.op_type,
            layer=layer,
            attention=attention and not step.projects,
            arithmetic=step.arithmetic,
            operations=step.operations,
        )
        for step, (layer, attention) in zip(walk.steps, _assign_layers(walk), strict=True)
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
    """Goes through a graph once, in its order, and collects its values and its operators' work."""

    def __init__(self, graph: Graph, sizes: Mapping[str, int]) -> None:
        model = graph.model
        self.graph = graph
        self.steps: list[_Step] = []
        self.unknown: Counter[str] = Counter()
        self.values = {tensor.name: constant(tensor) for tensor in model.graph.initializer}
        self.active: set[str] = set()  # values behind weights: no masks, no positions
        self.opsets = {opset.domain: opset.version for opset in model.opset_import}
        for value in model.graph.input:
            kind = value.type.tensor_type
            shape = tuple(sizes.get(axis.dim_param, axis.dim_value) for axis in kind.shape.dim)
            self.values.setdefault(value.name, Value(kind=kind.elem_type, shape=shape))

    def step(self, node: NodeProto) -> None:
        """Add the node's outputs to the values, and its work to the steps."""
        inputs = self.inputs(node)
        outputs = follow(node, inputs, self.opsets)
        weighted = self.weighted(node)
        active = weighted or any(name in self.active for name in node.input)
        for name, value in zip(node.output, outputs, strict=True):
            self.values[name] = value
            if active:
                self.active.add(name)
        if node.op_type in VIEWS or all(v.constant or v.data is not None for v in outputs):
            return
        operands = [outputs[0], *(value for value in inputs if value != ABSENT)]
        known = all(value.shape is not None for value in operands)
        cost = work(node, inputs, outputs[0]) if known else None
        if cost is None:
            self.unknown[f"{node.domain}.{node.op_type}".removeprefix(".")] += 1
            return
        mixes = node.op_type in ATTENTIONS or (
            node.op_type in MATRIX_PRODUCTS and self.active.issuperset(node.input[:2])
        )
        step = _Step(
            node=node,
            operations=Operations(
                multiplications=cost[0], additions=cost[1], moved=self._moved(node, outputs)
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
        """Whether a node begins a layer: products with weights, their biases, look-ups, norms."""
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
            producers = [self.graph.producers.get(name) for name in node.input]
            bias = any(value.constant and value.size > 1 for value in inputs)
            return bias and any(node is not None and self.weighted(node) for node in producers)
        return False

    def source(self, name: str) -> str:
        """Give the name under which a value's numbers lie in memory: its codes, if it has some."""
        dequantized = self.graph.producer(name, "DequantizeLinear")
        return dequantized.input[0] if dequantized else name

    def _moved(self, node: NodeProto, outputs: Sequence[Value]) -> int:
        written = sum(value.bytes for value in outputs)
        if node.op_type in _PARTIAL:
            return 2 * written
        names = [self.source(name) for name in node.input]
        return written + sum(self.values.get(name, ABSENT).bytes for name in names)

    def _arithmetic(self, node: NodeProto, values: Sequence[Value]) -> Arithmetic:
        """Give what a node computes in; a product of dequantised values runs on their codes."""
        codes = all(self.source(name) != name for name in node.input[:2])
        product = node.op_type in {"Conv", "Gemm", *MATRIX_PRODUCTS}
        rounded = node.op_type == "MatMulNBits" and attribute(node, "accuracy_level", 0) == 4
        if node.op_type in _INTEGERS or (codes and product) or rounded:
            return "int8"
        floats = [value.kind for value in values if value.kind in _FLOATS]
        return "float16" if floats and floats[0] in _HALVES else "float32"


def _projection(step: _Step, inputs: Sequence[Value]) -> _Step:
    """Give the projections inside of com.microsoft's Attention as a step of their own."""
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


def _assign_layers(walk: _Walk) -> list[tuple[str, bool]]:
    """Give each step's layer, and whether it is attention.

    Steps without weights that pass activations to each other form a group. A group with a product
    of two activations is attention, named after what its projections share.
    """
    steps = walk.steps
    layers: list[str] = []
    groups: list[set[int]] = []  # for each step, the steps of its group
    projections: dict[int, list[str]] = {}  # for each step, the layers it reads from
    index = {id(step.node): i for i, step in enumerate(steps)}
    for i, step in enumerate(steps):
        earlier = _earlier(step.node, walk, index, before=i)
        inherited = layers[max(earlier)] if earlier else ""
        layers.append((step.weighted and _layer_name(step.node, walk)) or inherited or INPUTS)
        group = {i}
        for j in earlier if not step.weighted else ():
            if steps[j].weighted:
                projections.setdefault(i, []).append(layers[j])
            else:
                group |= groups[j]
        groups.append(group)
        for k in group:
            groups[k] = group
    assigned = []
    for i, step in enumerate(steps):
        attention = not step.weighted and any(steps[j].mixes for j in groups[i])
        read = [layer for j in sorted(groups[i]) for layer in projections.get(j, ())]
        assigned.append((_shared(read) if attention else layers[i], attention))
    return assigned


def _earlier(node: NodeProto, walk: _Walk, index: Mapping[int, int], *, before: int) -> list[int]:
    """Give the earlier steps whose activations reach a node, through views that cost nothing."""
    steps, todo = [], [name for name in node.input if name in walk.active]
    while todo:
        producer = walk.graph.producers[todo.pop()]
        step = index.get(id(producer), -1)
        if 0 <= step < before:
            steps.append(step)
        elif step < 0:
            todo += [name for name in producer.input if name in walk.active]
    return steps


def _layer_name(node: NodeProto, walk: _Walk) -> str:
    """Name a layer by the path of its node, of its weights, or of the bias that is added to it."""
    if "/" in node.name:
        return ".".join(part for part in node.name.split("/")[:-1] if part)
    consumers = walk.graph.consumers.get(node.output[0], ())
    sums = [consumer for consumer in consumers if consumer.op_type == "Add"]
    for name in (name for reader in (node, *sums) for name in reader.input):
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
