"""Attacks by ONNX files: what a graph may read, compute and cost before anything of it runs."""

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from attar import Client
from attar.bundle import Bundle
from attar.errors import BundleRefused
from attar.onnx_scan.check import check_onnx

from ..hostile.bundles import MODEL, listed, sealed
from ..hostile.onnx_files import held, nested, tag, varint
from ..support.bundles import VOCABULARY, graph_model, text_graph, tiny_bundle
from ..support.keys import private_key, public_key
from .bundles import WATCH_S, watching
from .ground import Attack, Outcome, attacked

DEADLINE_S: Final = 60.0
QUICK_S: Final = 5.0  # for a check of milliseconds, on a busy machine
SECRET: Final = b"the key of another"

TENSOR: Final = 5  # GraphProto.initializer
LOCATION: Final = 14  # TensorProto.data_location, before which external_data stands


# ---------------------------------------------------------------------- hostile graphs


def outside(*, bit: int = 0, padded: bool = False, value: int = 1) -> bytes:
    """Give a graph with a tensor in another file, which its tags hide from one reader or another.

    `bit` is set in the tags of both fields besides, `padded` spells them in a byte more, and
    `value` is data_location's.
    """
    entry = onnx.StringStringEntryProto(key="location", value="secret").SerializeToString()

    def spelled(number: int, wire: int) -> bytes:
        return varint(number << 3 | wire | (1 << bit if bit else 0), int(padded))

    body = tag(1, 0) + varint(len(SECRET)) + tag(2, 0) + varint(TensorProto.UINT8) + held(8, b"w")
    body += spelled(13, 2) + varint(len(entry)) + entry + spelled(LOCATION, 0) + varint(value)
    return _with(held(TENSOR, body), helper.make_node("Identity", ["w"], ["read"]))


def _with(more: bytes, *nodes: onnx.NodeProto) -> bytes:
    """Add nodes, and bytes of a GraphProto, to a sound graph."""
    proto = onnx.load_from_string(text_graph())
    proto.graph.node.extend(nodes)
    graph = proto.graph.SerializeToString() + more
    proto.ClearField("graph")
    return proto.SerializeToString() + held(7, graph)


def _merged() -> bytes:
    """Give a sound graph, and another that protobuf merges into it."""
    hidden = onnx.GraphProto()
    hidden.node.append(helper.make_node("EPContext", [], ["z"], domain="com.microsoft"))
    return text_graph() + held(7, hidden.SerializeToString())


OUTSIDE: Final[Mapping[str, bytes]] = {
    "plain": outside(),
    "bit 32": outside(bit=32),
    "bit 33": outside(bit=33),
    "padded": outside(padded=True),
    "cut enum": outside(value=2**32 + 1),
}
"""External data, as plain as onnx writes it and as readers may differ in it."""


def _numbers(**values: object) -> bytes:
    return b"".join(
        held(TENSOR, numpy_helper.from_array(np.asarray(v, np.int64), n).SerializeToString())
        for n, v in values.items()
    )


def _chain(kind: str, count: int, **attributes: int) -> list[onnx.NodeProto]:
    return [
        helper.make_node(kind, [f"c{i}"] * 2, [f"c{i + 1}"], **attributes)  # type: ignore[arg-type]
        for i in range(count)
    ]


FILL: Final = helper.make_node("ConstantOfShape", ["shape"], ["c0"])
_COND: Final = helper.make_tensor_value_info("c", TensorProto.BOOL, [])
_BODY: Final = helper.make_graph(
    [helper.make_node("Identity", ["c"], ["d"])],
    "body",
    [helper.make_tensor_value_info("i", TensorProto.INT64, []), _COND],
    [helper.make_tensor_value_info("d", TensorProto.BOOL, [])],
)

ENDLESS: Final[Mapping[str, bytes]] = {
    "1000 products": _with(_numbers(shape=[4096, 4096]), FILL, *_chain("MatMul", 1000)),
    "doubled 60 times": _with(_numbers(shape=[1]), FILL, *_chain("Concat", 60, axis=0)),
    "400 TB": _with(_numbers(shape=[10**14]), FILL),
    "a size that is computed": _with(
        _numbers(c0=[10]),
        *_chain("Mul", 4),
        helper.make_node("ConstantOfShape", ["c4"], ["big"]),
    ),
    "Loop": _with(b"", helper.make_node("Loop", [], [], body=_BODY)),
    "no rule": _with(_numbers(a=[[1]]), helper.make_node("Det", ["a"], ["b"])),
}

