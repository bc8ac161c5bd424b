"""An ONNX graph and its index: its constants, and which nodes produce and consume each value.

The passes, the targets and the count of operations share it. `Graph` looks things up, `attribute`
and `changed` read and copy a node, `live` and `rewrite` make the new graph.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, ValueInfoProto, helper, numpy_helper

Constants = Mapping[str, NDArray[Any]]
"""Arrays by the name of their value: weights, and numbers that a graph is written with."""


class Graph:
    """A model's graph: its nodes in order, and an index of its values by name."""

    def __init__(self, model: ModelProto) -> None:
        """Index a model, which must not change afterwards."""
        self.model = model
        self.inputs = frozenset(value.name for value in model.graph.input)
        self.outputs = frozenset(value.name for value in model.graph.output)
        self.nodes: Sequence[NodeProto] = tuple(model.graph.node)
        self._index()

    @classmethod
    def read(cls, graph: bytes) -> Self:
        """Index a serialized model."""
        return cls(onnx.load_from_string(graph))

    @cached_property
    def constants(self) -> dict[str, NDArray[Any]]:
        """The initialisers, by name."""
        return {
            tensor.name: numpy_helper.to_array(tensor) for tensor in self.model.graph.initializer
        }

    @cached_property
    def values(self) -> dict[str, ValueInfoProto]:
        """What the model states of its inputs, outputs and the values between, by name."""
        graph = self.model.graph
        return {value.name: value for value in (*graph.input, *graph.value_info, *graph.output)}

    def element_type(self, name: str) -> int:
        """Give a value's type in onnx.TensorProto; UNDEFINED where the model states none."""
        value = self.values.get(name)
        return 0 if value is None else value.type.tensor_type.elem_type

    def shape(self, name: str) -> tuple[int | str, ...]:
        """Give a value's axes, the free ones by name; none where the model states none."""
        value = self.values.get(name)
        if value is None:
            return ()
        return tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)

    def producer(self, name: str, kind: str) -> NodeProto | None:
        """Give the node that a value comes from, if it is of this kind."""
        node = self.producers.get(name)
        return node if node is not None and node.op_type == kind else None

    def only_consumer(self, name: str) -> NodeProto | None:
        """Give the only node that reads a value; None of several, and of a graph's output."""
        consumers = self.consumers.get(name, [])
        return consumers[0] if len(consumers) == 1 and name not in self.outputs else None

    def substitute(self, nodes: Sequence[NodeProto]) -> None:
        """Take other nodes in the place of all, and index them."""
        self.nodes = nodes
        self._index()

    def _index(self) -> None:
        self.producers = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[NodeProto]] = {}
        for node in self.nodes:
            for name in filter(None, node.input):
                self.consumers.setdefault(name, []).append(node)


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    """Give a node's attribute, or the default that its operator has."""
    values = (helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(values, default)


def changed(
    node: NodeProto, *, inputs: Sequence[str] | None = None, outputs: Sequence[str] | None = None
) -> NodeProto:
    """Copy a node, with other inputs or outputs."""
    copy = NodeProto()
    copy.CopyFrom(node)
    if inputs is not None:
        copy.input[:] = inputs
    if outputs is not None:
        copy.output[:] = outputs
    return copy


def live(
    nodes: Sequence[NodeProto],
    outputs: Iterable[str],
    replacements: Mapping[str, NodeProto] | None = None,
) -> list[NodeProto]:
    """Give the nodes that the graph's `outputs` depend on, in order.

    Each of the `replacements` takes the place of the node whose first output is its key.
    """
    replacements = replacements or {}
    needed, kept = set(outputs), list[NodeProto]()
    for node in reversed(nodes):
        if needed.intersection(node.output):
            new = replacements.get(node.output[0], node)
            needed.update(new.input)
            kept.append(new)
    return kept[::-1]


def stated(model: ModelProto, nodes: Sequence[NodeProto]) -> list[ValueInfoProto]:
    """Give what a model states of the values that these nodes produce."""
    produced = {name for node in nodes for name in node.output}
    return [value for value in model.graph.value_info if value.name in produced]


def rewrite(
    model: ModelProto,
    nodes: Sequence[NodeProto],
    constants: Constants | None = None,
    *,
    values: Iterable[ValueInfoProto] | None = None,
    domain: str = "",
) -> bytes:
    """Serialize `model` with these nodes in place of its own, always to the same bytes.

    Of its initialisers and of the new `constants`, which replace initialisers of the same name,
    those stay that a node reads. `values` are what the new model states of its values; without
    them, what `model` states. `domain` is that of the new operators. Raises
    onnx.checker.ValidationError where the result is no valid model.
    """
    constants = constants or {}
    consumed = {name for node in nodes for name in node.input}
    written = ModelProto()
    written.CopyFrom(model)
    graph = written.graph
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(
        tensor
        for tensor in model.graph.initializer
        if tensor.name in consumed and tensor.name not in constants
    )
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), name)
        for name, value in constants.items()
        if name in consumed
    )
    if values is not None:
        del graph.value_info[:]
        graph.value_info.extend(values)
    if domain and all(opset.domain != domain for opset in written.opset_import):
        written.opset_import.append(helper.make_opsetid(domain, 1))
    onnx.checker.check_model(written)
    serialized: bytes = written.SerializeToString(deterministic=True)
    return serialized


def node_counts(graph: bytes) -> dict[str, int]:
    """Count a graph's nodes by operator, the most frequent first."""
    nodes = onnx.load_from_string(graph).graph.node
    return dict(Counter(node.op_type for node in nodes).most_common())
