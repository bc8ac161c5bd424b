"""KServe requests that lie or leave out, over REST and gRPC, and what must come back.

The one list; tests/hostile/test_kserve.py sends each row to a real server. A row of REST is the
JSON and the bytes behind it, one of gRPC the message.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tritonclient.grpc import service_pb2 as pb

from .http import JSON, request

INFER: Final = "/v2/models/tiny/infer"
INDEX: Final = "/v2/repository/index"
LOAD: Final = "/v2/repository/models/tiny/load"
UNLOAD: Final = "/v2/repository/models/tiny/unload"
IMAGE: Final = "/v2/models/tiny-image/infer"
LENGTH: Final = "Inference-Header-Content-Length"
OK: Final = "OK"
INVALID: Final = "INVALID_ARGUMENT"
UNKNOWN: Final = "NOT_FOUND"
PIXELS: Final = [0.5] * 64


@dataclass(frozen=True, slots=True)
class Rest:
    """One request of KServe's REST, and the status and message of the response."""

    name: str
    request: bytes
    status: int
    message: str = ""
    outputs: Mapping[str, Any] = field(default_factory=dict)  # name to shape

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Grpc:
    """One ModelInfer, the code that answers it, its violated field and message."""

    name: str
    request: pb.ModelInferRequest
    code: str
    field: str = ""
    message: str = ""

    def __str__(self) -> str:
        return self.name


def text(*values: str) -> bytes:
    """Texts as BYTES: each its length in 4 bytes, little-endian, and its UTF-8."""
    encoded = [value.encode() for value in values]
    return b"".join(struct.pack("<I", len(one)) + one for one in encoded)


CAT: Final = text("cat")


def tensor(*texts: str, **changes: Any) -> dict[str, Any]:
    whole = {"name": "text", "shape": [len(texts)], "datatype": "BYTES", "data": texts, **changes}
    return {name: value for name, value in whole.items() if value != "absent"}


def rest(
    front: Mapping[str, Any] | bytes,
    behind: bytes = b"",
    *,
    target: str = INFER,
    length: str | None = None,
    kind: str | None = JSON,
) -> bytes:
    encoded = front if isinstance(front, bytes) else json.dumps(front).encode()
    given = length or (str(len(encoded)) if behind else None)
    more = () if given is None else (f"{LENGTH}: {given}",)
    kind = kind if given is None else None  # Triton's clients send none with that header
    return request("POST", target, encoded + behind, *more, kind=kind)


def infer(*more: Any, **changes: Any) -> bytes:
    return rest({"inputs": [tensor(*(more or ("cat",)))], **changes})


def one(**changes: Any) -> bytes:
    return rest({"inputs": [tensor("cat", **changes)]})


def raw(behind: bytes, *, size: Any = None, shape: Any = (1,), **changes: Any) -> bytes:
    parameters = {"binary_data_size": len(behind) if size is None else size}
    given = {"data": "absent", "shape": list(shape), "parameters": parameters, **changes}
    absent = tensor(**given)
    return rest({"inputs": [absent]}, behind)


def image(**changes: Any) -> bytes:
    whole = {"name": "image", "shape": [1, 1, 8, 8], "datatype": "FP32", "data": PIXELS}
    return rest({"inputs": [{**whole, **changes}]}, target=IMAGE)


