"""Quality at length: softmax attention against binarized, on raw waveforms and outlines.

    python benchmarks/binarized_quality.py --data DATA --out build/binarized_quality.json

Two encoders of raw series learn without labels, are binarized at several code lengths and distilled
back; kNN and a linear probe judge all of them, those with 16 bits through the device runtime too.
What the softmax encoders learn is a fixed function of the series: log-mel statistics of speech, and
for outlines the responses of random convolutions (Dempster et al. 2020, arXiv:1910.13051). Digits
are spoken by six people; one of them is kept for the test and never heard in training.
"""

import argparse
import copy
import json
import lzma
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.signal import stft
from torch import Tensor, nn

import attar
from attar.export.tensor import export_tensor
from attar.host import describe
from attar.manifest import TensorSpec
from attar.training.encoders.series import SeriesEncoder, SeriesShape
from attar.training.encoders.transformer import TransformerShape
from attar.training.hashing import Hashing, binarize
from attar.training.loop import Training, fit
from attar.training.method import Method, Metrics
from attar.training.objectives.distillation import embedding_match, similarity_match
from attar.training.optimisers import parameter_groups
from attar.training.precision import best_precision
from attar.training.probes.knn import knn_accuracy
from attar.training.probes.linear import linear_accuracy
from attar.training.sampler import Sampler, evenly, seed_at
from attar.training.schedules import warmup_cosine

Floats = NDArray[np.float32]

RATE = 8000  # samples a second, of the recordings
DIM = 64  # of what is learned, and of the embeddings
BITS = (4, 8, 16, 32)
EXPORTED_BITS = 16
BATCH, HASH_ROWS = 32, 8
NEIGHBOURS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Series (n, 1, samples), what the encoder learns of them (n, DIM), and labels for probes."""

    name: str
    shape: SeriesShape
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


def spoken_digits(data: Path, *, speaker: str = "theo", samples: int = 4096, hop: int = 4) -> Task:
    """Cut every clip to its middle half second, or pad it; `speaker` is who tests."""
    folder = data / "audio-fsdd"
    packed = lzma.decompress((folder / "audio.xz").read_bytes())
    planes = np.frombuffer(packed, np.uint8).reshape(2, -1)
    zigzag = (planes[0].astype(np.uint16) << 8) | planes[1]
    difference = ((zigzag >> 1) ^ (0 - (zigzag & 1))).astype(np.uint16).view(np.int16)
    pcm = np.cumsum(difference, dtype=np.int16)
    meta = np.load(folder / "meta.npz")
    bounds = zip(meta["offset"][:-1], meta["offset"][1:], strict=True)
    clips = np.stack([_middle(pcm[start:end], samples) for start, end in bounds])
    test = meta["speaker"] == speaker
    return _task(
        Source(series=clips, features=log_mel(clips), labels=meta["digit"], test=test),
        name="spoken digits",
        shape=SeriesShape(window=64, hop=hop, transformer=_transformer(), dim=DIM),
        steps=500,
        recover_steps=150,
    )


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
        shape=SeriesShape(window=16, hop=1, transformer=_transformer(), dim=DIM),
        steps=700,
        recover_steps=150,
    )


def log_mel(clips: Floats, *, bands: int = 32, parts: int = 8) -> Floats:
    """Give log-mel energies averaged over `parts` of a clip, and their spread over all of it."""
    hertz, _, spectrum = stft(clips, RATE, nperseg=256, noverlap=192)
    highest = 2595 * np.log10(1 + RATE / 2 / 700)
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


def _transformer() -> TransformerShape:
    return TransformerShape(width=64, depth=2, heads=4, hidden=256, norm="pre", norm_eps=1e-5)


def _middle(clip: NDArray[np.int16], samples: int) -> Floats:
    loud = clip.astype(np.float32) / (np.abs(clip).max() + 1)
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


def _task(source: Source, *, name: str, shape: SeriesShape, steps: int, recover_steps: int) -> Task:
    test, train = source.test, ~source.test
    series = torch.from_numpy(source.series)[:, None]
    lesson = torch.from_numpy(_whiten(source.features, train))
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


def _whiten(features: Floats, train: NDArray[np.bool_]) -> Floats:
    """Keep the `DIM` directions of most variance in training, each scaled to variance one."""
    scaled = (features - features[train].mean(0)) / (features[train].std(0) + 1e-6)
    _, values, directions = np.linalg.svd(scaled[train], full_matrices=False)
    spread = values[:DIM] / np.sqrt(train.sum())
    white: Floats = (scaled @ directions[:DIM].T / spread).astype(np.float32)
    return white


class Follow(Method[tuple[Tensor, Tensor]]):
    """Move an encoder's embeddings, and their similarities, to given ones."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder

    def loss(self, batch: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, Metrics]:  # noqa: ARG002
        """Compare the embeddings of a batch of series with the goals beside them."""
        series, goals = batch
        embeddings = self.encoder(series)
        return embedding_match(embeddings, goals) + similarity_match(embeddings, goals), {}


