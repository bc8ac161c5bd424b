"""Latency and memory against length: fused softmax, linear and binarized attention.

    python -m benchmarks.attention --out benchmarks/results/attention.json

About 5 minutes on one core. Each variant of one encoder with random weights, in ViT-Tiny's sizes
but for the depth, embeds one series of tokens at each length, in a process of its own so that its
peak memory is its own. Variants take turns at a length. The baseline is the best of what ONNX
Runtime has for softmax on a CPU: its MultiHeadAttention, which never holds all n^2 weights.

Binarized attention is measured in both of its forms, in standard operators and as the one operator
of attar-native; besides, one layer of it alone: all that stands between the projections.

For all variants alike the fusion SkipLayerNormalization is switched off: its kernel for CPUs costs
more than the addition and LayerNormalization that it replaces.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import NodeProto, helper

WIDTH, DEPTH, HEADS, HIDDEN = 192, 4, 3, 768
LENGTHS = (128, 256, 512, 1024, 2048, 4096, 8192, 16384)
CALIBRATION = 512  # tokens
TARGETS = {4096: 7.0, 16384: 20.0}  # times faster than fused softmax, binarized in int8
DISABLED = ["SkipLayerNormFusion"]
ALONE = "attention"  # one layer's, without its projections
LEAST_RUNS, MOST_RUNS, SECONDS = 3, 50, 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One graph to be timed: a variant of the encoder, or attention alone, by its operators."""

    variant: str
    operators: Literal["standard", "native"] = "standard"
    graph: bytes


def forms() -> list[Form]:
    """Export every variant of the encoder: tokens (batch, length, width) in, embedding out."""
    import torch
    from torch import Tensor, nn

    from attar.export.graph import to_onnx
    from attar.export.passes.binarized import quantize_binarized
    from attar.export.passes.quantize import quantize_int8
    from attar.export.targets.native import use_native
    from attar.manifest import TensorSpec
    from attar.training.encoders.attention import (
        BinarizedAttention,
        LinearAttention,
        SoftmaxAttention,
    )
    from attar.training.encoders.transformer import Attention, TokenTransformer, TransformerConfig

    shape = TransformerConfig(width=WIDTH, depth=DEPTH, heads=HEADS, hidden=HIDDEN)
    spec = TensorSpec(name="tokens", dtype="float32", shape=("batch", "length", WIDTH))

    class Encoder(nn.Module):
        def __init__(self, attention: Attention) -> None:
            super().__init__()
            self.transformer = TokenTransformer(shape, attention=attention)

        def forward(self, tokens: Tensor) -> Tensor:
            pooled: Tensor = self.transformer(tokens, None).mean(1)
            return pooled

    class Alone(nn.Module):
        def __init__(self, attention: BinarizedAttention) -> None:
            super().__init__()
            for projection in ("query_key", "value", "out"):
                setattr(attention, projection, nn.Identity())
            self.attention = attention

        def forward(self, tokens: Tensor) -> Tensor:
            mixed: Tensor = self.attention(tokens, None)
            return mixed

    def exported(module: nn.Module) -> bytes:
        return to_onnx(module, (torch.randn(2, 8, WIDTH),), (spec,), output="embedding")

    def encoder(attention: Attention) -> bytes:
        torch.manual_seed(0)
        return exported(Encoder(attention))

    static = partial(BinarizedAttention, static_sigma=True)
    feeds = [{"tokens": series(CALIBRATION)}]
    softmax, binarized = encoder(SoftmaxAttention), encoder(static)
    both = {
        "binarized_fp32": binarized,
        "binarized_int8": quantize_binarized(binarized, feeds),
        ALONE: exported(Alone(static(WIDTH, HEADS))),
    }
    return [
        Form(variant="softmax_fp32", graph=fused(softmax)),
        Form(variant="softmax_int8", graph=fused(quantize_int8(softmax, feeds))),
        Form(variant="linear_fp32", graph=encoder(LinearAttention)),
        *(
            form
            for name, graph in both.items()
            for form in (
                Form(variant=name, graph=graph),
                Form(variant=name, operators="native", graph=use_native(graph)),
            )
        ),
    ]


def series(length: int) -> NDArray[np.float32]:
    """Make one row of tokens, always the same."""
    return np.random.default_rng(length).standard_normal((1, length, WIDTH), np.float32)


def fused(graph: bytes) -> bytes:
    """Put ONNX Runtime's MultiHeadAttention in place of each softmax and what surrounds it."""
    model = onnx.load_from_string(graph)
    made = {name: node for node in model.graph.node for name in node.output}
    readers = {name: node for node in model.graph.node for name in node.input}

    def entering(name: str) -> str:
        while made[name].op_type in ("Transpose", "Reshape", "Mul", "Div"):
            name = made[name].input[0]
        return name

    nodes: dict[str, NodeProto] = {}
    for node in model.graph.node:
        if node.op_type != "Softmax":
            continue
        logits = made[node.input[0]]
        while logits.op_type != "MatMul":
            logits = made[logits.input[0]]
        mixed = readers[node.output[0]]
        merged = readers[readers[mixed.output[0]].output[0]]
        q, k, v = (entering(name) for name in (*logits.input, mixed.input[1]))
        nodes[merged.output[0]] = helper.make_node(
            "MultiHeadAttention",
            [q, k, v],
            [merged.output[0]],
            domain="com.microsoft",
            num_heads=HEADS,
        )
    if len(nodes) != DEPTH:
        raise RuntimeError(f"{len(nodes)} of {DEPTH} softmax layers were fused")
    needed, kept = {value.name for value in model.graph.output}, []
    for node in (nodes.get(node.output[0], node) for node in reversed(model.graph.node)):
        if needed.intersection(node.output):
            kept.append(node)
            needed.update(node.input)
    del model.graph.node[:]
    model.graph.node.extend(reversed(kept))
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    serialized: bytes = model.SerializeToString()
    return serialized


