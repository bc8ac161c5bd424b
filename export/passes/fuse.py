"""Fuse a text encoder's graph for ONNX Runtime: its own operators, and no work on padding.

The numbers stay the same. Known patterns of a text encoder's standard graph are rewritten, and
others are left alone. Softmax attention becomes com.microsoft MultiHeadAttention, a bias with its
GELU BiasGelu. Then padding is left out: what works on each token alone (products with a matrix,
norms, GELU: nearly all the work) runs on the real tokens of a batch, one row a token, and only
attention and pooling see rows of equal length again (Zeng et al. 2022, "Boosting Distributed
Training Performance of the Unpadded BERT Model", arXiv:2208.08124). A batch of unequal texts costs
what its tokens cost.

Residuals are not joined with the layer norm after them: ONNX Runtime's SkipLayerNormalization is
slower on a CPU than the two operators, and the runtime is configured not to introduce it.

The graph runs in ONNX Runtime only, so it is a variant next to the standard one.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

from attar.errors import InvalidInput

from ..onnx_graph import Graph, attribute, changed, live, rewrite, stated

MASK = "attention_mask"
FUSED = "com.microsoft"
TOKENWISE = frozenset({"BiasGelu", "Gelu", "LayerNormalization"})
"""Operators that give each token's row from that token's rows and from constants."""


def fuse(graph: bytes) -> bytes:
    """Give a text encoder's graph with attention fused and padding left out.

    Where `graph` takes an `attention_mask` (batch, length), 1 where a token is real, no real
    token's numbers may depend on padding; without a mask there is no padding to leave out. Raises
    InvalidInput when the graph has no attention of a known pattern.
    """
    rewriter = _Rewriter(Graph.read(graph))
    if not rewriter.fuse_attention():
        raise InvalidInput(
            "no softmax attention under a padding mask was found in the graph, so fusing would "
            "change nothing; leave the variant out"
        )
    rewriter.fuse_gelu()
    if rewriter.has_padding:
        rewriter.leave_out_padding()
    return rewriter.serialize()


class _Rewriter:
    """Rewrites a graph, one kind of pattern after another."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._constants: dict[str, NDArray[np.int64]] = {}  # new ones
        self.has_padding = MASK in graph.values

    def fuse_attention(self) -> int:
        """Replace every softmax attention of a known pattern; give how many there were."""
        fused = {}
        for node in self._graph.nodes:
            if node.op_type == "Softmax" and (attention := self._attention(node)) is not None:
                fused[attention.output[0]] = attention
        self._replace(fused)
        if any(attention.input[3:] for attention in fused.values()):
            cast = helper.make_node("Cast", [MASK], [f"{MASK}.int32"], to=TensorProto.INT32)
            self._graph.substitute([cast, *self._graph.nodes])
        return len(fused)

    def _attention(self, softmax: NodeProto) -> NodeProto | None:
        """Read one attention from its softmax, up to its projections and down to its output."""
        logits, masked = self._unmasked(softmax.input[0])
        logits, scale = self._unscaled(logits)
        product = self._graph.producer(logits, "MatMul")
        mixing = self._only_consumer(softmax.output[0], "MatMul")
        if product is None or mixing is None:
            return None
        transposed = self._only_consumer(mixing.output[0], "Transpose")
        if transposed is None or _perm(transposed) != (0, 2, 1, 3):
            return None
        merged = self._only_consumer(transposed.output[0], "Reshape")
        if merged is None:
            return None
        query = self._heads(product.input[0], (0, 2, 1, 3))
        key = self._heads(product.input[1], (0, 2, 3, 1))
        value = self._heads(mixing.input[1], (0, 2, 1, 3))
        if query is None or key is None or value is None or query[1] != key[1]:
            return None
        return helper.make_node(
            "MultiHeadAttention",
            [query[0], key[0], value[0], *(["", f"{MASK}.int32"] if masked else [])],
            merged.output,
            domain=FUSED,
            num_heads=query[1],
            scale=scale,
        )

    def _unmasked(self, logits: str) -> tuple[str, bool]:
        """Step over `Where(padding, very negative, logits)`; give whether it was there."""
        node = self._graph.producer(logits, "Where")
        if node is None:
            return logits, False
        padding, fill, inner = node.input
        constant = self._graph.constants.get(fill)
        fills = constant is not None and bool((constant <= -1e4).all())
        return (inner, True) if fills and self._is_padding(padding) else (logits, False)

    def _is_padding(self, name: str) -> bool:
        """Whether a value (batch, 1, 1, length) is true exactly where the mask is zero."""
        rows = self._graph.shape(MASK)
        if self._graph.shape(name) != (*rows[:1], 1, 1, *rows[1:]):
            return False
        negations = 0
        while name != MASK:
            node = self._graph.producers.get(name)
            if node is None or node.op_type not in ("Cast", "Not", "Unsqueeze"):
                return False
            negations += node.op_type == "Not"
            name = node.input[0]
        return negations == 1

    def _unscaled(self, logits: str) -> tuple[str, float]:
        """Step over a division by, or a product with, one number: (value, the factor)."""
        node = self._graph.producers.get(logits)
        if node is None or node.op_type not in ("Div", "Mul"):
            return logits, 1.0
        factor = self._graph.constants.get(node.input[1])
        if factor is None or factor.size != 1:
            return logits, math.nan
        return node.input[0], float(factor) if node.op_type == "Mul" else 1 / float(factor)

    def _heads(self, name: str, wanted: Sequence[int]) -> tuple[str, int] | None:
        """Follow (batch, heads, ...) up to what was split: (its name, how many heads)."""
        axes: tuple[int, ...] = (0, 1, 2, 3)
        while (node := self._graph.producer(name, "Transpose")) is not None:
            before = _perm(node)
            axes, name = tuple(before[axis] for axis in axes), node.input[0]
        split = self._graph.producer(name, "Reshape")
        shape = self._graph.shape(name)
        if split is None or axes != tuple(wanted) or len(shape) != 4 or isinstance(shape[2], str):
            return None
        return split.input[0], shape[2]

    def fuse_gelu(self) -> None:
        """Join a bias with the exact GELU after it."""
        fused = {}
        for node in self._graph.nodes:
            if node.op_type != "Gelu" or attribute(node, "approximate", b"none") != b"none":
                continue
            inner, bias = self._unbiased(node.input[0])
            if bias:
                fused[node.output[0]] = helper.make_node(
                    "BiasGelu", [inner, *bias], node.output, domain=FUSED
                )
        self._replace(fused)

    def _unbiased(self, name: str) -> tuple[str, list[str]]:
        """Step over the sum of a product and a constant row, if no other node reads it."""
        node = self._graph.producer(name, "Add")
        if node is None or len(self._graph.consumers.get(name, ())) > 1:
            return name, []
        for value, bias in (node.input, reversed(node.input)):
            row = self._graph.constants.get(bias)
            if row is not None and row.ndim == 1 and self._graph.producer(value, "MatMul"):
                return value, [bias]
        return name, []

    def leave_out_padding(self) -> None:
        """Run what is token-wise on real tokens only, one row a token."""
        packed: dict[str, str] = {}  # a value (batch, length, d) -> its rows (tokens, d)
        available = {*self._graph.inputs, *self._graph.constants, ""}
        nodes = self._padding_index()
        for node in self._graph.nodes:
            if self._is_tokenwise(node, packed):
                for name in node.input:
                    if self._is_tokens(name):
                        nodes += self._pack(name, packed)
                inputs = [packed.get(name, name) for name in node.input]
                packed |= {name: f"{name}.rows" for name in node.output}
                nodes.append(changed(node, inputs=inputs, outputs=[packed[n] for n in node.output]))
                continue
            for name in node.input:
                if name not in available and name in packed:
                    nodes.append(_gather(packed[name], "padding.place", name))
                    available.add(name)
            available.update(node.output)
            nodes.append(node)
        nodes += [
            _gather(packed[name], "padding.place", name)
            for name in sorted((self._graph.outputs & packed.keys()) - available)
        ]
        self._graph.substitute(nodes)

    def _padding_index(self) -> list[NodeProto]:
        """Give the position of each real token, and the row that each position reads.

        `padding.index` (tokens,) are the positions of real tokens in the flattened batch;
        `padding.place` (batch, length) is each token's row; on padding it is another token's row.
        """
        zero, one = self._constant("padding.zero", 0), self._constant("padding.one", 1)
        flat, last = self._constant("padding.flat", [-1]), self._constant("padding.first", [0])
        return [
            helper.make_node("Reshape", [MASK, flat], ["padding.mask"]),
            helper.make_node("NonZero", ["padding.mask"], ["padding.real"]),
            helper.make_node("Squeeze", ["padding.real", last], ["padding.index"]),
            helper.make_node("CumSum", ["padding.mask", zero], ["padding.count"]),
            helper.make_node("Sub", ["padding.count", one], ["padding.row"]),
            helper.make_node("Max", ["padding.row", zero], ["padding.borrowed"]),
            helper.make_node("Shape", [MASK], ["padding.shape"]),
            helper.make_node("Reshape", ["padding.borrowed", "padding.shape"], ["padding.place"]),
        ]

    def _is_tokenwise(self, node: NodeProto, packed: dict[str, str]) -> bool:
        """Whether a node gives rows (batch, length, d), each of them from its own token alone.

        A sum does when its operands are of equal width, or a constant row; a product with anything
        but a matrix does not, for it may be what hides padding.
        """
        if node.op_type == "MatMul":
            return self._is_matrix(node.input[1]) and self._is_tokens(node.input[0])
        if node.op_type == "Add":
            return any(name in packed for name in node.input) and all(
                self._is_row(name) or self._width(name) == self._width(node.output[0])
                for name in node.input
            )
        return node.op_type in TOKENWISE and self._is_tokens(node.input[0])

    def _is_matrix(self, name: str) -> bool:
        return name in self._graph.constants and self._graph.constants[name].ndim == 2

    def _is_row(self, name: str) -> bool:
        return name in self._graph.constants and self._graph.constants[name].ndim <= 1

    def _is_tokens(self, name: str) -> bool:
        return self._width(name) is not None

    def _width(self, name: str) -> int | None:
        """Give d of a value (batch, length, d), None of any other."""
        shape = self._graph.shape(name)
        if len(shape) != 3 or shape[:2] != self._graph.shape(MASK) or isinstance(shape[2], str):
            return None
        return shape[2]

    def _pack(self, name: str, packed: dict[str, str]) -> Iterator[NodeProto]:
        """Take a value's real tokens out of the batch, once."""
        if name in packed:
            return
        packed[name] = f"{name}.rows"
        width = self._width(name)
        shape = self._constant(f"padding.flat.{width}", [-1, width])
        yield helper.make_node("Reshape", [name, shape], [f"{name}.flat"])
        yield _gather(f"{name}.flat", "padding.index", packed[name])

    def _constant(self, name: str, value: object) -> str:
        self._constants.setdefault(name, np.array(value, np.int64))
        return name

    def _only_consumer(self, name: str, kind: str) -> NodeProto | None:
        node = self._graph.only_consumer(name)
        return node if node is not None and node.op_type == kind else None

    def _replace(self, fused: dict[str, NodeProto]) -> None:
        """Put each fused node where its output was produced, and drop the nodes it replaces."""
        self._graph.substitute(live(self._graph.nodes, self._graph.outputs, fused))

    def serialize(self) -> bytes:
        """Give the rewritten model."""
        model, nodes = self._graph.model, self._graph.nodes
        return rewrite(model, nodes, self._constants, values=stated(model, nodes), domain=FUSED)


def _gather(rows: str, index: str, output: str) -> NodeProto:
    return helper.make_node("Gather", [rows, index], [output])


def _perm(node: NodeProto) -> tuple[int, ...]:
    return tuple(attribute(node, "perm", []))
