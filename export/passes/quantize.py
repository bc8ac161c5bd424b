"""int8 by static calibration: the same numbers on every CPU, whatever else is in the batch.

Weights of matrix products and convolutions become int8 with one scale an output channel, the
activations that enter them uint8 with one scale fixed by calibration, in standard
QuantizeLinear/DequantizeLinear pairs that ONNX Runtime fuses into integer kernels. A convolution's
output is quantised too, after its ReLU, since the integer kernel gives integers. Two choices keep
an item's numbers its own. Scales are fixed rather than taken from the running batch, so an item
does not depend on its batch-mates. Weights use 7 of 8 bits: CPUs without VNNI add two uint8 x int8
products in 16 bits, which then cannot saturate. A token table is stored in int8 and widened after
the look-up: with one scale a column below layers, and with one a row where it is the whole encoder.

Some layers lose too much. `quantize_within` quantises all where that holds the gate, and otherwise
leaves in float the few layers whose quantisation alone moves the embeddings furthest.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from attar.errors import InvalidInput

from ..calibration import Feed, first_rows, is_product, observe, run, run_tokens
from ..gates import Gate
from ..measure import cosine
from ..onnx_graph import Constants, Graph, attribute, changed, rewrite
from .smoothquant import smooth

WEIGHT_STEPS = 63  # 7 bits: 2 * 255 * 63 < 2**15
TABLE_STEPS = 127  # a look-up multiplies nothing, so all 8 bits are safe
RANKING_ROWS = 32  # on which one layer's damage is measured, many times over

Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """An int8 graph, how many layers it has in int8, and what was left in float.

    `float_layers` gives the damage of each layer left in float: the share of the gate's allowance
    that was used when only that layer was quantised.
    """

    graph: bytes
    layers: int
    float_layers: Mapping[str, float]

    @property
    def notes(self) -> dict[str, object]:
        """What a bundle's report says of it."""
        return {"int8_layers": self.layers, "float_layers": dict(self.float_layers)}


def quantize_within(
    graph: bytes, calibration: Sequence[Feed], judged: Sequence[Feed], gate: Gate
) -> Quantised:
    """Quantise as many layers as hold the parity `gate` on the `judged` feeds.

    The graph gives the embeddings and perhaps token vectors, each of which is held to the gate.
    `judged` should be other data than `calibration`, which its ranges fit best. Where all layers
    together hold the gate, nothing is searched. Otherwise each is quantised alone, and the fewest
    of the most damaging are left in float. Where no number of them is enough, every layer is
    quantised, and the gate will refuse the graph by its figures. Raises InvalidInput as
    `quantize_int8` does.
    """
    network = _Network.read(graph, calibration)
    every = network.layers
    names = [value.name for value in network.graph.model.graph.output]
    exact = _outputs(graph, judged, names)

    def spent(feeds: Sequence[Feed], float_layers: Collection[str]) -> float:
        given = _outputs(network.quantised(float_layers), feeds, names)
        losses = [_losses(few, all_) for few, all_ in zip(given, exact, strict=True)]
        mean, worst = 1 - gate.cosine_mean, 1 - gate.cosine_worst
        return float(max(max(each.mean() / mean, each.max() / worst) for each in losses))

    if spent(judged, ()) <= 1:
        return Quantised(graph=network.quantised(()), layers=len(every), float_layers={})
    few = list(first_rows(judged, RANKING_ROWS))
    damage = {layer: spent(few, every - {layer}) for layer in sorted(every)}
    worst = sorted(damage, key=lambda layer: damage[layer], reverse=True)
    fewest = _bisect(1, len(worst), lambda count: spent(judged, worst[:count]) <= 1)
    float_layers = worst[:fewest] if fewest < len(worst) else []
    return Quantised(
        graph=network.quantised(float_layers),
        layers=len(every) - len(float_layers),
        float_layers={network.layer_name(layer): round(damage[layer], 4) for layer in float_layers},
    )


def _outputs(
    graph: bytes, feeds: Sequence[Feed], names: Sequence[str]
) -> list[NDArray[np.float32]]:
    """Give a graph's embeddings, and the token vectors, if it has them, of the first rows."""
    few = list(first_rows(feeds, RANKING_ROWS))
    return [run(graph, feeds), *(run_tokens(graph, few, name) for name in names[1:])]


def _losses(vectors: NDArray[np.float32], exact: NDArray[np.float32]) -> NDArray[np.float64]:
    """Give one less the cosine for the vectors that have a direction, of the first of `exact`."""
    exact = exact[: len(vectors)]
    directed = exact.any(axis=1)
    losses: NDArray[np.float64] = 1 - cosine(vectors[directed], exact[directed])
    return losses