def measure(path: Path, length: int, threads: int, *, native: bool) -> dict[str, float | int]:
    """Time one graph at one length in this process, and give its peak memory."""
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    if native:
        import attar_native

        options.register_custom_ops_library(str(attar_native.LIBRARY))
    session = ort.InferenceSession(
        str(path), options, providers=["CPUExecutionProvider"], disabled_optimizers=DISABLED
    )
    feed = {"tokens": series(length)}
    session.run(None, feed)  # the first one allocates
    wall: list[float] = []
    cpu: list[float] = []
    while len(wall) < LEAST_RUNS or (len(wall) < MOST_RUNS and sum(wall) < SECONDS):
        began, burnt = time.perf_counter(), time.process_time()
        session.run(None, feed)
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - burnt)
    # VmHWM and not ru_maxrss, which begins at what the parent had when it forked.
    status = Path("/proc/self/status").read_text("utf-8").splitlines()
    peak = next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))
    return {
        "p50_ms": round(statistics.median(wall) * 1e3, 3),
        "cpu_p50_ms": round(statistics.median(cpu) * 1e3, 3),
        "runs": len(wall),
        "peak_mb": round(peak * 1024 / 1e6, 1),
    }


def rows(lengths: Sequence[int], threads: int) -> Iterator[dict[str, object]]:
    """Measure every form at every length, each in a child process."""
    with tempfile.TemporaryDirectory(prefix="attar-") as scratch:
        found = forms()
        paths = [Path(scratch) / f"{form.variant}.{form.operators}.onnx" for form in found]
        for form, path in zip(found, paths, strict=True):
            path.write_bytes(form.graph)
        for length in lengths:
            for form, path in zip(found, paths, strict=True):
                command = [sys.executable, "-m", "benchmarks.attention", "--child", str(path)]
                command += ["--lengths", str(length), "--threads", str(threads)]
                command += ["--native"] if form.operators == "native" else []
                done = subprocess.run(command, capture_output=True, check=True, text=True)
                yield {
                    "variant": form.variant,
                    "operators": form.operators,
                    "length": length,
                    "threads": threads,
                    **json.loads(done.stdout),
                }


def label(row: Mapping[str, object]) -> str:
    """Name what was measured, and its operators where they are not the standard ones."""
    native = "_native" if row["operators"] == "native" else ""
    return f"{row['variant']}{native}"


def summary(rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Say from which length on each variant is the faster, and by how much."""
    ms = {(label(row), row["length"]): float(str(row["p50_ms"])) for row in rows}
    lengths = sorted({int(str(row["length"])) for row in rows})
    others = sorted({label(row) for row in rows} - {"softmax_fp32"})
    speedups = {
        other: {n: round(ms["softmax_fp32", n] / ms[other, n], 2) for n in lengths}
        for other in others
    }
    return {
        "times_faster_than_softmax_fp32": speedups,
        "faster_from_length_on": {
            other: next((n for n in lengths if all(ratios[m] > 1 for m in lengths if m >= n)), None)
            for other, ratios in speedups.items()
        },
        "us_per_token": {
            variant: {n: round(ms[variant, n] / n * 1e3, 2) for n in lengths}
            for variant in ("softmax_fp32", *others)
        },
        "targets": {
            n: {
                "aimed_at": aim,
                "standard": speedups["binarized_int8"][n],
                "native": speedups["binarized_int8_native"][n],
            }
            for n, aim in TARGETS.items()
            if n in lengths
        },
    }


def main() -> None:
    """Measure, print the table and the crossover, and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--lengths", type=int, nargs="+", default=LENGTHS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--native", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        length, threads = arguments.lengths[0], arguments.threads
        print(json.dumps(measure(arguments.child, length, threads, native=arguments.native)))
        return

    from attar.host import describe

    measured = []
    for row in rows(arguments.lengths, arguments.threads):
        measured.append(row)
        print(*row.values(), sep="\t", flush=True)  # the table's columns, in the rows' order
    found = [row for row in measured if row["variant"] != ALONE]
    said = summary(found)
    print(json.dumps(said, indent=2))
    report = {
        "rows": found,
        "alone": [row for row in measured if row["variant"] == ALONE],
        "summary": said,
        "sizes": {"width": WIDTH, "depth": DEPTH, "heads": HEADS, "hidden": HIDDEN},
        "command": "python -m benchmarks.attention --out benchmarks/results/attention.json",
        "machine": describe(),
    }
    if arguments.out:
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
