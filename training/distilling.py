"""Distilling: train a small text encoder on the embeddings of a large one, without labels."""

from collections.abc import Sequence
from pathlib import Path

from attar.errors import InvalidInput

from . import digest, distributed, run_folder
from .checkpoints import encoder_folder
from .checkpoints.encoder_folder import TextModel, token_transformer
from .checkpoints.run import CHECKPOINT, read_record
from .digest import SHA256
from .encoders.students import MAX_LENGTH, student_of
from .encoders.text import TextEncoder, TextNetwork
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
    """Train a small text encoder on a large one's embeddings, and save it; give `out`, its folder.

    `teacher_folder` is as sentence-transformers saves one. `data`, `reading`, `steps`, `seed` and
    `restart` are as `pretrain` takes them. `init` is the folder of an encoder to start from; by
    default the student starts from the teacher's first and last layer. Raises the errors of
    `pretrain`, and InvalidInput where teacher and student have different tokenizers.
    """
    folder, out = Path(teacher_folder), Path(out)
    teacher = loading.read(folder)
    start = _start(init, teacher, folder)
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
    if distributed.rank() == 0:
        _save(student, teacher, out)
    return out


def _start(
    init: Path | None, teacher: TextModel[TextNetwork], folder: Path
) -> TextModel[TextEncoder]:
    """Give the encoder that the student starts from; the teacher in `folder`, without `init`."""
    start = token_transformer(teacher) if init is None else encoder_folder.load_text(init)
    if start.tokenizer != teacher.tokenizer:
        raise InvalidInput(
            f"{init} has another tokenizer than the teacher; pretrain with --tokenizer "
            f"{_tokenizer_of(folder, teacher)}"
        )
    return start


def _save(student: TextEncoder, teacher: TextModel[TextNetwork], out: Path) -> None:
    """Save the student with its teacher's tokenizer, prompts and licence."""
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


def _tokenizer_of(folder: Path, teacher: TextModel[TextNetwork]) -> str:
    """Say which file is the tokenizer of a teacher; not every folder has one as it is used."""
    path = folder / "tokenizer.json"
    if path.is_file() and path.read_bytes() == teacher.tokenizer:
        return str(path)
    return f"the tokenizer.json of the bundle that `attar import {folder}` writes"


def start_student(teacher: TextModel[TextEncoder], texts: TextData) -> TextEncoder:
    """Build the default student from its teacher's first and last layer."""
    sample = evenly(texts.pairs.second, SAMPLE)
    theirs = teacher.encoder.shape
    layers = sorted({0, theirs.transformer.depth - 1})
    return student_from_teacher(
        teacher.encoder, student_of(theirs, depth=len(layers)), layers=layers, sample=sample
    )
