"""What an ONNX file would make a runtime do, read from its bytes without the onnx package.

A protobuf message is a run of (field number, wire type, value). This walks only the fields through
which a graph can reach nodes and tensors (onnx.proto, IR version 3 and later) and steps over the
rest, so that a bundle can be judged on a device that has only numpy and onnxruntime.
"""

from collections.abc import Iterator

from .errors import BundleRefused
from .native import DOMAIN as NATIVE

DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft", NATIVE)
"""Operator sets of ONNX, ONNX Runtime and attar itself; any other is somebody's code."""

ESCAPES = ("EPContext", "PythonOp", "TritonOp")
"""com.microsoft operators that run something which is not in the graph."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

# Message -> field number -> the message found there, as far as nodes and tensors hang below it.
_BELOW = {
    "Model": {7: "Graph", 20: "Training", 25: "Function"},
    "Training": {1: "Graph", 2: "Graph"},
    "Graph": {1: "Node", 5: "Tensor", 15: "SparseTensor"},
    "Function": {7: "Node", 11: "Attribute"},
    "Node": {5: "Attribute"},
    "Attribute": {
        5: "Tensor",
        6: "Graph",
        10: "Tensor",
        11: "Graph",
        22: "SparseTensor",
        23: "SparseTensor",
    },
    "SparseTensor": {1: "Tensor", 2: "Tensor"},
    "Tensor": {},
}
_MODEL_IR_VERSION, _MODEL_GRAPH, _MODEL_OPSET = 1, 7, 8
_NODE_OP_TYPE, _NODE_DOMAIN = 4, 7
_TENSOR_EXTERNAL_DATA, _TENSOR_DATA_LOCATION = 13, 14


def check_onnx(data: bytes, name: str) -> None:
    """Refuse what is no ONNX model, keeps tensors in other files, or calls foreign operators."""
    try:
        _check_model(data, name)
        todo = [("Model", memoryview(data))]
        while todo:
            message, body = todo.pop()
            for number, value in _fields(body):
                below = _BELOW[message].get(number)
                if below is not None:
                    todo.append((below, _message(value)))
                elif message == "Node":
                    _check_node(number, value, name)
                elif message == "Tensor":
                    _check_tensor(number, value, name)
    except ValueError as error:
        if isinstance(error, BundleRefused):
            raise
        raise BundleRefused("not-onnx", f"{name} is not an ONNX model: {error}") from None


def _check_model(data: bytes, name: str) -> None:
    numbers = {number for number, _ in _fields(memoryview(data))}
    for number, what in (
        (_MODEL_IR_VERSION, "IR version"),
        (_MODEL_GRAPH, "graph"),
        (_MODEL_OPSET, "opset"),
    ):
        if number not in numbers:
            raise BundleRefused("not-onnx", f"{name} is not an ONNX model: it has no {what}")


def _check_node(number: int, value: int | memoryview, name: str) -> None:
    if number == _NODE_DOMAIN and (domain := bytes(_message(value)).decode()) not in DOMAINS:
        raise BundleRefused(
            "foreign-operator",
            f"{name} calls operators of domain {domain!r}, which need code from outside; "
            f"export with those of {', '.join(filter(None, DOMAINS))} only, functions inlined",
        )
    if number == _NODE_OP_TYPE and (kind := bytes(_message(value)).decode()) in ESCAPES:
        raise BundleRefused(
            "foreign-operator",
            f"{name} calls {kind}, which runs code that is not in the graph; export without it",
        )


def _check_tensor(number: int, value: int | memoryview, name: str) -> None:
    if number == _TENSOR_EXTERNAL_DATA or (number == _TENSOR_DATA_LOCATION and value != 0):
        raise BundleRefused(
            "external-data",
            f"{name} keeps a tensor in another file; save the model with its weights inside",
        )


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        # The file is wrong, not a caller's type.
        raise ValueError("a number stands where a message should")  # noqa: TRY004
    return value


def _fields(body: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Walk one message: (field number, number or bytes)."""
    at = 0
    while at < len(body):
        key, at = _varint(body, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(body, at)
            yield number, value
            continue
        if wire == _BYTES:
            size, at = _varint(body, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"byte {at} has wire type {wire}")
        if number == 0 or at + size > len(body):
            raise ValueError(f"a field at byte {at} runs past the end")
        yield number, body[at : at + size]
        at += size


def _varint(body: memoryview, at: int) -> tuple[int, int]:
    """Read a base-128 number, at most 64 bits: (value, where the next field starts)."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(body):
            break
        byte = body[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:  # the last byte has its high bit clear
            return value, at
    raise ValueError(f"a number at byte {at} does not end")
