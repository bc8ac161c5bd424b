"""Quality at length: softmax attention against binarized, on raw waveforms and outlines.

    python -m benchmarks.binarized_quality --data DATA --out build/binarized_quality.json

Two encoders of raw series learn without labels, are binarized at several code lengths and distilled
back to themselves; kNN and a linear probe judge all of them, in fp32 and int8, by what the device
runtime gives. What the softmax encoders learn is a fixed function of the series: log-mel statistics
of speech, and for outlines the responses of random convolutions (Dempster et al. 2020,
arXiv:1910.13051). Digits are spoken by six people; two of them are kept for the test and never
heard in training. About half an hour on two cores.
"""

import argparse
import json
import lzma
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import stft
from torch import Tensor, nn

import attar
from attar.bundle import Bundle
from attar.export.graph import to_onnx
from attar.export.measure import cosine
from attar.export.passes.binarized import quantize_binarized
from attar.export.passes.quantize import quantize_int8
from attar.host import describe
from attar.manifest import Manifest, Output, TensorSpec, Variant
from attar.training.binarizing import Conversion, convert
from attar.training.encoders.series import SeriesConfig, SeriesEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.hashing import Hashing
from attar.training.loop import Training, fit
from attar.training.method import Method, Metrics
from attar.training.objectives.distillation import embedding_match, similarity_match
from attar.training.optimisers import parameter_groups
from attar.training.precision import best_precision
from attar.training.probes.knn import knn_hits
from attar.training.probes.linear import linear_hits
from attar.training.sampler import Sampler, evenly, seed_at
from attar.training.schedules import warmup_cosine

Hits = NDArray[np.bool_]
Row = dict[str, object]
Floats = NDArray[np.float32]

HERTZ = 8000  # samples a second, of the recordings
SPEAKERS = ("theo", "yweweler")  # who test: the last two of six by name
DIM = 64  # of what is learned, and of the embeddings
BITS = (4, 8, 16, 32)
BATCH, HASH_ROWS, CALIBRATION_ROWS = 32, 8, 64
RATE, RECOVERY_RATE = 2e-3, 6e-3  # the greatest, of training and of distillation
NEIGHBOURS = 5
JOBS = 2  # at a time, with a thread each: small products gain nothing by two
REDRAWS = 2000  # of the test rows, for an interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Series (n, 1, samples), what the encoder learns of them (n, DIM), and labels for probes."""

    name: str
    shape: SeriesConfig
    steps: int
    recover_steps: int
    train: Tensor
    test: Tensor
    lesson: Tensor
    lesson_test: Tensor
    labels: NDArray[np.int64]
    labels_test: NDArray[np.int64]

    @property
    def tokens(self) -> int:
        """Give the number of tokens of a series."""
        return self.train.shape[-1] // self.shape.hop


Read = Callable[[Path], Task]
"""A data set, read from the folder of all."""


@cache
def spoken_digits(data: Path, *, samples: int = 4096, hop: int = 4) -> Task:
    """Cut every clip to its middle half second, or pad it; `SPEAKERS` test."""
    folder = data / "audio-fsdd"
    packed = lzma.decompress((folder / "audio.xz").read_bytes())
    planes = np.frombuffer(packed, np.uint8).reshape(2, -1)
    zigzag = (planes[0].astype(np.uint16) << 8) | planes[1]
    difference = ((zigzag >> 1) ^ (0 - (zigzag & 1))).astype(np.uint16).view(np.int16)
    pcm = np.cumsum(difference, dtype=np.int16)
    meta = np.load(folder / "meta.npz")
    bounds = zip(meta["offset"][:-1], meta["offset"][1:], strict=True)
    clips = np.stack([_middle(pcm[start:end], samples) for start, end in bounds])
    test = np.isin(meta["speaker"], SPEAKERS)
    return _task(
        Source(series=clips, features=log_mel(clips), labels=meta["digit"], test=test),
        name="spoken digits",
        shape=SeriesConfig(window=64, hop=hop, transformer=_transformer(), dim=DIM),
        steps=600,
        recover_steps=300,
    )


@cache
def outlines(data: Path) -> Task:
    """Read ShapesAll: 512 distances from the centre of a shape along its outline, 60 classes."""
    archive = np.load(data / "timeseries-ucr" / "ucr.npz")
    train, test = (archive[f"ShapesAll_X_{part}"] for part in ("train", "test"))
    series = np.concatenate([train, test])
    source = Source(
        series=series,
        features=random_convolutions(series, seed=0),
        labels=np.concatenate([archive["ShapesAll_y_train"], archive["ShapesAll_y_test"]]),
        test=np.arange(len(series)) >= len(train),
    )
    return _task(
        source,
        name="ShapesAll",
        shape=SeriesConfig(window=16, hop=1, transformer=_transformer(), dim=DIM),
        steps=400,
        recover_steps=400,
    )


