"""Fuzz the check of ONNX files with coverage (atheris): what attar takes, protobuf must read alike.

    pip install atheris
    python -m benchmarks.fuzz_onnx --seconds 60

It begins at benchmarks/hostile/onnx_corpus.txt, one input a line in hex, and at a sound graph. What
reached new code is kept in that file, the shortest first, which the tests of `onnx_scan.protobuf`
read. A difference, or anything raised but a refusal, ends it with status 1 and the input's path.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import atheris
import onnx
from onnx import helper

with atheris.instrument_imports(
    include=[
        "attar.onnx_scan.protobuf",
        "attar.onnx_scan.check",
        "attar.onnx_scan.constant_folding",
    ]
):
    from attar.onnx_scan.check import check_onnx

from attar.errors import BundleRefused

from .hostile.onnx_files import CORPUS, agreed, corpus
from .support.bundles import text_graph

MOST_BYTES = 256  # of an input that is kept
MOST_INPUTS = 60


def small() -> bytes:
    """Give a model of constants of every kind, in 200 bytes."""
    node = helper.make_node
    nodes = [
        node("Constant", [], ["a"], value_ints=[2, 3]),
        node("Constant", [], ["b"], value_float=0.5),
        node("ConstantOfShape", ["a"], ["c"], value=helper.make_tensor("", 7, [1], [4])),
        node("Transpose", ["c"], ["d"], perm=[1, 0]),
        node("MatMul", ["c", "d"], ["e"]),
        node("Reshape", ["e", "s"], ["f"]),
    ]
    stored = helper.make_tensor("s", 7, [1], [-1])
    graph = helper.make_graph(nodes, "", [], [onnx.ValueInfoProto(name="f")], [stored])
    return helper.make_model(graph, producer_name="").SerializeToString()


def once(data: bytes) -> None:
    """Read one input both ways, and check it as a bundle's."""
    agreed(data)
    try:
        check_onnx(data, "x.onnx")
    except BundleRefused:
        return


def main() -> int:
    """Fuzz in a process of its own, which libFuzzer ends, then keep what reached new code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--inputs", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.inputs is not None:
        options = [f"-max_total_time={arguments.seconds}", "-max_len=4096", "-reduce_inputs=1"]
        atheris.Setup([sys.argv[0], *options, str(arguments.inputs)], once)
        atheris.Fuzz()
    with tempfile.TemporaryDirectory() as scratch:
        for i, data in enumerate([*corpus(), small(), text_graph(dim=2)]):
            (Path(scratch) / f"{i}").write_bytes(data)
        again = [
            sys.executable,
            "-m",
            "benchmarks.fuzz_onnx",
            "--inputs",
            scratch,
            "--seconds",
            str(arguments.seconds),
        ]
        status = subprocess.run(again, check=False).returncode
        kept = {path.read_bytes() for path in Path(scratch).iterdir()}
    short = sorted(
        (data for data in kept if 0 < len(data) <= MOST_BYTES), key=lambda d: (len(d), d)
    )
    CORPUS.write_text("".join(f"{data.hex()}\n" for data in short[:MOST_INPUTS]), "utf-8")
    print(f"{len(kept)} inputs reach different code; {len(short[:MOST_INPUTS])} of them are kept")
    return status


if __name__ == "__main__":
    sys.exit(main())