_ROWS: Final = [[0.5] * 8] * 8
_ALL: Final = {"embedding": [1, 16], "input_tokens": [1], "truncated": [1], "status": [1]}
REST: Final = (
    Rest("plain", infer(), 200, "", _ALL),
    Rest("nulls", infer(id=None, parameters=None, outputs=None), 200, "", _ALL),
    Rest("nulls of a tensor", one(parameters=None), 200, "", _ALL),
    Rest("a null parameter", infer(parameters={"role": None, "dimensions": None}), 200, "", _ALL),
    Rest("null outputs' parameters", infer(outputs=[{"name": "status", "parameters": None}]), 200),
    Rest("data null behind bytes", raw(CAT, data=None), 200, "", _ALL),
    Rest("a batch axis", one(shape=[1, 1], data=[["cat"]]), 200, "", _ALL),
    Rest("an output asked twice", infer(outputs=[{"name": "status"}] * 2), 400, "named twice"),
    Rest("an output that is not", infer(outputs=[{"name": "logits"}]), 400, "no output 'logits'"),
    Rest("an input twice", rest({"inputs": [tensor("a")] * 2}), 400, "takes one, 'text'"),
    Rest("another input", one(name="TEXT"), 400, "inputs are 'TEXT'"),
    Rest("no input", rest({"inputs": []}), 400, "inputs are none"),
    Rest("inputs null", rest({"inputs": None}), 400, "inputs is missing"),
    Rest("a field that is not", infer(parameter={}), 400, "no field 'parameter'; known"),
    Rest("a tensor's that is not", one(dtype="FP32"), 400, "inputs[0] has no field 'dtype'"),
    Rest(
        "an output's that is not",
        infer(outputs=[{"name": "status", "x": 1}]),
        400,
        "has no field 'x'",
    ),
    Rest("an id that is a number", infer(id=7), 400, "id is 7; give text"),
    Rest("a parameter that is a list", infer(parameters={"role": []}), 400, "no number, text or"),
    Rest(
        "a parameter that is not", infer(parameters={"Role": "query"}), 400, "no parameter 'Role'"
    ),
    Rest("dimensions as text", infer(parameters={"dimensions": "8"}), 400, "a whole number"),
    Rest("dimensions undeclared", infer(parameters={"dimensions": 7}), 400, "for [8, 16]"),
    Rest("a timeout as text", infer(parameters={"timeout": "1"}), 400, "timeout is '1'"),
    Rest("a timeout below 0", infer(parameters={"timeout": -1}), 400, "timeout is -1"),
    Rest("a wrong flag", infer(parameters={"binary_data_output": "yes"}), 400, "give true or"),
    Rest("a sequence", infer(parameters={"sequence_id": 1}), 409, "keep no state"),
    Rest("shared memory", infer(parameters={"shared_memory_region": "a"}), 409, "no shared memory"),
    Rest("a shape too large", one(shape=[2]), 400, "1 values; shape [2]"),
    Rest("a shape too small", one(data=["a", "b"]), 400, "2 values; shape [1]"),
    Rest("a shape of 0", one(shape=[0], data=[]), 400, "each at least 1"),
    Rest("a shape below 0", one(shape=[-1]), 400, "each at least 1"),
    Rest("a shape of text", one(shape=["1"]), 400, "no list of whole numbers"),
    Rest("a shape with a point", one(shape=[1.0]), 400, "no list of whole numbers"),
    Rest("a shape that overflows", one(shape=[2**62, 4]), 400, "than a message holds"),
    Rest("too many items", infer(*["a"] * 41), 400, "1 to 40 items"),
    Rest("a datatype of another case", one(datatype="bytes"), 400, "known datatypes are"),
    Rest("numpy's datatype", image(datatype="float32"), 400, "known datatypes are BOOL"),
    Rest("another datatype", image(datatype="FP64"), 400, "takes FP32"),
    Rest("numbers for texts", one(data=[1]), 400, "not text throughout"),
    Rest("a null among texts", one(data=[None]), 400, "not text throughout"),
    Rest("rows that differ", one(shape=[2], data=[["a"], ["b", "c"]]), 400, "their rows differ"),
    Rest("texts nested otherwise", one(shape=[2, 1], data=[["a", "b"]]), 400, "nested as [1, 2]"),
    Rest("numbers nested as the shape", image(data=[[_ROWS]]), 200, "", {"embedding": [1, 16]}),
    Rest("numbers nested otherwise", image(data=[_ROWS]), 400, "nested as [1, 8, 8]"),
    Rest("a flag among numbers", image(data=[True, *PIXELS[1:]]), 400, "not all FP32"),
    Rest("a text among numbers", image(data=["0.5", *PIXELS[1:]]), 400, "not all FP32"),
    Rest("a number beyond FP32", image(data=[1e39, *PIXELS[1:]]), 400, "a NaN or an infinity"),
    Rest("bytes behind the JSON", raw(CAT), 200, "", _ALL),
    Rest("a prefix that lies", raw(b"\xff\xff\xff\xff" + b"cat"), 400, "ends within element 0"),
    Rest("a prefix cut short", raw(b"\x03\0\0"), 400, "ends within element 0"),
    Rest("a prefix too small", raw(b"\x02\0\0\0cat"), 400, "1 bytes after the 1 elements"),
    Rest("a shape without bytes", raw(CAT, shape=(40,)), 400, "ends within element 1"),
    Rest("a shape beyond max_items", raw(CAT, shape=(2**31,)), 400, "1 to 40 items (max_items)"),
    Rest("outputs without end", infer(outputs=[{"name": "x"}] * 9), 400, "outputs are 9, and a"),
    Rest("inputs without end", rest({"inputs": [{}] * 9}), 400, "inputs are 9, and a request"),
    Rest(
        "parameters without end",
        infer(parameters={f"p{i}": 1 for i in range(33)}),
        400,
        "parameters are 33, and a request may name 32",
    ),
    Rest("sizes beyond the body", raw(CAT, size=99), 400, "7 bytes are left"),
    Rest("a size below 0", raw(CAT, size=-1), 400, "is -1"),
    Rest("a size that is a flag", raw(CAT, size=True), 400, "size is true"),
    Rest("a size that is text", raw(CAT, size="7"), 400, 'size is "7"'),
    Rest("data and bytes", raw(CAT, data=["cat"]), 400, "give one of them"),
    Rest("bytes of nobody", rest({"inputs": [tensor("cat")]}, CAT), 400, "belong to no input"),
    Rest("a header's length beyond", rest({}, length="999"), 400, "the body has 2 bytes"),
    Rest("a header's length of 0", rest({"inputs": []}, length="0"), 400, "not JSON"),
    Rest("a header's length with a sign", rest({}, length="+2"), 400, "'+2'"),
    Rest(
        "a version that is not",
        rest({"inputs": [tensor("a")]}, target="/v2/models/tiny/versions/01/infer"),
        404,
        "no version '01'; this server has 1",
    ),
    Rest(
        "an item too long",
        infer("a", "cat " * 99, parameters={"truncate": False}, outputs=[{"name": "embedding"}]),
        400,
        'item 1 has 101 tokens and the encoder takes 32; shorten it, or send "truncate": true',
    ),
    Rest(
        "an item too long, with status",
        infer("a", "cat " * 99, parameters={"truncate": False}),
        200,
        "",
        {"status": [2], "embedding": [2, 16]},
    ),
    Rest("equal names", rest(b'{"id": "a", "id": "b"}'), 400, "'id' twice"),
    Rest(
        "index, a field that is not",
        rest({"redy": 1}, target=INDEX),
        400,
        "no field 'redy'; known are",
    ),
    Rest(
        "load, a field that is not",
        rest({"parameter": 1}, target=LOAD),
        400,
        "no field 'parameter'",
    ),
    Rest("load, a parameter", rest({"parameters": {"config": "{}"}}, target=LOAD), 400, "'config'"),
    Rest("load of a model that is not", rest({}, target="/v2/repository/models/no/load"), 404),
    Rest("unload, a parameter", rest({"parameters": {"x": 1}}, target=UNLOAD), 400, "known is unl"),
    *(
        Rest(f"{what} to {target}", rest({}, target=target, kind=kind), 415, "expected application")
        for target in (INFER, INDEX, LOAD, UNLOAD)
        for what, kind in {
            "no type": None,
            "a form's type": "application/x-www-form-urlencoded",
            "an upload's type": "multipart/form-data; boundary=x",
            "text's type": "text/plain;charset=UTF-8",
        }.items()
    ),
    Rest("index, ready null", rest({"ready": None}, target=INDEX), 200),
    Rest("index, ready text", rest({"ready": "x"}, target=INDEX), 400, 'ready is "x"'),
)