def log_mel(clips: Floats, *, bands: int = 32, parts: int = 8) -> Floats:
    """Give log-mel energies averaged over `parts` of a clip, and their spread over all of it."""
    hertz, _, spectrum = stft(clips, HERTZ, nperseg=256, noverlap=192)
    highest = 2595 * np.log10(1 + HERTZ / 2 / 700)
    edges = 700 * (10 ** (np.linspace(100, highest, bands + 2) / 2595) - 1)
    low, middle, high = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    filters = np.minimum((hertz - low) / (middle - low), (high - hertz) / (high - middle)).clip(0)
    energy = np.log(filters @ np.abs(spectrum) ** 2 + 1e-6)  # (n, bands, frames)
    means = [part.mean(2) for part in np.array_split(energy, parts, axis=2)]
    return np.concatenate([*means, energy.std(2)], axis=1).astype(np.float32)


def random_convolutions(series: Floats, *, seed: int, kernels: int = 1000) -> Floats:
    """Give each random kernel's greatest response, and how often it is positive."""
    draw = np.random.default_rng(seed)
    features = []
    x = torch.from_numpy(series)[:, None]
    for _ in range(kernels):
        length = int(draw.choice([7, 9, 11]))
        weight = draw.normal(size=length)
        dilation = int(2 ** draw.uniform(0, np.log2((series.shape[1] - 1) / (length - 1))))
        kernel = torch.from_numpy((weight - weight.mean()).astype(np.float32))[None, None]
        response = nn.functional.conv1d(x, kernel, padding="same", dilation=dilation)[:, 0]
        bias = float(draw.uniform(-1, 1))
        features += [response.amax(1), (response + bias > 0).float().mean(1)]
    return torch.stack(features, 1).numpy()


def _transformer() -> TransformerConfig:
    return TransformerConfig(width=64, depth=2, heads=2, hidden=128, norm="pre", norm_eps=1e-5)


