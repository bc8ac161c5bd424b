"""int8 around zero, as TensorRT takes it, from int8 as a CPU likes it, with the same numbers.

`quantize_int8` gives activations uint8 codes q with a zero point z: x = s (q - z).  TensorRT knows
only int8 with zero in the middle.  With the interval's centre m = s (128 - z) taken off first,
x - m = s (q - 128) is just that, in the same steps, and a product gets its share back as a constant
row: x W = (x - m) W + m 1 W.  Nothing is lost.  A convolution pads with zeros, which a centre would
turn into something else; what enters one gets the interval [-r, r] instead, r the larger end, which
after a ReLU costs one bit of eight.

TensorRT also keeps neither a table nor a bias in integers; these go back to the float32 that they
stand for, which changes no number either.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from ...onnx_graph import Graph, attribute, changed, live, rewrite

STEPS = 127


def symmetric(graph: bytes) -> bytes:
    """Give an int8 graph whose codes are symmetric; a graph without others is given back."""
    indexed = Graph.read(graph)
    rewriter = _Rewriter(indexed)
    nodes = [written for node in indexed.nodes for written in rewriter.node(node)]
    if not rewriter.constants:
        return graph
    return rewrite(indexed.model, live(nodes, indexed.outputs), rewriter.constants)


class _Rewriter:
    """Rewrites nodes in the graph's order."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._codes: dict[str, list[str]] = {}  # of a quantised value: its new scale and zero
        self._centres: dict[str, float] = {}  # of a value that is given less its centre
        self.constants: dict[str, NDArray[Any]] = {}  # new ones

    def node(self, node: NodeProto) -> list[NodeProto]:
        """Give what stands in place of a node."""
        if node.op_type == "QuantizeLinear":
            return self._quantise(node)
        if node.op_type == "DequantizeLinear":
            return self._dequantise(node)
        if node.op_type == "MatMul" and node.input[0] in self._centres:
            return self._product(node)
        return [node]

    def _quantise(self, node: NodeProto) -> list[NodeProto]:
        value, *affine = node.input
        scale, zero = (self._graph.constants.get(name) for name in affine)
        if scale is None or zero is None or zero.dtype != np.uint8 or zero.ndim:
            return [node]
        code = node.output[0]
        readers = self._graph.consumers.get(code, [])
        if any(reader.op_type != "DequantizeLinear" for reader in readers):
            return [node]  # its readers expect codes with this zero point
        symmetric_zero = self._constant(f"{code}.symmetric.zero", np.int8(0))
        if not all(self._enters_products(d.output[0]) for d in readers):
            reach = np.float32(max(int(zero), 255 - int(zero)) * float(scale) / STEPS)
            self._codes[code] = [self._constant(f"{code}.symmetric.scale", reach), symmetric_zero]
            return [changed(node, inputs=[value, *self._codes[code]])]
        self._codes[code] = [affine[0], symmetric_zero]
        centre = float(scale) * (128 - int(zero))
        self._centres.update({d.output[0]: centre for d in readers})
        centred = f"{code}.centred"
        middle = self._constant(f"{code}.centre", np.float32(centre))
        return [
            helper.make_node("Sub", [value, middle], [centred]),
            changed(node, inputs=[centred, *self._codes[code]]),
        ]

    def _enters_products(self, value: str) -> bool:
        """Whether every reader of a value multiplies it, from the left, by a constant matrix."""
        return all(
            node.op_type == "MatMul"
            and node.input[0] == value
            and (weight := self._graph.producers.get(node.input[1])) is not None
            and weight.op_type == "DequantizeLinear"
            and weight.input[0] in self._graph.constants
            and self._graph.constants[weight.input[0]].ndim == 2
            for node in self._graph.consumers.get(value, ())
        )

    def _product(self, node: NodeProto) -> list[NodeProto]:
        """Multiply the value less its centre, and add the centre's own product: (n,)."""
        out, weight = node.output[0], self._graph.producers[node.input[1]]
        matrix = self._float(weight)
        row = (self._centres[node.input[0]] * matrix.sum(axis=0, dtype=np.float64)).astype(
            np.float32
        )
        return [
            changed(node, outputs=[f"{out}.of.centred"]),
            helper.make_node(
                "Add", [f"{out}.of.centred", self._constant(f"{out}.of.centre", row)], [out]
            ),
        ]

    def _dequantise(self, node: NodeProto) -> list[NodeProto]:
        codes = node.input[0]
        if codes in self._codes:
            return [changed(node, inputs=[codes, *self._codes[codes]])]
        look = self._graph.producer(codes, "Gather")
        if look is not None and look.input[0] in self._graph.constants:
            # A column has one scale, whichever row is looked up.
            table = self._constant(
                f"{look.input[0]}.float",
                self._float(changed(node, inputs=[look.input[0], *node.input[1:]])),
            )
            return [changed(look, inputs=[table, look.input[1]], outputs=node.output)]
        if codes in self._graph.constants and self._graph.constants[codes].dtype != np.int8:
            value = self._constant(f"{codes}.float", self._float(node))
            return [helper.make_node("Identity", [value], [node.output[0]], name=node.name)]
        return [node]

    def _float(self, node: NodeProto) -> NDArray[np.float32]:
        """Give the float32 that a DequantizeLinear of constants stands for."""
        codes, scale, *zeros = (self._graph.constants[name] for name in node.input)
        shape = [1] * codes.ndim
        if scale.ndim:
            shape[attribute(node, "axis", 1)] = -1
        zero = zeros[0].reshape(shape).astype(np.float32) if zeros else np.float32(0)
        value: NDArray[np.float32] = (codes.astype(np.float32) - zero) * scale.reshape(shape)
        return value

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self.constants[name] = np.asarray(value)
        return name
