"""What the training and export commands do; `app` declares their flags."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.table import Column, Table

from attar.errors import InvalidInput
from attar.export.bundling import Exported, refuse_taken
from attar.export.importing import import_folder
from attar.export.measure import Probe
from attar.export.targets.native import NATIVE, refuse_without_library
from attar.export.tensor import VARIANTS as TENSOR_VARIANTS
from attar.export.tensor import export_model
from attar.export.text import VARIANTS, export_text
from attar.training import digest, distributed
from attar.training.catalogue import catalogue
from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.encoder_folder import TensorModel, TextModel, token_transformer
from attar.training.checkpoints.run import CHECKPOINT, read_record
from attar.training.data.molecules import read_smiles
from attar.training.data.pairs import Split
from attar.training.data.reading import SHIPPED
from attar.training.data.text import Retrieval
from attar.training.digest import SHA256
from attar.training.encoders.attention import CODE_BITS
from attar.training.encoders.pooling import Pooling
from attar.training.encoders.text import TextEncoder, TextNetwork
from attar.training.hashing import Hashing
from attar.training.huggingface import loading
from attar.training.huggingface.config import Declared
from attar.training.huggingface.vision_audio import Side
from attar.training.loop import fit
from attar.training.precision import best_precision
from attar.training.probes.summaries import SummaryRetrieval
from attar.training.recipes.text import distil, ecoformer
from attar.training.recipes.text.common import MAX_LENGTH, TextData, student_of, text_data
from attar.training.sampler import evenly
from attar.training.student_init import student_from_teacher

from . import runs
from .console import console, show_bundle
from .reading import TextReading, chosen, corpus, has_smiles, named, read_source, show_cut

SAMPLE = 64  # texts that decide which feed-forward units a student keeps
PROBED = 1000  # documents of a probe while training
MEND = "--attention softmax leaves that variant out"
PARITY_PAIRS = 256  # two texts each: parity in a minute, and enough to calibrate on


def import_bundle(
    folder: Path,
    bundle: Path,
    *,
    pooling: Pooling | None,
    normalize: bool,
    prompts: Mapping[str, str],
    dims: str,
    tower: Side | None,
    max_seconds: float | None,
    variants: Sequence[str],
    calibration: Path | None,
) -> None:
    """Write a bundle and show its parity."""
    declared = Declared(
        pooling=pooling,
        normalize=normalize,
        prompts={role: prompt for role, prompt in prompts.items() if prompt},
        dims=widths(dims),
    )
    texts = [] if calibration is None else lines(calibration)
    exported = import_folder(
        folder,
        bundle,
        declared=declared,
        side=tower,
        max_seconds=max_seconds,
        variants=variants,
        calibration=texts,
    )
    _show_exported(exported)


def lines(path: Path) -> list[str]:
    """Read a text file's lines that hold something, two or more."""
    try:
        found = [line for line in path.read_text("utf-8-sig").split("\n") if line.strip()]
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8 text: {error}") from error
    if len(found) < 2:
        raise InvalidInput(f"{path} has {len(found)} lines of text; give two or more")
    return found


def widths(text: str) -> tuple[int, ...]:
    """Read widths that commas part, such as 64,128, in rising order."""
    try:
        return tuple(sorted({int(word) for word in text.split(",") if text}))
    except ValueError:
        raise InvalidInput(f"--dims takes widths such as 64,128; got {text!r}") from None


def list_recipes() -> None:
    """Print one row a recipe."""
    whole = Column("recipe", min_width=max(map(len, catalogue())))  # names are typed as they stand
    table = Table(whole, "family", "modality", "paper", "claim", box=None)
    for name, recipe in catalogue().items():
        table.add_row(name, recipe.family, recipe.modality, recipe.paper, recipe.claim.statement)
    console.print(table, soft_wrap=False)