def message(**changes: Any) -> pb.ModelInferRequest:
    kind = pb.ModelInferRequest.InferInputTensor
    inputs = [kind(name="text", datatype="BYTES", shape=[1])]
    whole = {"model_name": "tiny", "id": "mine", "inputs": inputs, "raw_input_contents": [CAT]}
    return pb.ModelInferRequest(**{**whole, **changes})


def inputs(
    shape: tuple[int, ...] = (1,), datatype: str = "BYTES", name: str = "text", **more: Any
) -> list[Any]:
    kind = pb.ModelInferRequest.InferInputTensor
    return [kind(name=name, datatype=datatype, shape=shape, **more)]


def parameter(**value: Any) -> pb.InferParameter:
    return pb.InferParameter(**value)


def outputs(*names: str, **more: Any) -> list[Any]:
    kind = pb.ModelInferRequest.InferRequestedOutputTensor
    return [kind(name=name, **more) for name in names]


def pixels(**changes: Any) -> pb.ModelInferRequest:
    given = {"name": "image", "datatype": "FP32", "shape": (1, 1, 8, 8), **changes}
    data = given.pop("raw", struct.pack("<64f", *PIXELS))
    return message(model_name="tiny-image", inputs=inputs(**given), raw_input_contents=[data])


_SHAPE: Final = "inputs[0].shape"
_RAW: Final = "raw_input_contents[0]"
_BOTH: Final = pb.InferTensorContents(bytes_contents=[b"cat"])
GRPC: Final = (
    Grpc("plain", message(), OK),
    Grpc("typed contents", message(inputs=inputs(contents=_BOTH), raw_input_contents=[]), OK),
    Grpc(
        "an output twice", message(outputs=outputs("status", "status")), INVALID, "outputs[1].name"
    ),
    Grpc("an output that is not", message(outputs=outputs("logits")), INVALID, "outputs[0].name"),
    Grpc("a shape without bytes", message(inputs=inputs((40,))), INVALID, _RAW, "element 1 of"),
    Grpc("a shape of 2**31", message(inputs=inputs((2**31,))), INVALID, _SHAPE, "1 to 40 items"),
    Grpc("a shape of 2**40", message(inputs=inputs((2**40,))), INVALID, _SHAPE, "a message holds"),
    Grpc("a shape of 0", message(inputs=inputs((0,))), INVALID, _SHAPE, "each at least 1"),
    Grpc(
        "inputs without end",
        message(inputs=[pb.ModelInferRequest.InferInputTensor()] * 9),
        INVALID,
        "inputs",
        "inputs are 9",
    ),
    Grpc(
        "outputs without end",
        message(outputs=[pb.ModelInferRequest.InferRequestedOutputTensor()] * 9),
        INVALID,
        "outputs",
        "outputs are 9",
    ),
    Grpc(
        "parameters without end",
        message(parameters={f"p{i}": pb.InferParameter(bool_param=True) for i in range(33)}),
        INVALID,
        "parameters",
        "parameters are 33",
    ),
    Grpc("a prefix that lies", message(raw_input_contents=[b"\xff" * 8]), INVALID, _RAW, "ends wi"),
    Grpc(
        "a byte too many", message(raw_input_contents=[CAT + b"a"]), INVALID, _RAW, "1 bytes after"
    ),
    Grpc("both contents", message(inputs=inputs(contents=_BOTH)), INVALID, "inputs[0].contents"),
    Grpc("no contents", message(raw_input_contents=[]), INVALID, "inputs[0].contents", "0 values"),
    Grpc("contents too many", message(raw_input_contents=[CAT] * 2), INVALID, "raw_input_contents"),
    Grpc(
        "an input twice",
        message(inputs=inputs() * 2, raw_input_contents=[CAT] * 2),
        INVALID,
        "inputs",
    ),
    Grpc(
        "another name", message(inputs=inputs(name="TEXT")), INVALID, "inputs", "takes one, 'text'"
    ),
    Grpc(
        "a datatype that is not",
        message(inputs=inputs(datatype="STRING")),
        INVALID,
        "inputs[0].datatype",
        "known",
    ),
    Grpc(
        "another datatype", pixels(datatype="FP64", raw=bytes(512)), INVALID, "inputs[0].datatype"
    ),
    Grpc("bytes too few", pixels(raw=bytes(255)), INVALID, _RAW, "255 bytes of data; FP32"),
    Grpc(
        "an axis too many", pixels(shape=(1, 1, 8, 8, 1)), INVALID, "inputs[0].shape", "takes [-1"
    ),
    Grpc("a NaN", pixels(raw=b"\xff" * 256), INVALID, "inputs[0]", "item 0 holds a NaN"),
    Grpc("another model", message(model_name="Tiny"), UNKNOWN, "", "no model 'Tiny'"),
    Grpc("another version", message(model_version="2"), UNKNOWN, "", "no version '2'"),
    Grpc(
        "dimensions as text",
        message(parameters={"dimensions": parameter(string_param="8")}),
        INVALID,
        "parameters[dimensions]",
        "a whole number",
    ),
    Grpc(
        "dimensions undeclared",
        message(parameters={"dimensions": parameter(int64_param=7)}),
        INVALID,
        "parameters[dimensions]",
        "trained for [8, 16]",
    ),
    Grpc(
        "a parameter without a value",
        message(parameters={"role": parameter()}),
        INVALID,
        "parameters[role]",
        "has no value",
    ),
    Grpc(
        "an output's parameter",
        message(outputs=outputs("status", parameters={"classification": parameter(int64_param=1)})),
        INVALID,
        "outputs[0].parameters",
    ),
    Grpc(
        "an item too long",
        message(
            inputs=inputs((2,)),
            raw_input_contents=[text("a", "cat " * 99)],
            parameters={"truncate": parameter(bool_param=False)},
            outputs=outputs("embedding"),
        ),
        INVALID,
        "inputs[0]",
        "item 1 has 101 tokens",
    ),
    Grpc(
        "an item too long, with status",
        message(
            inputs=inputs((2,)),
            raw_input_contents=[text("a", "cat " * 99)],
            parameters={"truncate": parameter(bool_param=False)},
        ),
        OK,
    ),
)
