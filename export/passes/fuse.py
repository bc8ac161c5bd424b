"""The same numbers by fewer and larger steps: ONNX Runtime's fused operators, and no padding.

Rewrites of a text encoder's standard graph by patterns; what they do not know is left alone.
Softmax attention becomes com.microsoft MultiHeadAttention, a bias with its GELU BiasGelu.  Then
padding is left out: what works on each token alone (products with a matrix, norms, GELU: nearly
all the work) runs on the real tokens of a batch, one row a token, and only attention and pooling
see rows of equal length again (Zeng et al. 2022, "Boosting Distributed Training Performance of the
Unpadded BERT Model", arXiv:2208.08124).  A batch of unequal texts costs what its tokens cost.

Residuals are not joined with the layer norm after them: ONNX Runtime's SkipLayerNormalization is
slower on a CPU than the two apart, and the runtime keeps it from being put there.

A file so written runs in ONNX Runtime only, so it is a variant beside the standard one.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from attar.errors import InvalidInput

MASK = "attention_mask"
FUSED = "com.microsoft"
TOKENWISE = frozenset({"BiasGelu", "Gelu", "LayerNormalization"})
"""Operators that give each token's row from that token's rows and from constants."""


def fuse(graph: bytes) -> bytes:
    """Give a text encoder's graph with attention fused and padding left out.

    Where `graph` takes an `attention_mask` (batch, length), 1 where a token is real, what stands on
    padding must not matter in it; without one there is no padding to leave out. Raises
    InvalidInput when no attention in it is understood.
    """
    model = onnx.load_from_string(graph)
    rewriter = _Rewriter(model)
    if not rewriter.fuse_attention():
        raise InvalidInput(
            "no softmax attention under a padding mask was found in the graph, so fusing would "
            "change nothing; leave the variant out"
        )
    rewriter.fuse_gelu()
    if rewriter.has_padding:
        rewriter.leave_out_padding()
    serialized: bytes = rewriter.model().SerializeToString(deterministic=True)
    return serialized


def node_counts(graph: bytes) -> dict[str, int]:
    """Count a graph's nodes by operator, the most frequent first."""
    nodes = onnx.load_from_string(graph).graph.node
    return dict(Counter(node.op_type for node in nodes).most_common())


