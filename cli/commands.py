"""What the training and export commands do; `main` declares their flags."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from attar.bundle import Bundle
from attar.errors import InvalidInput, NotFound
from attar.export.bundling import Exported
from attar.export.importing import import_folder as export_folder
from attar.export.measure import Probe
from attar.export.text import export_text
from attar.training.data import docstrings
from attar.training.data.pairs import Pair, Split, read_lines, split
from attar.training.data.tokenizer import train_tokenizer
from attar.training.encoders import huggingface, saved
from attar.training.encoders.saved import TextModel
from attar.training.encoders.text import TextEncoder
from attar.training.loop import fit
from attar.training.probes.summaries import SummaryRetrieval
from attar.training.precision import best_precision
from attar.training.recipe import Recipe
from attar.training.recipes import barlow_twins, digits, distil, ecoformer, simclr
from attar.training.recipes.text_pairs import STUDENT, TextData, text_data
from attar.training.student import student_from_teacher

CATALOGUE: dict[str, Recipe[Any, Any]] = {
    "barlow_twins": barlow_twins.recipe,
    "digits": digits.recipe,
    "simclr": simclr.recipe,
}
STUDENT_LAYERS = (0, 5)  # of all-MiniLM's six: the first and the last
SAMPLE = 64  # texts that decide which feed-forward units a student keeps

console = Console()


def import_folder(folder: Path, bundle: Path) -> None:
    """Write a bundle and show its parity."""
    show_exported(export_folder(folder, bundle))


def list_recipes() -> None:
    """Print one row a recipe."""
    table = Table("recipe", "family", "modality", "paper", "claim", box=None)
    for name, recipe in CATALOGUE.items():
        table.add_row(name, recipe.family, recipe.modality, recipe.paper, recipe.claim.statement)
    console.print(table)


def pretrain_text(
    name: str, out: Path, *, data: str, tokenizer: Path | None, steps: int | None, seed: int
) -> None:
    """Pretrain and save an encoder folder."""
    recipe = CATALOGUE.get(name)
    if recipe is None or recipe.modality != "text":
        text = ", ".join(key for key, value in CATALOGUE.items() if value.modality == "text")
        raise NotFound(f"there is no text recipe {name!r}; there are {text}")
    parts = corpus(data)
    words = (
        tokenizer.read_bytes()
        if tokenizer
        else train_tokenizer(text for pair in parts.train for text in (pair.summary, pair.body))
    )
    settings = resized(recipe.settings, steps=steps, seed=seed)
    training = recipe.build(text_data(parts, words), settings)
    fit(training, out=out, precision=best_precision())
    lineage = {"recipe": name, "paper": recipe.paper, "data": data, "seed": seed, "steps": settings.steps}
    encoder: TextEncoder = training.method.encoder
    saved.save(TextModel(encoder=encoder, tokenizer=words, lineage=lineage), out)
    console.print(f"encoder written to {out}; next: attar export {out} NAME.attar")


def distill_text(
    teacher_folder: Path, out: Path, *, data: str, init: Path | None, steps: int | None, seed: int
) -> None:
    """Distil and save an encoder folder."""
    teacher = huggingface.read(teacher_folder)
    texts = text_data(corpus(data), teacher.tokenizer)
    if init is None:
        student = start_student(teacher, texts)
    else:
        start = saved.load(init)
        if start.tokenizer != teacher.tokenizer:
            raise InvalidInput(f"{init} has another tokenizer than the teacher; pretrain with --tokenizer")
        student = start.encoder
    settings = resized(distil.Settings(), steps=steps, seed=seed)
    with console.status("the teacher embeds the corpus"):
        targets = distil.targets(teacher.encoder, texts)
    fit(distil.build(texts, targets, student, settings), out=out, precision=best_precision())
    lineage = {
        "recipe": "distil",
        "paper": distil.PAPER,
        "data": data,
        "teacher": dict(teacher.lineage),
        "seed": seed,
        "steps": settings.steps,
    }
    saved.save(replace(teacher, encoder=student, lineage=lineage), out)
    console.print(f"encoder written to {out}; next: attar export {out} NAME.attar")


def export_encoder(folder: Path, bundle: Path, *, data: str, binarized: bool, steps: int | None) -> None:
    """Export an encoder folder's variants."""
    model = saved.load(folder)
    parts = corpus(data)
    texts = text_data(parts, model.tokenizer, max_length=model.encoder.shape.max_length)
    hashed, notes = (recovered(model.encoder, texts, steps=steps)) if binarized else (None, {})
    exported = export_text(
        bundle,
        model,
        name=bundle.name.removesuffix(".attar"),
        texts=parity_texts(parts),
        probe=through_runtime(SummaryRetrieval.of(parts)),
        metric="recall_at_10",
        binarized=hashed,
        notes={"binarized": notes},
    )
    show_exported(exported)


