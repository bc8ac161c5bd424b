"""The encoders of the ladder: how each is trained, and what embeds texts with it."""

import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import attar
from attar.bundle import Bundle
from attar.export.text import export_text
from attar.inputs import Role
from attar.training import adapt, distill
from attar.training.adaptation.pair_split import documents_of, make_pairs
from attar.training.checkpoints.encoder_folder import attention_kinds
from attar.training.pretrained import load_text_checkpoint
from attar.training.recipes.text.adapt import Settings
from attar.training.sampler import evenly

from .environments import environment
from .ladder_tasks import Home, Vectors

ROOT = Path(__file__).parents[1]
LENGTH = 256  # tokens, which the teacher reads
WIDTHS = (64, 128, 256)  # that adapted encoders and students of layers are trained for
CALIBRATION = 64  # texts that parity is checked on, and int8 calibrated with
VARIANTS = {"fp32": "fp32_fused", "int8": "int8"}  # by precision
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "model2vec": ("model2vec[distill]==0.10.0",),
    "wordllama": ("wordllama==0.4.0.post1",),
    "sentence_transformers": ("accelerate==1.15.0",),
    "fastembed": ("fastembed==0.9.1",),
}
MODEL2VEC_DIM = 256

Embed = Callable[[Sequence[str], Role], tuple[Vectors, float]]
"""Texts in a role to embeddings (n, d) and the CPU seconds that they took."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One precision of an encoder, the bytes of its weights, and what embeds."""

    precision: str
    bytes: int
    embed: Embed


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """Where encoders are kept, the teacher's folder, and the threads of training."""

    folder: Path
    teacher: Path
    threads: int

    def of(self, encoder: str, home: str | None, seed: int) -> Path:
        """Give the folder of an encoder that was trained on `home`."""
        return self.folder / (home or "nothing") / f"{encoder}-{seed}"

    def adapted(self, home: Home, seed: int) -> Path:
        """Give the encoder's folder of the adapted teacher, which students are distilled from."""
        return self.of(TEACHER, home.name, seed) / "encoder"

    def seeds(self, encoder: str, home: str | None) -> list[int]:
        """Give the seeds at which an encoder was trained to the end."""
        done = (self.folder / (home or "nothing")).glob(f"{encoder}-*/built.json")
        return sorted(int(path.parent.name.rpartition("-")[2]) for path in done)


@contextmanager
def built(folder: Path) -> Iterator[dict[str, Any]]:
    """Note the CPU seconds of what is done inside, unless they are noted in what it is given."""
    folder.mkdir(parents=True, exist_ok=True)
    notes: dict[str, Any] = {}
    began = time.process_time()
    yield notes
    notes.setdefault("train_seconds", round(time.process_time() - began, 1))
    (folder / "built.json").write_text(json.dumps(notes), "utf-8")


def notes_of(folder: Path) -> dict[str, Any]:
    """Read what was noted of an encoder."""
    notes: dict[str, Any] = json.loads((folder / "built.json").read_text("utf-8"))
    return notes


def build(encoder: str, home: Home, seed: int, work: Work) -> Path:
    """Train an encoder on a corpus unless it is there; give its folder."""
    folder = work.of(encoder, home.name if encoder in TRAINED else None, seed)
    if not (folder / "built.json").exists():
        if encoder in STUDENTS:  # before the student's seconds are counted
            build(TEACHER, home, seed, work)
        with built(folder) as notes:
            BUILDERS[encoder](home, seed, work, folder, notes)
    return folder


def variants(
    encoder: str, folder: Path, work: Work, home: Home, precisions: Sequence[str]
) -> list[Variant]:
    """Give what embeds with an encoder that was built, at those precisions that it has."""
    if encoder in REQUIREMENTS:
        return [_rival(encoder, folder)]
    trained = work.teacher if encoder == "teacher" else folder / "encoder"
    loaded = []
    for precision in precisions:
        bundle = _bundle(trained, folder / f"{precision}.attar", home, precision)
        names = {variant.name for variant in bundle.manifest.variants}
        fitting = [name for name in (VARIANTS[precision], precision) if name in names]
        loaded += [_variant(bundle, precision, name) for name in fitting[:1]]
    return loaded


def _adapted(home: Home, seed: int, work: Work, folder: Path, _: dict[str, Any]) -> None:
    data = str(home.write(folder / "documents.jsonl"))
    adapt(work.teacher, folder / "encoder", data=data, widths=WIDTHS, seed=seed)


def _layers(count: int, home: Home, seed: int, work: Work, folder: Path, _: dict[str, Any]) -> None:
    data, teacher = str(home.write(folder / "documents.jsonl")), work.adapted(home, seed)
    distill(
        teacher,
        folder / "encoder",
        data=data,
        layers=count,
        length=LENGTH,
        widths=WIDTHS,
        seed=seed,
    )


def _two_layers(*arguments: Any) -> None:
    _layers(2, *arguments)


def _six_layers(*arguments: Any) -> None:
    _layers(6, *arguments)


def _static(home: Home, seed: int, work: Work, folder: Path, _: dict[str, Any]) -> None:
    data, teacher = str(home.write(folder / "documents.jsonl")), work.adapted(home, seed)
    distill(teacher, folder / "encoder", student="static", data=data, seed=seed)