class _Rewriter:
    """A graph as nodes in order, with who makes each value and who reads it."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._model = model
        self._nodes = list(model.graph.node)
        self._weights = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self._results = {value.name for value in model.graph.output}
        values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
        self._shapes = {value.name: _shape(value) for value in values}
        self._constants: list[TensorProto] = []
        self.has_padding = MASK in self._shapes
        self._index()

    def _index(self) -> None:
        self._maker = {name: node for node in self._nodes for name in node.output if name}
        self._readers: defaultdict[str, list[NodeProto]] = defaultdict(list)
        for node in self._nodes:
            for name in node.input:
                self._readers[name].append(node)

    def fuse_attention(self) -> int:
        """Replace every softmax attention that is understood, and say how many there were."""
        fused = {}
        for node in self._nodes:
            if node.op_type == "Softmax" and (made := self._attention(node)) is not None:
                fused[made.output[0]] = made
        self._replace(fused)
        if any(made.input[3:] for made in fused.values()):
            cast = helper.make_node("Cast", [MASK], [f"{MASK}.int32"], to=TensorProto.INT32)
            self._nodes.insert(0, cast)
            self._index()
        return len(fused)

    def _attention(self, softmax: NodeProto) -> NodeProto | None:
        """Read one attention from its softmax, up to its projections and down to its output."""
        logits, masked = self._unmasked(softmax.input[0])
        logits, scale = self._unscaled(logits)
        product = self._made_by(logits, "MatMul")
        mixing = self._only_reader(softmax.output[0], "MatMul")
        if product is None or mixing is None:
            return None
        transposed = self._only_reader(mixing.output[0], "Transpose")
        if transposed is None or _perm(transposed) != (0, 2, 1, 3):
            return None
        merged = self._only_reader(transposed.output[0], "Reshape")
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
        """Step over `Where(padding, very negative, logits)`, and tell whether it was there."""
        node = self._made_by(logits, "Where")
        if node is None:
            return logits, False
        padding, fill, inner = node.input
        fills = fill in self._weights and bool((self._weights[fill] <= -1e4).all())
        return (inner, True) if fills and self._is_padding(padding) else (logits, False)

    def _is_padding(self, name: str) -> bool:
        """Tell whether a value (batch, 1, 1, length) is true exactly where the mask is zero."""
        rows = self._shapes.get(MASK, ())
        if self._shapes.get(name) != (*rows[:1], 1, 1, *rows[1:]):
            return False
        negations = 0
        while name != MASK:
            node = self._maker.get(name)
            if node is None or node.op_type not in ("Cast", "Not", "Unsqueeze"):
                return False
            negations += node.op_type == "Not"
            name = node.input[0]
        return negations == 1

    def _unscaled(self, logits: str) -> tuple[str, float]:
        """Step over a division by, or a product with, one number: (value, the factor)."""
        node = self._maker.get(logits)
        if node is None or node.op_type not in ("Div", "Mul"):
            return logits, 1.0
        factor = self._weights.get(node.input[1])
        if factor is None or factor.size != 1:
            return logits, math.nan
        return node.input[0], float(factor) if node.op_type == "Mul" else 1 / float(factor)

    def _heads(self, name: str, wanted: Sequence[int]) -> tuple[str, int] | None:
        """Follow (batch, heads, ...) up to what was split: (its name, how many heads)."""
        axes: tuple[int, ...] = (0, 1, 2, 3)
        while (node := self._made_by(name, "Transpose")) is not None:
            before = _perm(node)
            axes, name = tuple(before[axis] for axis in axes), node.input[0]
        split = self._made_by(name, "Reshape")
        shape = self._shapes.get(name, ())
        if split is None or axes != tuple(wanted) or len(shape) != 4 or isinstance(shape[2], str):
            return None
        return split.input[0], shape[2]

    def fuse_gelu(self) -> None:
        """Join a bias with the exact GELU after it."""
        fused = {}
        for node in self._nodes:
            if node.op_type != "Gelu" or _attribute(node, "approximate", b"none") != b"none":
                continue
            inner, bias = self._unbiased(node.input[0])
            if bias:
                fused[node.output[0]] = helper.make_node(
                    "BiasGelu", [inner, *bias], node.output, domain=FUSED
                )
        self._replace(fused)

    def _unbiased(self, name: str) -> tuple[str, list[str]]:
        """Step over the sum of a product and a constant row that nobody else reads."""
        node = self._made_by(name, "Add")
        if node is None or len(self._readers[name]) > 1:
            return name, []
        for value, bias in (node.input, reversed(node.input)):
            weight = self._weights.get(bias)
            if weight is not None and weight.ndim == 1 and self._made_by(value, "MatMul"):
                return value, [bias]
        return name, []

    def leave_out_padding(self) -> None:
        """Run what is token-wise on real tokens only, one row a token."""
        packed: dict[str, str] = {}  # a value (batch, length, d) -> its rows (tokens, d)
        there = {value.name for value in self._model.graph.input} | {*self._weights, ""}
        nodes = self._padding_index()
        for node in self._nodes:
            made = NodeProto()
            made.CopyFrom(node)
            if self._is_tokenwise(node, packed):
                for place, name in enumerate(node.input):
                    if name in packed or self._is_tokens(name):
                        nodes += self._pack(name, packed)
                        made.input[place] = packed[name]
                for place, name in enumerate(node.output):
                    made.output[place] = packed[name] = f"{name}.rows"
            else:
                for name in node.input:
                    if name not in there and name in packed:
                        nodes.append(_gather(packed[name], "padding.place", name))
                        there.add(name)
                there.update(node.output)
            nodes.append(made)
        nodes += [
            _gather(packed[name], "padding.place", name) for name in self._results & packed.keys()
        ]
        self._nodes = nodes
        self._index()

    def _padding_index(self) -> list[NodeProto]:
        """Give where each real token stands, and which token's row each place may borrow.

        `padding.index` (tokens,) are the places of real tokens in the flattened batch;
        `padding.place` (batch, length) is each token's row, on padding that of some other token.
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
        """Tell whether a node gives rows (batch, length, d), each from its own token's alone.

        A sum is one when its operands are of equal width, or a constant row; a product with
        anything but a matrix is not, for it may be what hides padding.
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
        return name in self._weights and self._weights[name].ndim == 2

    def _is_row(self, name: str) -> bool:
        return name in self._weights and self._weights[name].ndim <= 1

    def _is_tokens(self, name: str) -> bool:
        return self._width(name) is not None

    def _width(self, name: str) -> int | None:
        """Give d of a value (batch, length, d), None of any other."""
        shape = self._shapes.get(name, ())
        if len(shape) != 3 or shape[:2] != self._shapes.get(MASK) or isinstance(shape[2], str):
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
        if name not in self._weights:
            self._weights[name] = np.array(value, np.int64)
            self._constants.append(numpy_helper.from_array(self._weights[name], name))
        return name

    def _made_by(self, name: str, kind: str) -> NodeProto | None:
        node = self._maker.get(name)
        return node if node is not None and node.op_type == kind else None

    def _only_reader(self, name: str, kind: str) -> NodeProto | None:
        """Give the node that alone reads a value, if it is of that kind and reads it first."""
        readers = self._readers[name]
        alone = len(readers) == 1 and name not in self._results
        return readers[0] if alone and readers[0].op_type == kind else None

    def _replace(self, fused: dict[str, NodeProto]) -> None:
        """Put each fused node where its result was made, and drop what nobody reads then."""
        needed, kept = set(self._results), list[NodeProto]()
        for original in reversed(self._nodes):
            node = fused.get(original.output[0], original)
            if needed & {*node.output}:
                needed.update(node.input)
                kept.append(node)
        self._nodes = kept[::-1]
        self._index()

    def model(self) -> onnx.ModelProto:
        """Give the model with its new nodes, and the constants and shapes that they still have."""
        graph = self._model.graph
        used = {name for node in self._nodes for name in node.input}
        made = {name for node in self._nodes for name in node.output}
        weights = [t for t in (*graph.initializer, *self._constants) if t.name in used]
        shapes = [value for value in graph.value_info if value.name in made]
        del graph.node[:], graph.initializer[:], graph.value_info[:]
        graph.node.extend(self._nodes)
        graph.initializer.extend(weights)
        graph.value_info.extend(shapes)
        if all(opset.domain != FUSED for opset in self._model.opset_import):
            self._model.opset_import.append(helper.make_opsetid(FUSED, 1))
        return self._model


def _gather(rows: str, index: str, output: str) -> NodeProto:
    return helper.make_node("Gather", [rows, index], [output])


def _perm(node: NodeProto) -> tuple[int, ...]:
    return tuple(_attribute(node, "perm", []))


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    found = (helper.get_attribute_value(a) for a in node.attribute if a.name == name)
    return next(found, default)


def _shape(value: ValueInfoProto) -> tuple[int | str, ...]:
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_param or d.dim_value for d in dims)