def show_bundle(path: Path) -> None:
    """Verify a bundle, then print its facts and a row a variant."""
    bundle = Bundle.open(path)
    manifest = bundle.manifest
    console.print(
        f"{manifest.name} {manifest.version}: {manifest.modality}, {manifest.output.dim} dimensions, "
        f"{'up to ' + str(manifest.max_length) + ' tokens' if manifest.max_length else 'tensors'}\n"
        f"{manifest.fingerprint}"
    )
    table = Table("variant", "precision", "attention", "MB", "cosine mean", "worst", "p50 ms", box=None)
    for variant in manifest.variants:
        table.add_row(
            variant.name,
            variant.precision,
            variant.attention or "",
            f"{manifest.file(variant.file).bytes / 1e6:.1f}",
            *(f"{variant.parity.get(key, float('nan')):.6f}" for key in ("cosine_mean", "cosine_worst")),
            f"{variant.latency.p50_ms:.2f}" if variant.latency else "",
        )
    console.print(table)


def show_exported(exported: Exported) -> None:
    """Show what was written, and what was not and why."""
    show_bundle(exported.bundle.path)
    for name, reasons in exported.refused.items():
        console.print(f"[yellow]{name} was not written[/]: {'; '.join(reasons)}")


def resized(settings: Any, *, steps: int | None, seed: int) -> Any:
    """Change a recipe's seed and length; a run too short for its warm-up warms up for half of it."""
    steps = settings.steps if steps is None else steps
    return replace(settings, seed=seed, steps=steps, warmup=min(settings.warmup, steps // 2))


def corpus(data: str) -> Split:
    """Read the pairs that `--data` names and hold some out: 800, or an eighth of a small corpus."""
    pairs: tuple[Pair, ...]
    pairs = docstrings.read() if data == "docstrings" else read_lines(Path(data))
    return split(pairs, held_out=min(800, max(1, len(pairs) // 8)))


def start_student(teacher: TextModel, texts: TextData) -> TextEncoder:
    """Start the default student from its teacher."""
    return student_from_teacher(
        teacher.encoder, STUDENT, layers=STUDENT_LAYERS, sample=texts.pairs.second[:SAMPLE]
    )


def recovered(
    encoder: TextEncoder, texts: TextData, *, steps: int | None = None, out: Path | None = None
) -> tuple[TextEncoder, dict[str, object]]:
    """Binarize an encoder's attention and distil it back; give it with notes for the report."""
    settings = ecoformer.Settings()
    settings = replace(settings, recovery=resized(settings.recovery, steps=steps, seed=0))
    converted = ecoformer.convert(encoder, texts, settings)
    before = texts.probe(converted.encoder)
    targets = distil.targets(encoder, texts)
    fit(
        ecoformer.build(texts, targets, converted.encoder, settings),
        out=out,
        precision=best_precision(),
    )
    converted.encoder.eval()
    return converted.encoder, {
        "layers": list(converted.layers),
        "damage": {str(layer): cosine for layer, cosine in converted.damage.items()},
        "before_distillation": before,
        "steps": settings.recovery.steps,
    }


def parity_texts(parts: Split) -> list[str]:
    """Pick texts for parity and calibration: summaries and bodies the export may look at."""
    some = parts.train[:: max(1, len(parts.train) // 256)][:256]
    return [text for pair in some for text in (pair.summary, pair.body)]


def through_runtime(task: SummaryRetrieval) -> Probe:
    """Let the task meet a bundle's encoder by its front door."""
    return lambda encoder: task(lambda texts, role: encoder.embed(texts, role=role).vectors)