def _model2vec(_: Home, __: int, work: Work, folder: Path, notes: dict[str, Any]) -> None:
    job = {"teacher": str(work.teacher), "dim": MODEL2VEC_DIM, "model": str(folder / "encoder")}
    notes["train_seconds"] = round(_child("model2vec", {"do": "train", **job}), 1)


def _sentence_transformers(
    home: Home, seed: int, work: Work, folder: Path, notes: dict[str, Any]
) -> None:
    """Train on the pairs of an adapted encoder, with its batches, steps and rate."""
    data = str(home.write(folder / "documents.jsonl"))
    pairs = make_pairs(documents_of(data), None, seed=seed).train
    file, usual = folder / "pairs.json", Settings()
    steps = max(usual.steps, len(pairs) // usual.batch_size)
    texts = [{"query": pair.summary, "passage": pair.body} for pair in pairs]
    file.write_text(json.dumps(texts), "utf-8")
    job = {
        "teacher": str(work.teacher),
        "model": str(folder / "encoder"),
        "pairs": str(file),
        "steps": steps,
        "batch_size": usual.batch_size,
        "rate": usual.rate,
        "warmup": usual.warmup,
        "weight_decay": usual.weight_decay,
        "temperature": usual.temperature,
        "seed": seed,
        "threads": work.threads,
    }
    notes["train_seconds"] = round(_child("sentence_transformers", {"do": "train", **job}), 1)
    notes["steps"] = steps


def _nothing(*_: Any) -> None:
    """Train nothing: the encoder comes as it is used."""


BUILDERS: Mapping[str, Callable[[Home, int, Work, Path, dict[str, Any]], None]] = {
    "teacher": _nothing,
    "adapted": _adapted,
    "two_layers": _two_layers,
    "static": _static,
    "six_layers": _six_layers,
    "model2vec": _model2vec,
    "wordllama": _nothing,
    "sentence_transformers": _sentence_transformers,
    "fastembed": _nothing,
}
TEACHER = "adapted"  # of the students
STUDENTS = frozenset({"two_layers", "six_layers", "static"})
TRAINED = frozenset(BUILDERS) - {"teacher", "model2vec", "wordllama", "fastembed"}
"""The encoders that are trained on a corpus."""


def _bundle(trained: Path, path: Path, home: Home, precision: str) -> Bundle:
    """Export an encoder, with int8 calibrated on texts of the corpus that it was trained on."""
    if path.exists():
        return Bundle.open(path)
    model = load_text_checkpoint(trained)
    fp32 = (VARIANTS["fp32"],) if attention_kinds(model.encoder) else ()
    texts = [line[key] for line in home.lines for key in ("summary", "body", "text") if key in line]
    return export_text(
        path,
        model,
        name="encoder",
        texts=evenly(texts, CALIBRATION),
        probe=None,
        metric=None,
        variants=fp32 if precision == "fp32" else (precision,),
    ).bundle


def _variant(bundle: Bundle, precision: str, name: str) -> Variant:
    encoder = attar.load(bundle, variant=name, threads=1)

    def embed(texts: Sequence[str], role: Role) -> tuple[Vectors, float]:
        began = time.process_time()
        vectors = encoder.embed(texts, role=role).vectors
        return vectors, time.process_time() - began

    size = bundle.manifest.file(bundle.manifest.variant(name).file).bytes
    return Variant(precision=precision, bytes=size, embed=embed)


def _rival(kind: str, folder: Path) -> Variant:
    """Give a rival that embeds in a process of its own."""

    def embed(texts: Sequence[str], _: Role) -> tuple[Vectors, float]:
        with tempfile.TemporaryDirectory() as scratch:
            file, vectors = Path(scratch) / "texts.json", Path(scratch) / "vectors.npy"
            file.write_text(json.dumps(list(texts)), "utf-8")
            job = {"do": "embed", "model": str(folder / "encoder"), "texts": str(file)}
            seconds = _child(kind, {**job, "vectors": str(vectors)})
            return np.load(vectors), seconds

    size = sum(path.stat().st_size for path in _weights(kind, folder))
    return Variant(precision="fp32", bytes=size, embed=embed)


def _weights(kind: str, folder: Path) -> Iterator[Path]:
    """Give the files of a rival's weights."""
    if kind == "wordllama":
        return (_site(kind) / "wordllama").rglob("*.safetensors")
    if kind == "fastembed":
        return Path(os.environ.get("FASTEMBED_CACHE_PATH", "nowhere")).rglob("*.onnx")
    return (folder / "encoder").rglob("*.safetensors")


def _site(kind: str) -> Path:
    """Give the packages of a rival's environment."""
    python = _python(kind)
    (site,) = python.parents[1].glob("lib/python*/site-packages")
    return site


def _python(kind: str) -> Path:
    """Build the environment of a rival, unless it is there, and give its Python."""
    return environment(ROOT / "build" / "ladder-rivals" / kind, REQUIREMENTS[kind], shared=True)


def _child(kind: str, job: Mapping[str, Any]) -> float:
    """Let a rival do a job; give the CPU seconds, or raise RuntimeError with its last words."""
    threads = str(job.get("threads", 1))
    done = subprocess.run(
        [_python(kind), "-m", "benchmarks.ladder_rivals", json.dumps({"kind": kind, **job})],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": threads, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:]
        raise RuntimeError(f"{kind}: {' '.join(last) or 'the process died'}")
    return float(json.loads(done.stdout.strip().splitlines()[-1])["seconds"])