def quantize_int8(graph: bytes, calibration: Sequence[Feed]) -> bytes:
    """Quantise a float32 graph's products, convolutions and token tables, all of them.

    A feed with an `attention_mask` calibrates on its real tokens only. Raises InvalidInput when
    there is nothing to calibrate on or nothing to quantise.
    """
    return _Network.read(graph, calibration).quantised(())


def quantize_columns(
    weight: NDArray[np.float32], *, steps: int
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round a matrix (k, n) to codes within +-`steps` and a scale for each column (n,).

    What is lost is at most half a scale: |weight - codes * scale| <= scale / 2.
    """
    least = np.finfo(np.float32).tiny  # below it float32 has too few digits to divide by
    scale = np.maximum(np.abs(weight).max(axis=0) / steps, least).astype(np.float32)
    return np.round(weight / scale).astype(np.int8), scale


def _bisect(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Give the smallest number from `low` on that holds; `high` if none below it does."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def _is_convolution(node: NodeProto, weights: Constants) -> bool:
    kernel = weights.get(node.input[1]) if node.op_type == "Conv" else None
    if kernel is None or kernel.dtype != np.float32:
        return False
    return len(node.input) < 3 or not node.input[2] or node.input[2] in weights


def _is_table(node: NodeProto, weights: Constants) -> bool:
    table = weights.get(node.input[0]) if node.op_type == "Gather" else None
    return table is not None and table.ndim == 2 and table.dtype == np.float32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Network:
    """A float32 graph, and the calibrated range of every value to be quantised.

    `layers` are named by their outputs, and `tables` are those that look rows up. `closing` gives
    for each convolution's output the value that is quantised in its place: that after its only
    consumer, if this is a ReLU or a clip.
    """

    graph: Graph
    layers: frozenset[str]
    tables: frozenset[str]
    closing: Mapping[str, str]
    ranges: Ranges
    means: Mapping[str, NDArray[np.float64]]  # of the channels of what enters a convolution

    @staticmethod
    def read(graph: bytes, calibration: Sequence[Feed]) -> "_Network":
        """Find the layers that can be quantised, and calibrate them."""
        network = Graph.read(smooth(graph, calibration))
        nodes, weights = network.nodes, network.constants
        products = [n for n in nodes if is_product(n, weights)]
        closing = _closing(network, [n for n in nodes if _is_convolution(n, weights)])
        convolutions = [n for n in nodes if n.output[0] in closing]
        tables = [n for n in nodes if _is_table(n, weights)]
        if not products and not convolutions and not tables:
            raise InvalidInput(
                "the graph has no product with a constant matrix, no convolution and no table, so "
                "int8 would change nothing; leave it out"
            )
        entering = {node.input[0] for node in (*products, *convolutions)}
        ranges, means = _calibrate(
            network,
            sorted(entering | set(closing.values())),
            {node.input[0] for node in convolutions},
            calibration,
        )
        return _Network(
            graph=network,
            layers=frozenset(node.output[0] for node in (*products, *convolutions, *tables)),
            tables=frozenset(node.output[0] for node in tables),
            closing=closing,
            ranges=ranges,
            means=means,
        )

    def layer_name(self, layer: str) -> str:
        """Name a layer by its weights or, since a product's may have lost theirs, by its bias."""
        for node in self.graph.nodes:
            added = layer in node.input and node.op_type == "Add"
            if added or layer in node.output:
                for name in node.input:
                    if name in self.graph.constants and name.endswith((".weight", ".bias")):
                        return name.rpartition(".")[0]
        return layer

    def quantised(self, float_layers: Collection[str]) -> bytes:
        """Give the graph with every layer in int8 but those `float_layers`."""
        rewriter = _Rewriter(self.graph.constants, self.ranges, self.means)
        integers = self.layers - set(float_layers)
        coded = {value for out, value in self.closing.items() if out in integers}
        nodes: list[NodeProto] = []
        for original in self.graph.nodes:
            node = rewriter.renamed(original)
            if original.output[0] not in integers:
                nodes.append(node)
            elif node.op_type == "Gather":
                nodes += rewriter.rows(node) if self.layers == self.tables else rewriter.table(node)
            elif node.op_type == "Conv":
                nodes += rewriter.convolution(node, original.input[0])
            else:
                nodes += rewriter.product(node, original.input[0])
            nodes += [new for out in node.output if out in coded for new in rewriter.code(out)]
        return rewrite(self.graph.model, nodes, rewriter.constants)


def _closing(graph: Graph, convolutions: Sequence[NodeProto]) -> dict[str, str]:
    """Give the value to quantise after each convolution whose output the graph does not give."""
    closing = {}
    for node in convolutions:
        (out,) = node.output
        consumer = graph.only_consumer(out)
        clipped = consumer is not None and consumer.op_type in ("Relu", "Clip")
        value = consumer.output[0] if consumer is not None and clipped else out
        if value not in graph.outputs:
            closing[out] = value
    return closing


def _calibrate(
    graph: Graph, names: Sequence[str], averaged: Collection[str], calibration: Sequence[Feed]
) -> tuple[dict[str, tuple[float, float]], dict[str, NDArray[np.float64]]]:
    """Give values' ranges over the feeds, zero included, and the means of some values' channels."""
    low, high = dict.fromkeys(names, 0.0), dict.fromkeys(names, 0.0)
    sums: dict[str, NDArray[np.float64]] = {}
    rows = dict.fromkeys(averaged, 0)
    if not names:  # tables alone: a look-up has no range
        return {}, {}
    for name, value in observe(graph.model, names, calibration):
        low[name] = min(low[name], float(value.min()))
        high[name] = max(high[name], float(value.max()))
        if name in averaged:
            rows[name] += len(value)
            channels = value.reshape(*value.shape[:2], -1).mean(axis=2, dtype=np.float64)
            sums[name] = sums.get(name, 0.0) + channels.sum(axis=0)
    means = {name: sums[name] / rows[name] for name in averaged}
    return {name: (low[name], high[name]) for name in names}, means


def _per_channel(scale: NDArray[np.float32], axes: int) -> NDArray[np.float32]:
    return scale.reshape(-1, *(1,) * (axes - 1))


def _response(kernel: NDArray[np.floating[Any]], means: NDArray[np.float64]) -> NDArray[np.float64]:
    """Give the output channels of a kernel (out, in / groups, ...) for constant channels (in,)."""
    summed = kernel.reshape(*kernel.shape[:2], -1).sum(axis=2, dtype=np.float64)
    groups = len(means) // summed.shape[1]
    operands = summed.reshape(groups, -1, summed.shape[1]), means.reshape(groups, -1)
    response: NDArray[np.float64] = np.einsum("goi,gi->go", *operands).reshape(-1)
    return response


class _Rewriter:
    """Turns nodes into their quantised form and collects the constants they need."""

    def __init__(
        self, weights: Constants, ranges: Ranges, means: Mapping[str, NDArray[np.float64]]
    ) -> None:
        self._weights = weights
        self._ranges = ranges
        self._means = means
        self._coded: dict[str, str] = {}
        self.constants: dict[str, NDArray[Any]] = {}

    def renamed(self, node: NodeProto) -> NodeProto:
        """Give a node that reads the rounded values in place of those that are coded."""
        return changed(node, inputs=[self._coded.get(name, name) for name in node.input])

    def code(self, name: str) -> list[NodeProto]:
        """Put DQ(Q(value)) in place of a value, for all nodes that follow."""
        nodes, code = self._quantised(name)
        self._coded[name] = f"{name}.rounded"
        return [*nodes, helper.make_node("DequantizeLinear", code, [self._coded[name]])]

    def product(self, node: NodeProto, x: str) -> list[NodeProto]:
        """Turn x @ W into DQ(Q(x)) @ DQ(W8); x is quantised once however many it enters."""
        out = node.output[0]
        nodes, code = self._quantised(x)
        turned = bool(attribute(node, "transB", 0))
        biased = node.op_type == "Gemm" and len(node.input) > 2
        raw = f"{out}.raw" if biased else out
        matrix = self._weight(node.input[1], steps=WEIGHT_STEPS, turned=turned)
        nodes += [
            helper.make_node("DequantizeLinear", code, [f"{out}.x"]),
            helper.make_node("DequantizeLinear", matrix, [f"{out}.w"], axis=1),
            helper.make_node("MatMul", [f"{out}.x", f"{out}.w"], [raw], name=node.name),
        ]
        if biased:
            nodes.append(helper.make_node("Add", [raw, node.input[2]], [out]))
        return nodes

    def convolution(self, node: NodeProto, x: str) -> list[NodeProto]:
        """Convolve DQ(Q(x)) with DQ(W8), the bias being in units of their product.

        What rounding the weights adds to a channel on average is taken off its bias (Nagel et al.
        2019, arXiv:1906.04721, section 4.2): errors of one sign add up in a depthwise kernel.
        """
        out = node.output[0]
        nodes, code = self._quantised(x)
        entering = float(self.constants[code[1]])
        kernel = self._weights[node.input[1]]
        bias = np.zeros(len(kernel))
        if len(node.input) > 2 and node.input[2]:
            bias = self._weights[node.input[2]].astype(np.float64)
        rows = kernel.reshape(len(kernel), -1).T  # (k, channels)
        _, scale = quantize_columns(rows, steps=WEIGHT_STEPS)
        # A channel whose weights all but vanish still has a bias, which has to fit in 32 bits.
        scale = np.maximum(scale, np.abs(bias) / (entering * 2.0**30)).astype(np.float32)
        codes = np.round(rows / scale).astype(np.int8).T.reshape(kernel.shape)
        added = codes * _per_channel(scale, kernel.ndim) - kernel
        bias -= _response(added, self._means[x])
        product = (entering * scale).astype(np.float32)
        parts: dict[str, tuple[NDArray[Any], NDArray[np.float32]]] = {
            "w": (np.ascontiguousarray(codes), scale),
            "b": (np.round(bias / product).astype(np.int32), product),
        }
        for part, (values, step) in parts.items():
            affine = [
                self._constant(f"{out}.{part}.codes", values),
                self._constant(f"{out}.{part}.scale", step),
                self._constant(f"{out}.{part}.zero", np.zeros(len(step), values.dtype)),
            ]
            nodes.append(helper.make_node("DequantizeLinear", affine, [f"{out}.{part}"], axis=0))
        nodes.append(helper.make_node("DequantizeLinear", code, [f"{out}.x"]))
        return [*nodes, changed(node, inputs=[f"{out}.x", f"{out}.w", f"{out}.b"])]

    def table(self, node: NodeProto) -> list[NodeProto]:
        """Turn table[ids] into DQ(table8[ids]): only the rows looked up are ever widened."""
        table, ids = node.input
        out = node.output[0]
        codes, *affine = self._weight(table, steps=TABLE_STEPS)
        rows = [f"{out}.rows", *affine]
        return [
            helper.make_node("Gather", [codes, ids], rows[:1], name=node.name),
            helper.make_node("DequantizeLinear", rows, [out], axis=-1),
        ]

    def rows(self, node: NodeProto) -> list[NodeProto]:
        """Turn table[ids] into table8[ids] times the scales of the rows looked up.

        For a graph without layers above its table: rows differ much in length, and one column's
        scale for all of them would leave the short ones few codes.
        """
        table, ids = node.input
        out = node.output[0]
        codes, scale = quantize_columns(self._weights[table].T, steps=TABLE_STEPS)
        stored = self._constant(f"{table}.int8.rows", np.ascontiguousarray(codes.T))
        scales = self._constant(f"{table}.scale.rows", scale[:, None])
        return [
            helper.make_node("Gather", [stored, ids], [f"{out}.codes"], name=node.name),
            helper.make_node("Cast", [f"{out}.codes"], [f"{out}.rows"], to=TensorProto.FLOAT),
            helper.make_node("Gather", [scales, ids], [f"{out}.scales"]),
            helper.make_node("Mul", [f"{out}.rows", f"{out}.scales"], [out]),
        ]

    def _quantised(self, name: str) -> tuple[list[NodeProto], list[str]]:
        """Name a value's codes, scale and zero; give the node that makes them if it is new."""
        code = [f"{name}.int8", f"{name}.scale", f"{name}.zero"]
        if code[1] in self.constants:
            return [], code
        low, high = self._ranges[name]
        scale = max(high - low, 1e-12) / 255
        self._constant(code[1], np.float32(scale))
        self._constant(code[2], np.uint8(np.clip(round(-low / scale), 0, 255)))
        return [helper.make_node("QuantizeLinear", [name, *code[1:]], code[:1])], code

    def _weight(self, name: str, *, steps: int, turned: bool = False) -> list[str]:
        """Quantise a matrix, once for each number of steps; name its codes, scales and zeros."""
        matrix = self._weights[name].T if turned else self._weights[name]
        codes, scale = quantize_columns(matrix, steps=steps)
        form = f"{steps}.turned" if turned else f"{steps}"
        return [
            self._constant(f"{name}.int8.{form}", np.ascontiguousarray(codes)),
            self._constant(f"{name}.scale.{form}", scale),
            self._constant(f"{name}.zero.{form}", np.zeros(len(scale), np.int8)),
        ]

    def _constant(self, name: str, value: NDArray[Any] | np.generic) -> str:
        self.constants[name] = np.asarray(value)
        return name