COSTLY: Final[Mapping[str, bytes]] = {
    "five million fields": text_graph() + held(7, b"\x0a\x00" * 5_000_000),
    "60 million axes": _with(held(TENSOR, held(1, b"\x01" * 60_000_000))),
    "a million axes of 63 bits": _with(held(TENSOR, held(1, (b"\xff" * 8 + b"\x7f") * 1_000_000))),
    "a name of 60 MB": _with(held(2, b"a" * 60_000_000 + "🙂".encode())),
    "5000 types in one another": _with(held(11, held(2, nested(5000)))),
}


def put(path: Path, graph: bytes, name: str) -> None:
    """Put a bundle whose manifest fits the graph."""
    scratch = tiny_bundle(path.with_name(f".{path.name}"), name=name)
    sealed(listed(MODEL, graph))(scratch).rename(path)


# ---------------------------------------------------------------------- attacks


def hidden_files(folder: Path) -> Outcome:
    """Read a file of the server's folder by a tensor that one reader sees and another does not."""
    (folder / "secret").write_bytes(SECRET)
    leaks = sum(_leaks(graph, folder) for graph in OUTSIDE.values())
    reasons, outcome = _refused_by_a_server(folder, {**OUTSIDE, "merged": _merged()})
    unread = not any(SECRET.decode() in reason for reason in reasons)
    return replace(
        outcome,
        held=outcome.held and unread and leaks > 0,
        note=f"{outcome.note}; ONNX Runtime alone would read the file by {leaks} of them",
    )


