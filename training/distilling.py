"""Distilling: a small text encoder learns a large one's embeddings, without labels."""

from collections.abc import Sequence
from pathlib import Path

from attar.errors import InvalidInput

from . import digest, distributed, run_folder
from .checkpoints import encoder_folder
from .checkpoints.encoder_folder import TextModel, token_transformer
from .checkpoints.run import CHECKPOINT, read_record
from .digest import SHA256
from .encoders.students import MAX_LENGTH, student_of
from .encoders.text import TextEncoder
from .huggingface import loading
from .loop import fit
from .precision import best_precision
from .recipes.text import distil
from .resizing import quick, resized
from .run_data import TextReading, chosen, corpus, named, report, report_cut
from .sampler import evenly
from .student_init import student_from_teacher
from .text_data import TextData, text_data

SAMPLE = 64  # texts that decide which feed-forward units a student keeps


def distill(
    teacher_folder: str | Path,
    out: str | Path,
    *,
    data: str = "docstrings",
    reading: Sequence[str] = (),
    init: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Path:
    """Teach a small text encoder a large one's embeddings, and save it; give the folder, `out`.

    The teacher is a sentence-transformers folder. `data` and `reading` are as `pretrain` takes
    them, `init` is an encoder folder to start from; without one the student starts from the
    teacher's first and last layer. Raises what `pretrain` raises, and InvalidInput where teacher
    and student have two tokenizers.
    """
    folder, out = Path(teacher_folder), Path(out)
    teacher = loading.read(folder)
    start = token_transformer(teacher) if init is None else encoder_folder.load_text(init)
    if start.tokenizer != teacher.tokenizer:
        own = folder / "tokenizer.json"
        has_file = own.is_file() and own.read_bytes() == teacher.tokenizer
        shipped = f"the tokenizer.json of the bundle that `attar import {folder}` writes"
        raise InvalidInput(
            f"{init} has another tokenizer than the teacher; "
            f"pretrain with --tokenizer {own if has_file else shipped}"
        )
    parts = corpus(named(data), reading, what="distill")
    longest = min(teacher.encoder.max_length, start.encoder.max_length, MAX_LENGTH)
    texts = quick(text_data(parts, teacher.tokenizer, max_length=longest))
    report_cut(texts, max_length=longest)
    student = start_student(start, texts) if init is None else start.encoder
    full_settings, settings = (
        resized(distil.Settings(), steps=number, seed=seed, items=len(parts.train))
        for number in (None, steps)
    )
    run_folder.say_small(settings, items=len(parts.train), usual=distil.Settings().batch_size)
    lineage = {
        "recipe": "distil",
        "data": run_folder.source(data, out, parts),
        "read": chosen(TextReading(), reading),
        "teacher": {**teacher.lineage, SHA256: digest.of_path(folder)},
        "init": None if init is None else run_folder.start(init),
        "settings": run_folder.settings_of(full_settings, but=("seed", "steps")),
    }
    run_folder.begin(out, lineage, restart=restart)
    report("the teacher embeds the corpus")
    targets = distil.targets(teacher.encoder, texts)
    training = distil.build(texts, targets, student, settings)
    fit(training, out=out, lineage=lineage, restart=restart, precision=best_precision())
    if distributed.rank() != 0:
        return out
    encoder_folder.save(
        TextModel(
            encoder=student,
            tokenizer=teacher.tokenizer,
            prompts=teacher.prompts,
            lineage=run_folder.story(read_record(out / CHECKPOINT), distil.SOURCES),
            licence=teacher.licence,
        ),
        out,
    )
    report(f"encoder written to {out}; next: attar export {out} NAME.attar")
    return out


def start_student(teacher: TextModel[TextEncoder], texts: TextData) -> TextEncoder:
    """Start the default student from its teacher: of its layers, the first and the last."""
    sample = evenly(texts.pairs.second, SAMPLE)
    theirs = teacher.encoder.shape
    layers = sorted({0, theirs.transformer.depth - 1})
    return student_from_teacher(
        teacher.encoder, student_of(theirs, depth=len(layers)), layers=layers, sample=sample
    )