def distill_text(
    folder: Path,
    out: Path,
    *,
    data: str,
    reading: Sequence[str],
    init: Path | None,
    steps: int | None,
    seed: int,
    restart: bool,
) -> None:
    """Distil the teacher in `folder` and save the student's."""
    teacher = loading.read(folder)
    start = token_transformer(teacher) if init is None else encoder_folder.load_text(init)
    if start.tokenizer != teacher.tokenizer:
        own = folder / "tokenizer.json"
        whole = own.is_file() and own.read_bytes() == teacher.tokenizer
        shipped = f"the tokenizer.json of the bundle that `attar import {folder}` writes"
        raise InvalidInput(
            f"{init} has another tokenizer than the teacher; "
            f"pretrain with --tokenizer {own if whole else shipped}"
        )
    parts = corpus(named(data), reading, what="distill")
    longest = min(teacher.encoder.max_length, start.encoder.max_length, MAX_LENGTH)
    texts = quick(text_data(parts, teacher.tokenizer, max_length=longest))
    show_cut(texts, max_length=longest)
    student = start_student(start, texts) if init is None else start.encoder
    asked, settings = (
        resized(distil.Settings(), steps=number, seed=seed, items=len(parts.train))
        for number in (None, steps)
    )
    runs.say_small(settings, items=len(parts.train), usual=distil.Settings().batch_size)
    lineage = {
        "recipe": "distil",
        "data": runs.source(data, out, parts),
        "read": chosen(TextReading(), reading),
        "teacher": {**teacher.lineage, SHA256: digest.of_path(folder)},
        "init": None if init is None else runs.start(init),
        "settings": runs.settings_of(asked, but=("seed", "steps")),
    }
    runs.begin(out, lineage, restart=restart)
    with console.status("the teacher embeds the corpus"):
        targets = distil.targets(teacher.encoder, texts)
    training = distil.build(texts, targets, student, settings)
    fit(training, out=out, lineage=lineage, restart=restart, precision=best_precision())
    if distributed.rank() != 0:
        return
    _save(
        TextModel(
            encoder=student,
            tokenizer=teacher.tokenizer,
            prompts=teacher.prompts,
            lineage=runs.story(read_record(out / CHECKPOINT), distil.PAPER),
            licence=teacher.licence,
        ),
        out,
    )


def export_encoder(
    folder: Path,
    bundle: Path,
    *,
    data: str | None,
    reading: Sequence[str] = (),
    binarized: ecoformer.Settings | None,
    asked: bool = False,
    native: bool = False,
) -> None:
    """Export the variants of an encoder that attar or Hugging Face's libraries saved.

    Where attention cannot be binarized, that is left out, unless it was `asked` for.
    """
    variants = (*VARIANTS, *NATIVE) if native else VARIANTS
    refuse_taken(bundle, overwrite=False)
    refuse_without_library(variants)
    model = read_encoder(folder)
    if isinstance(model, TensorModel):
        if asked:
            raise InvalidInput(
                f"{folder} holds an encoder of {model.encoder.modality}, and export binarizes "
                f"attention of texts' alone; {MEND}"
            )
        _export_tensors(model, bundle, data=data, reading=reading)
        return
    data = "docstrings" if data is None else named(data)
    parts = None
    if not has_smiles(data, reading):
        parts = corpus(data, reading, what="this encoder", least=2)
    hashed, notes = None, {}
    if binarized:
        try:
            hashed, notes["binarized"] = _hashed(model, parts, binarized)
        except InvalidInput as error:
            if asked:
                raise InvalidInput(f"{error}; {MEND}") from error
            console.print(f"binarized is left out: {error}")
    exported = export_text(
        bundle,
        model,
        name=bundle.name.removesuffix(".attar"),
        texts=parity_texts(parts) if parts else evenly(read_smiles(Path(data)), PARITY_PAIRS),
        probe=through_runtime(SummaryRetrieval.of(parts)) if parts else None,
        metric="recall_at_10" if parts else None,
        variants=variants,
        binarized=hashed,
        notes=notes,
    )
    _show_exported(exported)


def _hashed(
    model: TextModel[TextNetwork], parts: Split | None, binarized: ecoformer.Settings
) -> tuple[TextEncoder, Mapping[str, object]]:
    """Binarize an encoder's attention and recover it on pairs; raises InvalidInput if it cannot."""
    trained = token_transformer(model)
    if parts is None:
        raise InvalidInput(
            "the table is read as SMILES, and what is binarized recovers on pairs of texts"
        )
    texts = text_data(parts, model.tokenizer, max_length=trained.encoder.max_length)
    return recovered(trained.encoder, quick(texts), texts.probe, binarized)


def _export_tensors(
    model: TensorModel, bundle: Path, *, data: str | None, reading: Sequence[str]
) -> None:
    """Export an encoder of tensors; parity and int8 see some of the data it names, or noise."""
    items = None
    if data is None and reading:
        raise InvalidInput(f"--read {reading[0]} says how --data is read, and there is none")
    if data is not None:
        # Images come in all sizes, and the encoder takes one.
        sized = model.encoder.modality == "image" and data not in SHIPPED
        side = cast("int", model.input.shape[-1]) if sized else None
        source = read_source(data, reading, modality=model.encoder.modality, side=side)
        items = source.train[torch.tensor(evenly(range(len(source.train)), PARITY_PAIRS))].numpy()
    exported = export_model(
        bundle,
        model,
        name=bundle.name.removesuffix(".attar"),
        items=items,
        variants=TENSOR_VARIANTS,
    )
    _show_exported(exported)