def _leaks(graph: bytes, folder: Path) -> bool:
    """Tell whether a session without attar's checks takes the file in."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        options = ort.SessionOptions()
        options.log_severity_level = 4
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception:
        return False
    finally:
        os.chdir(before)
    return True


def endless_constants(folder: Path) -> Outcome:
    """Ask a load for hours, or for terabytes, by a few kilobytes of constants."""
    return _refused_soon(folder, ENDLESS)


def costly_files(folder: Path) -> Outcome:
    """Make the check itself cost: fields, axes and names without end."""
    return _refused_soon(folder, COSTLY)


def unsigned(folder: Path) -> Outcome:
    """Put bundles that nobody signed, or somebody else, where signed ones are required."""
    ours, theirs = private_key(folder / "ours.pem", 1), private_key(folder / "theirs.pem", 2)
    trusted = public_key(folder / "trusted.pem", ours)
    bundle = Bundle.open(tiny_bundle(folder / "tiny.attar")).sign(ours).path
    models = folder / "models"
    models.mkdir()
    with (
        attacked(
            folder,
            *("--model-repository", models, "--watch-s", WATCH_S, "--require-signature", trusted),
            bundle=bundle,
        ) as server,
        Client(server.server.target) as client,
    ):
        tiny_bundle(models / ".a", name="a").rename(models / "a.attar")
        by_another = Bundle.open(tiny_bundle(models / ".b", name="b")).sign(theirs)
        by_another.path.rename(models / "b.attar")
        forged = Bundle.open(tiny_bundle(models / ".c", name="c")).sign(ours).path
        sealed(listed(MODEL, text_graph(seed=1)))(forged).rename(models / "c.attar")
        good = Bundle.open(tiny_bundle(models / ".d", name="good")).sign(ours).path
        good.rename(models / "d.attar")
        reasons = reasons_of(client, 3)
        client.load_model("good", deadline_s=DEADLINE_S)
        return server.outcome(
            held=len(reasons) == 3 and all("signed" in each for each in reasons),
            note=f"{len(reasons)} of 3 refused, and a signed one served",
        )


def _refused_soon(folder: Path, graphs: Mapping[str, bytes]) -> Outcome:
    """Check each graph here, then let a server meet it."""
    longest_s = max(_checked_s(graph) for graph in graphs.values())
    _, outcome = _refused_by_a_server(folder, graphs)
    return replace(
        outcome,
        held=outcome.held and longest_s < QUICK_S,
        note=f"{outcome.note}; the longest check took {longest_s * 1e3:.0f} ms",
    )


def _checked_s(graph: bytes) -> float:
    began = time.perf_counter()
    try:
        check_onnx(graph, "x.onnx")
    except BundleRefused:
        return time.perf_counter() - began
    return float("inf")


def _refused_by_a_server(folder: Path, graphs: Mapping[str, bytes]) -> tuple[list[str], Outcome]:
    """Put a bundle of each graph into a watched folder; give the reasons, and how it went."""
    with watching(folder) as (server, client, models):
        for i, graph in enumerate(graphs.values()):
            put(models / f"{i}.attar", graph, f"bad{i}")
        reasons = reasons_of(client, len(graphs))
        outcome = server.outcome(
            held=len(reasons) == len(graphs) and all("refused" in each for each in reasons),
            note=f"{len(reasons)} of {len(graphs)} refused",
        )
    return reasons, outcome


def reasons_of(client: Client, count: int) -> list[str]:
    """Give why models are not served, once there are so many."""
    ends = time.monotonic() + DEADLINE_S
    reasons: list[str] = []
    while len(reasons) < count and time.monotonic() < ends:
        time.sleep(0.05)
        lines = client.models(deadline_s=DEADLINE_S)
        reasons = [one.reason for one in lines if one.state == "UNAVAILABLE" and one.reason]
    return reasons


def static_graph(*, rows: int = 0, scale: float = 0.01, index: int = 0) -> bytes:
    """Give a static encoder: an int8 table, and a scale for each of its rows.

    The table has `rows` more rows than the vocabulary, and the graph reads row `index` as well.
    """
    count = len(VOCABULARY) + rows
    table = np.random.default_rng(0).integers(-127, 128, (count, 16)).astype(np.int8)
    weights: dict[str, np.ndarray] = {
        "table": table,
        "scales": np.full((count, 1), scale, np.float32),
        "last": np.array([2]),
        "middle": np.array([1]),
        "index": np.array([index]),
        "zero": np.array(0, np.float32),
    }
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["codes"]),
        helper.make_node("Cast", ["codes"], ["steps"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["scales", "input_ids"], ["scale"]),
        helper.make_node("Mul", ["steps", "scale"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["weights"]),
        helper.make_node("Mul", ["rows", "weights"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("Gather", ["scales", "index"], ["read"]),
        helper.make_node("Mul", ["read", "zero"], ["nothing"]),
        helper.make_node("Add", ["sum", "nothing"], ["pooled"]),
        helper.make_node("LpNormalization", ["pooled"], ["embedding"], axis=1, p=2),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    return graph_model(nodes, inputs, 16, weights)


def _claimed(rows: int) -> bytes:
    """Give a static encoder whose table says that it has so many rows."""
    proto = onnx.load_from_string(static_graph())
    (table,) = (one for one in proto.graph.initializer if one.name == "table")
    table.dims[0] = rows
    return proto.SerializeToString()


TABLES: Final[Mapping[str, bytes]] = {
    "a row before the first": static_graph(index=-(10**9)),
    "a row beyond the last": static_graph(index=10**12),
    "scales that are NaN": static_graph(scale=float("nan")),
    "scales that overflow": static_graph(scale=3e38),
    "a trillion rows": _claimed(10**12),
    "a row less than it has": _claimed(len(VOCABULARY) - 1),
}
"""Static encoders that no run of survives, or whose table is not what it says."""


def static_tables(folder: Path) -> Outcome:
    """Put static encoders with bad tables into a folder, and one that lacks the row of a token."""
    with watching(folder) as (server, client, models):
        for i, graph in enumerate(TABLES.values()):
            put(models / f"{i}.attar", graph, f"bad{i}")
        reasons = reasons_of(client, len(TABLES))
        put(models / "short.attar", static_graph(rows=-1), "short")
        client.load_model("short", deadline_s=DEADLINE_S)
        texts = ["the cat", f"the cat {VOCABULARY[-1]}", "the dog"] * 20
        embedded = client.embed(texts, model="short", partial=True, deadline_s=DEADLINE_S)
        failed = [bool(error) for error in embedded.errors]
        return server.outcome(
            held=len(reasons) == len(TABLES) and failed == [False, True, False] * 20,
            note=f"{len(reasons)} of {len(TABLES)} refused; of {len(texts)} texts, 20 with a token"
            f" that has no row, {sum(failed)} failed",
        )


ATTACKS: Final = (
    Attack("a tensor that one reader sees in another file", hidden_files),
    Attack("constants that compute without end", endless_constants),
    Attack("graphs that make their check cost", costly_files),
    Attack("bundles that no trusted key signed", unsigned),
    Attack("tables of static encoders that lack rows", static_tables),
)