def _middle(clip: NDArray[np.int16], samples: int) -> Floats:
    loud = clip.astype(np.float32)
    loud = (loud - loud.mean()) / (loud.std() + 1)
    start = max(0, (len(loud) - samples) // 2)
    loud = loud[start : start + samples]
    before = (samples - len(loud)) // 2
    return np.pad(loud, (before, samples - len(loud) - before))


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Series (n, samples) with a fixed function of each (n, f), labels, and who tests."""

    series: Floats
    features: Floats
    labels: NDArray[np.int64]
    test: NDArray[np.bool_]


def _task(
    source: Source, *, name: str, shape: SeriesConfig, steps: int, recover_steps: int
) -> Task:
    test, train = source.test, ~source.test
    series = torch.from_numpy(source.series)[:, None]
    lesson = torch.from_numpy(_condensed(source.features, train))
    return Task(
        name=name,
        shape=shape,
        steps=steps,
        recover_steps=recover_steps,
        train=series[train],
        test=series[test],
        lesson=lesson[train],
        lesson_test=lesson[test],
        labels=source.labels[train],
        labels_test=source.labels[test],
    )


def _condensed(features: Floats, train: NDArray[np.bool_]) -> Floats:
    """Keep the `DIM` directions of most variance in training, half way to equal variances.

    With equal ones most of the lesson is noise, and as they are a few directions are all of it.
    """
    scaled = (features - features[train].mean(0)) / (features[train].std(0) + 1e-6)
    _, values, directions = np.linalg.svd(scaled[train], full_matrices=False)
    spread = values[:DIM] / np.sqrt(train.sum())
    condensed: Floats = (scaled @ directions[:DIM].T / np.sqrt(spread)).astype(np.float32)
    return condensed


class Follow(Method[tuple[Tensor, Tensor]]):
    """Move an encoder's embeddings, and their similarities, to given ones."""

    def __init__(self, encoder: SeriesEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def loss(self, batch: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, Metrics]:
        """Compare the embeddings of a batch of series with their targets."""
        series, goals = batch
        found = self.encoder(series)
        return embedding_match(found, goals) + similarity_match(found, goals), {}


Goals = Callable[[Tensor, Tensor], Tensor]
"""What to give for some training rows, by their places and as they were altered: (n, DIM)."""


def follow(encoder: SeriesEncoder, task: Task, goals: Goals, *, steps: int, rate: float) -> None:
    """Train `encoder` in place to give `goals` of shifted, scaled and noisy series."""
    sampler = Sampler(items=len(task.train), batch_size=BATCH, seed=0)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        rows = sampler(step)
        generator = torch.Generator().manual_seed(seed_at(0, step, 1))
        series = altered(task.train[rows], generator)
        return series, goals(torch.as_tensor(rows), series)

    method = Follow(encoder)
    training = Training(
        method=method,
        batches=batches,
        optimiser=torch.optim.AdamW(parameter_groups(method, weight_decay=0.01), betas=(0.9, 0.98)),
        rate=warmup_cosine(rate, 20, steps),
        steps=steps,
        seed=0,
    )
    fit(training, precision=best_precision(), progress=False)
    encoder.eval()


def altered(series: Tensor, generator: torch.Generator) -> Tensor:
    """Shift each series by up to 2 % of its length, scale it by up to a quarter, add noise."""
    most = max(1, series.shape[-1] // 50)
    shifts = torch.randint(-most, most + 1, (len(series),), generator=generator).tolist()
    moved = torch.stack([row.roll(shift, -1) for row, shift in zip(series, shifts, strict=True)])
    scale = 0.75 + 0.5 * torch.rand(len(series), 1, 1, generator=generator)
    return moved * scale + 0.01 * torch.randn(series.shape, generator=generator)


@torch.no_grad()
def embed(encoder: nn.Module, series: Tensor) -> Floats:
    """Give (n, DIM) embeddings."""
    vectors: Floats = torch.cat([encoder(part) for part in torch.split(series, BATCH)]).numpy()
    return vectors


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What two probes find of the test rows (m,), and the test rows' embeddings (m, DIM)."""

    knn: Hits
    linear: Hits
    vectors: Floats

    @property
    def figures(self) -> dict[str, float]:
        """Give both accuracies."""
        return {"knn": float(self.knn.mean()), "linear": float(self.linear.mean())}

    def against(self, softmax: "Judged") -> dict[str, object]:
        """Give what is lost of softmax's accuracies, each with its interval, and the cosines."""
        cosines = cosine(self.vectors, softmax.vectors)
        return {
            "knn_lost": lost(softmax.knn, self.knn),
            "linear_lost": lost(softmax.linear, self.linear),
            "cosine_mean": float(cosines.mean()),
            "cosine_worst": float(cosines.min()),
        }


def judge(task: Task, read: Callable[[Tensor], Floats]) -> Judged:
    """Judge embeddings, however `read` makes them."""
    train, test = read(task.train), read(task.test)
    sets = train, task.labels, test, task.labels_test
    return Judged(knn=knn_hits(*sets, k=NEIGHBOURS), linear=linear_hits(*sets), vectors=test)


def lost(softmax: Hits, other: Hits) -> dict[str, float]:
    """Give the accuracy lost, and the middle 95 % of it over redraws of the test rows in pairs."""
    each = softmax.astype(float) - other
    draw = np.random.default_rng(0).integers(len(each), size=(REDRAWS, len(each)))
    low, high = np.quantile(each[draw].mean(axis=1), [0.025, 0.975])
    return {"mean": float(each.mean()), "low": float(low), "high": float(high)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    """A binarized encoder, what it was before it was distilled, and how long that took."""

    encoder: SeriesEncoder
    before: Judged
    seconds: float


def recovered(task: Task, softmax: SeriesEncoder, bits: int) -> Recovered:
    """Binarize a copy of the softmax encoder, and distil it back to what it was.

    The softmax encoder is asked of each series as the other sees it, altered: few rows then teach
    the whole function (Beyer et al. 2022, arXiv:2106.05237).
    """

    @torch.no_grad()
    def goals(_: Tensor, series: Tensor) -> Tensor:
        taught: Tensor = softmax(series)
        return taught

    made = convert(
        softmax,
        (task.train[evenly(range(len(task.train)), HASH_ROWS)],),
        Conversion(
            layers=tuple(range(len(softmax.transformer.blocks))), hashing=Hashing(bits=bits)
        ),
    )
    encoder = made.encoder
    before = judge(task, partial(embed, encoder))
    began = time.perf_counter()
    follow(encoder, task, goals, steps=task.recover_steps, rate=RECOVERY_RATE)
    return Recovered(encoder=encoder, before=before, seconds=time.perf_counter() - began)


def lesson(task: Task) -> dict[str, float]:
    """Judge what the encoders learn, as if it were embeddings."""
    return judge(replace(task, train=task.lesson, test=task.lesson_test), Tensor.numpy).figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """A softmax encoder, its judgement in each precision, and how long it took to train."""

    encoder: SeriesEncoder
    judged: dict[str, Judged]
    lesson: dict[str, float]
    seconds: float


def taught(read: Read, data: Path) -> Taught:
    """Train a softmax encoder on a data set, and judge it."""
    task = read(data)
    torch.manual_seed(0)
    encoder = SeriesEncoder(task.shape)
    began = time.perf_counter()
    follow(encoder, task, lambda rows, _: task.lesson[rows], steps=task.steps, rate=RATE)
    return Taught(
        encoder=encoder,
        seconds=time.perf_counter() - began,
        judged=judge_exported(task, encoder, attention="softmax"),
        lesson=lesson(task),
    )


def softmax_rows(read: Read, data: Path, softmax: Taught) -> list[Row]:
    """Tell of the softmax encoder."""
    task = read(data)
    return [
        row(
            task, softmax, judged, attention="softmax", precision=precision, seconds=softmax.seconds
        )
        for precision, judged in softmax.judged.items()
    ]


def binarized_rows(read: Read, data: Path, softmax: Taught, bits: int) -> list[Row]:
    """Binarize a softmax encoder with codes of `bits`, recover it, and judge it."""
    task = read(data)
    made = recovered(task, softmax.encoder, bits)
    before = made.before.figures | made.before.against(softmax.judged["fp32"])
    judged_as = judge_exported(task, made.encoder, attention="binarized")
    return [
        row(
            task,
            softmax,
            judged,
            attention="binarized",
            precision=precision,
            bits=bits,
            seconds=made.seconds,
        )
        | {"before_distillation": before}
        for precision, judged in judged_as.items()
    ]


def row(
    task: Task,
    softmax: Taught,
    judged: Judged,
    *,
    attention: str,
    precision: str,
    bits: int | None = None,
    seconds: float,
) -> Row:
    """Give one encoder's figures with its name and settings."""
    return {
        "data": task.name,
        "attention": attention,
        "precision": precision,
        "bits": bits,
        "length": task.tokens,
        "test_rows": len(task.test),
        **judged.figures,
        **judged.against(softmax.judged["fp32"]),
        "train_seconds": round(seconds),
    }


def judge_exported(task: Task, encoder: SeriesEncoder, *, attention: str) -> dict[str, Judged]:
    """Judge the exported graph, and it in int8, each by what the device runtime makes of it.

    Every product is in int8 but those that decide a code, and codes are exact; no gate is asked, so
    that the table shows what one would refuse.
    """
    spec = TensorSpec(name="series", dtype="float32", shape=("batch", *task.train.shape[1:]))
    graph = to_onnx(encoder, (task.train[:2],), (spec,), output="embedding")
    items = task.train[evenly(range(len(task.train)), CALIBRATION_ROWS)]
    feeds = [{spec.name: part.numpy()} for part in torch.split(items, BATCH)]
    quantize = quantize_binarized if attention == "binarized" else quantize_int8
    graphs = {"fp32": graph, "int8": quantize(graph, feeds)}
    manifest = Manifest(
        name=attention,
        version="1",
        modality="series",
        inputs=(spec,),
        output=Output(name="embedding", dim=encoder.dim, dims=(encoder.dim,), normalized=True),
        reference="fp32",
        variants=tuple(
            Variant(name=name, file=f"{name}.onnx", precision=name, attention=attention)
            for name in graphs
        ),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "series.attar"
        Bundle.write(path, manifest, {f"{name}.onnx": made for name, made in graphs.items()})
        return {
            name: judge(task, partial(run, attar.load(path, variant=name, threads=1)))
            for name in graphs
        }


def run(runtime: attar.Encoder, series: Tensor) -> Floats:
    """Give the same through the device runtime."""
    vectors: Floats = runtime.embed(series.numpy()).vectors
    return vectors


def main() -> None:
    """Measure both data sets, a job to a core, and write what is known after each job."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    data = arguments.data
    began = time.perf_counter()
    os.environ["OMP_NUM_THREADS"] = "1"  # of each job, which inherits it
    lessons: dict[str, dict[str, float]] = {}
    rows: list[Row] = []
    with ProcessPoolExecutor(JOBS, mp_context=multiprocessing.get_context("spawn")) as pool:
        teaching = {pool.submit(taught, read, data): read for read in (spoken_digits, outlines)}
        judging: list[Future[list[Row]]] = []
        for done in as_completed(teaching):
            read, softmax = teaching[done], done.result()
            rows += softmax_rows(read, data, softmax)
            lessons[read(data).name] = softmax.lesson
            judging += [pool.submit(binarized_rows, read, data, softmax, bits) for bits in BITS]
        for made in as_completed(judging):
            rows += made.result()
            print(f"{len(rows)} rows, {time.perf_counter() - began:.0f} s", flush=True)
            report = {
                "rows": sorted(rows, key=lambda row: (row["data"], row["bits"] or 0)),
                "what_is_learned": lessons,
                "intervals": f"95 %, {REDRAWS:,} redraws of the test rows, two encoders in pairs",
                "command": "python -m benchmarks.binarized_quality --data DATA --out OUT",
                "minutes": round((time.perf_counter() - began) / 60, 1),
                "training_precision": best_precision(),
                "jobs_at_a_time": JOBS,
                "machine": {**describe(), "torch": torch.__version__},
            }
            arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