def conversion(
    *,
    layers: str | None,
    bits: int | None,
    beta: float | None,
    static_sigma: bool,
    steps: int | None,
) -> ecoformer.Settings:
    """Read the flags of `--attention binarized`; what is None is the recipe's."""
    chosen = None
    if layers is not None:
        try:
            chosen = tuple(int(layer) for layer in layers.split(","))
        except ValueError:
            raise InvalidInput(
                f"--layers are numbers from 0, with commas between; got {layers!r}"
            ) from None
    return ecoformer.Settings(
        layers=chosen,
        hashing=Hashing(bits=bits or CODE_BITS, beta=beta, static_sigma=static_sigma),
        recovery=replace(ecoformer.RECOVERY, steps=steps or ecoformer.RECOVERY.steps),
    )


def read_encoder(folder: Path) -> TextModel[TextNetwork] | TensorModel:
    """Read a folder that attar saved, or a sentence-transformers or transformers one."""
    encoder_folder.refuse_two_models(folder)
    if any((folder / name).exists() for name in ("modules.json", "config.json")):
        return loading.read(folder)
    return encoder_folder.load(folder)


def quick(texts: TextData) -> TextData:
    """Probe among fewer documents, so that a probe on the way costs seconds."""
    documents = texts.probe.documents[: max(PROBED, len(texts.probe.queries))]
    return replace(texts, probe=replace(texts.probe, documents=documents))


def resized(settings: Any, *, steps: int | None, seed: int, items: int | None = None) -> Any:
    """Fit a recipe's settings to a run of `steps` on `items` rows.

    A run too short for its warm-up warms up for half of it; a batch has no more than all rows.
    """
    steps = settings.steps if steps is None else steps
    batch = settings.batch_size if items is None else min(settings.batch_size, items)
    warmup = min(settings.warmup, steps // 2)
    return replace(settings, seed=seed, steps=steps, warmup=warmup, batch_size=batch)


def start_student(teacher: TextModel[TextEncoder], texts: TextData) -> TextEncoder:
    """Start the default student from its teacher: of its layers, the first and the last."""
    sample = evenly(texts.pairs.second, SAMPLE)
    theirs = teacher.encoder.shape
    layers = sorted({0, theirs.transformer.depth - 1})
    return student_from_teacher(
        teacher.encoder, student_of(theirs, depth=len(layers)), layers=layers, sample=sample
    )


def recovered(
    encoder: TextEncoder, texts: TextData, exam: Retrieval, settings: ecoformer.Settings
) -> tuple[TextEncoder, dict[str, object]]:
    """Binarize an encoder's attention and distil it back; give it with notes for the report.

    `exam` is what the notes say of it before distillation; raises InvalidInput as `convert` does.
    """
    items = len(texts.pairs.first)
    recovery = settings.recovery
    settings = replace(
        settings,
        recovery=resized(recovery, steps=recovery.steps, seed=recovery.seed, items=items),
    )
    converted = ecoformer.convert(encoder, ecoformer.sample(texts), settings)
    before = exam(converted.encoder)
    targets = distil.targets(encoder, texts)
    fit(ecoformer.build(texts, targets, converted.encoder, settings), precision=best_precision())
    converted.encoder.eval()
    return converted.encoder, {
        "layers": list(converted.layers),
        "hashing": asdict(settings.hashing),
        "damage": {str(layer): cosine for layer, cosine in converted.damage.items()},
        "before_distillation": before,
        "steps": settings.recovery.steps,
    }


def parity_texts(parts: Split) -> list[str]:
    """Pick texts for parity and calibration: summaries and bodies the export may look at."""
    some = evenly(parts.train, PARITY_PAIRS)
    return [text for pair in some for text in (pair.summary, pair.body)]


def through_runtime(task: SummaryRetrieval) -> Probe:
    """Let the task meet a bundle's encoder by its front door."""
    return lambda encoder: task(lambda texts, role: encoder.embed(texts, role=role).vectors)


def _save(model: TextModel[TextEncoder], out: Path) -> None:
    encoder_folder.save(model, out)
    console.print(f"encoder written to {out}; next: attar export {out} NAME.attar")


def _show_exported(exported: Exported) -> None:
    """Show what was written, and what was not and why."""
    show_bundle(exported.bundle.path)
    for name, reasons in exported.refused.items():
        console.print(f"{name} was not written: {'; '.join(reasons)}", style="yellow")
