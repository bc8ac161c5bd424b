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

from collections import defaultdict
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

STEPS = 127


def symmetric(graph: bytes) -> bytes:
    """Give an int8 graph whose codes are symmetric; a graph without others is given back."""
    model = onnx.load_from_string(graph)
    rewriter = _Rewriter(model)
    nodes = [made for node in model.graph.node for made in rewriter.node(node)]
    if not rewriter.made:
        return graph
    used = {name for node in nodes for name in node.input} | {o.name for o in model.graph.output}
    nodes = [node for node in nodes if any(name in used for name in node.output)]
    used = {name for node in nodes for name in node.input}
    constants = [*model.graph.initializer, *rewriter.made.values()]
    kept = [tensor for tensor in constants if tensor.name in used]
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(kept)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


class _Rewriter:
    """Turns nodes one by one, in the graph's order."""

    def __init__(self, model: ModelProto) -> None:
        self._constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._maker = {name: node for node in model.graph.node for name in node.output}
        self._readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.input:
                self._readers[name].append(node)
        self._codes: dict[str, list[str]] = {}  # of a quantised value: its new scale and zero
        self._centres: dict[str, float] = {}  # of a value that is given less its centre
        self.made: dict[str, TensorProto] = {}

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
        scale, zero = (self._constants.get(name) for name in affine)
        if scale is None or zero is None or zero.dtype != np.uint8 or zero.ndim:
            return [node]
        code = node.output[0]
        readers = self._readers[code]
        if any(reader.op_type != "DequantizeLinear" for reader in readers):
            return [node]  # who reads the codes themselves knows them with their zero point
        nought = self._constant(f"{code}.symmetric.zero", np.int8(0))
        if not all(self._enters_products(d.output[0]) for d in readers):
            reach = np.float32(max(int(zero), 255 - int(zero)) * float(scale) / STEPS)
            self._codes[code] = [self._constant(f"{code}.symmetric.scale", reach), nought]
            return [_changed(node, [value, *self._codes[code]])]
        self._codes[code] = [affine[0], nought]
        centre = float(scale) * (128 - int(zero))
        self._centres.update({d.output[0]: centre for d in readers})
        centred = f"{code}.centred"
        middle = self._constant(f"{code}.centre", np.float32(centre))
        return [
            helper.make_node("Sub", [value, middle], [centred]),
            _changed(node, [centred, *self._codes[code]]),
        ]

    def _enters_products(self, value: str) -> bool:
        """Say whether all that reads a value multiplies it, from the left, by a constant matrix."""
        return all(
            node.op_type == "MatMul"
            and node.input[0] == value
            and (weight := self._maker.get(node.input[1])) is not None
            and weight.op_type == "DequantizeLinear"
            and weight.input[0] in self._constants
            and self._constants[weight.input[0]].ndim == 2
            for node in self._readers[value]
        )

    def _product(self, node: NodeProto) -> list[NodeProto]:
        """Multiply what is less its centre, and add the centre's own product: (n,)."""
        out, weight = node.output[0], self._maker[node.input[1]]
        matrix = self._float(weight)
        row = (self._centres[node.input[0]] * matrix.sum(axis=0, dtype=np.float64)).astype(
            np.float32
        )
        return [
            _changed(node, list(node.input), output=f"{out}.of.centred"),
            helper.make_node(
                "Add", [f"{out}.of.centred", self._constant(f"{out}.of.centre", row)], [out]
            ),
        ]

    def _dequantise(self, node: NodeProto) -> list[NodeProto]:
        codes = node.input[0]
        if codes in self._codes:
            return [_changed(node, [codes, *self._codes[codes]])]
        look = self._maker.get(codes)
        if look is not None and look.op_type == "Gather" and look.input[0] in self._constants:
            # A column has one scale, whichever row is looked up.
            table = self._constant(
                f"{look.input[0]}.float",
                self._float(_changed(node, [look.input[0], *node.input[1:]])),
            )
            return [_changed(look, [table, look.input[1]], output=node.output[0])]
        if codes in self._constants and self._constants[codes].dtype != np.int8:
            value = self._constant(f"{codes}.float", self._float(node))
            return [helper.make_node("Identity", [value], [node.output[0]], name=node.name)]
        return [node]

    def _float(self, node: NodeProto) -> NDArray[np.float32]:
        """Give the float32 that a DequantizeLinear of constants stands for."""
        codes, scale, *zeros = (self._constants[name] for name in node.input)
        shape = [1] * codes.ndim
        if scale.ndim:
            shape[next((a.i for a in node.attribute if a.name == "axis"), 1)] = -1
        zero = zeros[0].reshape(shape).astype(np.float32) if zeros else np.float32(0)
        value: NDArray[np.float32] = (codes.astype(np.float32) - zero) * scale.reshape(shape)
        return value

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self.made[name] = numpy_helper.from_array(np.asarray(value), name)
        return name


def _changed(node: NodeProto, inputs: list[str], *, output: str | None = None) -> NodeProto:
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = inputs
    if output is not None:
        copy.output[:] = [output]
    return copy
