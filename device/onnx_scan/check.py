"""What an ONNX file would make a runtime do, read from its bytes without the onnx package.

A bundle's graphs are judged on a device that has only numpy and onnxruntime, before anything runs.
"""

from types import MappingProxyType

from ..errors import BundleRefused
from .constant_folding import attribute, check_constants
from .operators import OPERATORS
from .protobuf import Message, read
from .tensors import MAX_RANK, check_tensor

_VALUES = MappingProxyType(
    {1: "f", 2: "i", 3: "s", 4: "t", 6: "floats", 7: "ints", 8: "strings", 9: "tensors", 13: "tp"}
)
"""AttributeProto.AttributeType -> the field that has the value; graphs and the like are refused."""

MAX_NODES = 5_000
"""Nodes of a graph: all-MiniLM-L6-v2 has 201 in 6 layers, and a SwinV2 137 in 2.

What a session takes to open grows with the square of some: 5,000 transposes abreast take 4.5 s.
"""

_WITHOUT_GAPS = frozenset({"Einsum", "Max", "Mean", "Min", "Sum"})
"""Operators of many inputs, each of which ONNX Runtime reads, even one that is left out."""

_OTHER_FORMAT = b"ORTM"
"""At bytes 4 to 8, ONNX Runtime's own format: a file may be that to it, and ONNX to others."""

_SESSION_CONFIG = "ort_config"
"""Metadata that ONNX Runtime may take its session's options from."""


def check_onnx(data: bytes, name: str) -> None:
    """Refuse what is no ONNX model, needs anything outside the file, or asks for far more than it.

    Raises BundleRefused.
    """
    if data[4:8] == _OTHER_FORMAT:
        raise BundleRefused(
            "not-onnx",
            f"{name} has ORTM at byte 4, the mark of ONNX Runtime's own format; save it as ONNX, "
            "by a producer of another name",
        )
    try:
        model = read(data)
        for field, what in (
            ("ir_version", "IR version"),
            ("graph", "graph"),
            ("opset_import", "opset"),
        ):
            if field not in model.fields:
                raise ValueError(f"it has no {what}")
        messages = list(model.below())
        _check_tensors(messages, name)
        _check_operators(messages, name)
        _check_single_graph(model, messages, name)
        _check_opsets(model)
        _check_order(model.get("graph"))
    except ValueError as error:
        if isinstance(error, BundleRefused):
            raise
        raise BundleRefused("not-onnx", f"{name} is not an ONNX model: {error}") from None
    check_constants(model.get("graph"), len(data), name)


def _check_tensors(messages: list[Message], name: str) -> None:
    tensors = [each for each in messages if each.kind == "TensorProto"]
    for tensor in tensors:
        if "external_data" in tensor.fields or tensor.get("data_location", 0) != 0:
            raise BundleRefused(
                "external-data",
                f"{name} keeps a tensor in another file; save the model with its weights inside",
            )
    for message in messages:
        if message.kind == "SparseTensorProto":
            raise BundleRefused(
                "unbounded",
                f"{name} has a sparse tensor of shape {message.numbers('dims', most=MAX_RANK)}, "
                "which is unpacked as it is loaded; store it dense",
            )
    for tensor in tensors:
        check_tensor(tensor)


def _check_operators(messages: list[Message], name: str) -> None:
    for node in messages:
        if node.kind != "NodeProto":
            continue
        domain, kind = node.get("domain", ""), node.get("op_type", "")
        operators = OPERATORS.get(domain or "ai.onnx")
        if operators is None:
            raise BundleRefused(
                "foreign-operator",
                f"{name} calls operators of domain {domain!r:.80}, which need code from outside; "
                f"export with those of {', '.join(OPERATORS)} only, functions inlined",
            )
        if kind not in operators:
            raise BundleRefused(
                "foreign-operator",
                f"{name} calls {kind:.80} of {domain or 'ai.onnx'}, which is not among the "
                "operators that a bundle may call; export without it",
            )


def _check_single_graph(model: Message, messages: list[Message], name: str) -> None:
    """Refuse what could hold more than one plain graph."""
    graphs = sum(each.kind == "GraphProto" for each in messages)
    for there, what in (
        (model.each("functions"), "functions of its own; inline them"),
        (model.each("training_info"), "what it was trained by; leave that out"),
        (graphs > 1, "graphs within its nodes; export without them"),
    ):
        if there:
            raise BundleRefused("foreign-operator", f"{name} has {what}")
    for entry in model.each("metadata_props"):
        if entry.get("key", "").lower() == _SESSION_CONFIG:
            raise BundleRefused(
                "foreign-operator",
                f"{name} has options for ONNX Runtime's session, {_SESSION_CONFIG}; remove them",
            )


def _check_opsets(model: Message) -> None:
    """Hold a model to one version of each domain's operators."""
    domains = [each.get("domain", "") or "ai.onnx" for each in model.each("opset_import")]
    if len(set(domains)) < len(domains):
        raise ValueError("it imports two versions of one domain's operators")


def _check_attributes(node: Message) -> None:
    """Hold a node's attributes to one of each name, with the value that its type says."""
    attributes = node.each("attribute")
    if len({each.get("name", "") for each in attributes}) < len(attributes):
        raise ValueError(f"{node.get('op_type')} has an attribute twice")
    for each in attributes:
        due = _VALUES.get(each.get("type", 0))
        if due is None or each.fields.keys() - {"name", "type", "doc_string", due}:
            raise ValueError(
                f"attribute {each.get('name', '')!r:.80} of {node.get('op_type')} is of type "
                f"{each.get('type', 0)} and has {', '.join(each.fields)}"
            )


def _check_counts(node: Message) -> None:
    """Refuse what ONNX Runtime takes on trust, and ends the process by."""
    kind, outputs = node.get("op_type", ""), len(node.each("output"))
    if kind in _WITHOUT_GAPS and "" in node.each("input"):
        raise ValueError(f"{kind} leaves an input out")
    if kind == "Split" and (parts := attribute(node, "num_outputs", outputs)) != outputs:
        raise ValueError(f"Split has num_outputs {parts} and {outputs} outputs")
    if kind == "GatherND" and not 0 <= (batches := attribute(node, "batch_dims", 0)) <= MAX_RANK:
        raise ValueError(f"GatherND has batch_dims {batches}; 0 to {MAX_RANK} may stand there")


def _check_order(graph: Message) -> None:
    """Hold a graph to one maker for each name, which comes before its readers."""
    if (count := len(graph.each("node"))) > MAX_NODES:
        raise ValueError(f"it has {count} nodes; limit {MAX_NODES}")
    given = [each.get("name", "") for each in graph.each("initializer")]
    known = {"", *given, *(each.get("name", "") for each in graph.each("input"))}
    if len(set(given)) < len(given):
        raise ValueError("two of its initializers have one name")
    for node in graph.each("node"):
        _check_attributes(node)
        _check_counts(node)
        for name in node.each("input"):
            if name not in known:
                raise ValueError(
                    f"{node.get('op_type')} reads {name!r:.80}, which nothing before it makes"
                )
        for name in filter(None, node.each("output")):
            if name in known:
                raise ValueError(f"{name!r:.80} is made twice")
            known.add(name)
    for output in graph.each("output"):
        if output.get("name", "") not in known:
            raise ValueError(f"nothing makes its output {output.get('name', '')!r:.80}")