def follow(encoder: nn.Module, task: Task, goals: Tensor, *, steps: int, rate: float) -> None:
    """Train `encoder` in place on shifted, scaled and noisy series."""
    sampler = Sampler(items=len(task.train), batch_size=BATCH, seed=0)

    def batches(step: int) -> tuple[Tensor, Tensor]:
        rows = sampler(step)
        generator = torch.Generator().manual_seed(seed_at(0, step, 1))
        return altered(task.train[rows], generator), goals[rows]

    method = Follow(encoder)
    training = Training(
        method=method,
        batches=batches,
        optimiser=torch.optim.AdamW(parameter_groups(method, weight_decay=0.01), betas=(0.9, 0.98)),
        rate=warmup_cosine(rate, 20, steps),
        steps=steps,
        seed=0,
    )
    fit(training, precision=best_precision())
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


def run(runtime: attar.Encoder, series: Tensor) -> Floats:
    """Give the same through the device runtime."""
    vectors: Floats = runtime.embed(series.numpy()).vectors
    return vectors


def probe(task: Task, read: Callable[[Tensor], Floats]) -> dict[str, float]:
    """Judge embeddings, however `read` makes them."""
    sets = read(task.train), task.labels, read(task.test), task.labels_test
    return {"knn": knn_accuracy(*sets, k=NEIGHBOURS), "linear": linear_accuracy(*sets)}


def measure(task: Task) -> list[dict[str, object]]:
    """Train, binarize, recover and export; give a row for each encoder."""
    facts = {"data": task.name, "length": task.tokens}
    rows: list[dict[str, object]] = []

    def add(attention: str, precision: str, bits: int | None, **figures: object) -> None:
        row = facts | {"attention": attention, "precision": precision, "bits": bits} | figures
        rows.append(row)
        print(json.dumps(row), flush=True)

    lessons = task.lesson.numpy(), task.labels, task.lesson_test.numpy(), task.labels_test
    add(
        "none: what is learned",
        "fp32",
        None,
        knn=knn_accuracy(*lessons, k=NEIGHBOURS),
        linear=linear_accuracy(*lessons),
    )
    torch.manual_seed(0)
    softmax = SeriesEncoder(task.shape)
    began = time.perf_counter()
    follow(softmax, task, task.lesson, steps=task.steps, rate=1e-3)
    add(
        "softmax",
        "fp32",
        None,
        **probe(task, partial(embed, softmax)),
        train_seconds=round(time.perf_counter() - began),
    )
    goals = torch.from_numpy(embed(softmax, task.train))
    few = task.train[evenly(range(len(task.train)), HASH_ROWS)]
    for bits in BITS:
        hashed = copy.deepcopy(softmax)
        layers = range(len(hashed.transformer.blocks))
        generator = torch.Generator().manual_seed(0)
        binarize(hashed, (few,), layers=layers, hashing=Hashing(bits=bits), generator=generator)
        before = probe(task, partial(embed, hashed))
        follow(hashed, task, goals, steps=task.recover_steps, rate=5e-4)
        after = probe(task, partial(embed, hashed))
        add("binarized", "fp32", bits, **after, before_distillation=before)
        if bits == EXPORTED_BITS:
            chosen = hashed
    exported(task, softmax, chosen, add)
    return rows


def exported(
    task: Task, softmax: SeriesEncoder, hashed: SeriesEncoder, add: Callable[..., None]
) -> None:
    """Judge the exported graphs through the device runtime."""
    spec = TensorSpec(name="series", dtype="float32", shape=("batch", *task.train.shape[1:]))
    items = task.train[evenly(range(len(task.train)), 256)].numpy()
    with tempfile.TemporaryDirectory() as folder:
        for attention, encoder, bits in (
            ("softmax", softmax, None),
            ("binarized", hashed, EXPORTED_BITS),
        ):
            path = Path(folder) / f"{attention}.attar"
            made = export_tensor(
                path,
                encoder,
                name=attention,
                spec=spec,
                items=items,
                modality="series",
                variants=("int8",),
            )
            for variant in made.bundle.manifest.variants:
                runtime = attar.load(path, variant=variant.name)
                figures = probe(task, partial(run, runtime))
                cosines = made.measured[variant.name]
                add(
                    attention,
                    f"{variant.precision}, exported",
                    bits,
                    **figures,
                    cosine_worst=cosines.cosine_worst,
                )


def main() -> None:
    """Measure both data sets and write what was seen after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="the folder of data sets")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows: list[dict[str, object]] = []
    for read in (outlines, spoken_digits):
        rows += measure(read(arguments.data))
        report = {
            "rows": rows,
            "command": "python benchmarks/binarized_quality.py --data DATA --out OUT",
            "precision": best_precision(),
            "machine": describe(),
        }
        arguments.out.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
