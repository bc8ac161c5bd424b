"""Distilling: train a small text encoder on a large one, without labels."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from attar.errors import InvalidInput

from . import digest, distributed, run_folder
from .checkpoints import encoder_folder
from .checkpoints.encoder_folder import TextModel, token_transformer
from .checkpoints.run import CHECKPOINT, read_record
from .choices import Student
from .data.pairs import Split
from .digest import SHA256
from .encoders.students import MAX_LENGTH, STATIC, student_of
from .encoders.text import TextEncoder, TextNetwork
from .huggingface import loading
from .loop import Training, fit
from .precision import best_precision
from .recipes.text import distil, static
from .resizing import quick, resized
from .run_data import TextReading, chosen, corpus, named, report, report_cut
from .sampler import evenly
from .static_init import static_from_teacher, static_shape
from .student_init import student_from_teacher
from .text_data import TextData, text_data

SAMPLE = 64  # texts that decide which feed-forward units a student keeps


@dataclass(frozen=True, slots=True)
class _Lesson:
    """How a student is trained: recipe, sources and settings, and what composes the run.

    `full_settings` are those of a run of the usual length. `dims` are the smaller widths that the
    student is trained for, rising.
    """

    recipe: str
    sources: str
    full_settings: Any
    compose: Callable[[], Training[Any]]
    prompts: Mapping[str, str]
    dims: tuple[int, ...] = ()


def distill(
    teacher_folder: str | Path,
    out: str | Path,
    *,
    student: Student = "layers",
    data: str = "docstrings",
    reading: Sequence[str] = (),
    init: Path | None = None,
    dim: int | None = None,
    steps: int | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Path:
    """Train a small text encoder on a large one and save it; give `out`, its folder.

    `teacher_folder` is as sentence-transformers saves one. `data`, `reading`, `steps`, `seed` and
    `restart` are as `pretrain` takes them. The student is one of

    - "layers": two of the teacher's layers, or the encoder in the folder `init`, trained to give
      the teacher's embeddings of the data;
    - "static": a table of the teacher's tokens, `dim` wide (256), trained by contrast of the pairs.

    Raises the errors of `pretrain`, and InvalidInput where teacher and student have different
    tokenizers, or an argument is not of this student.
    """
    folder, out = Path(teacher_folder), Path(out)
    if student == "static" and init is not None:
        raise InvalidInput("a static student starts from its teacher's tokens; leave --init out")
    if student == "layers" and dim is not None:
        raise InvalidInput("only a static student has a width of its own; leave --dim out")
    teacher = loading.read(folder)
    start = _start(init, teacher, folder) if student == "layers" else None
    parts = corpus(named(data), reading, what="distill")
    if start is None:
        lesson = _static_lesson(teacher, parts, dim=dim or STATIC.dim, steps=steps, seed=seed)
    else:
        lesson = _layers_lesson(
            teacher, start, parts, is_teacher=init is None, steps=steps, seed=seed
        )
    lineage = {
        "recipe": lesson.recipe,
        "data": run_folder.source(data, out, parts),
        "read": chosen(TextReading(), reading),
        "teacher": {**teacher.lineage, SHA256: digest.of_path(folder)},
        "init": None if init is None else run_folder.start(init),
        "settings": run_folder.settings_of(lesson.full_settings, but=("seed", "steps")),
    }
    run_folder.begin(out, lineage, restart=restart)
    training = lesson.compose()
    fit(training, out=out, lineage=lineage, restart=restart, precision=best_precision())
    if distributed.rank() == 0:
        student_model = TextModel(
            encoder=cast("TextNetwork", training.method.encoder),
            tokenizer=teacher.tokenizer,
            dims=lesson.dims,
            prompts=lesson.prompts,
            lineage=run_folder.story(read_record(out / CHECKPOINT), lesson.sources),
            licence=teacher.licence,
        )
        encoder_folder.save(student_model, out)
        report(f"encoder written to {out}; next: attar export {out} NAME.attar")
    return out


def _layers_lesson(
    teacher: TextModel[TextNetwork],
    start: TextModel[TextEncoder],
    parts: Split,
    *,
    is_teacher: bool,
    steps: int | None,
    seed: int,
) -> _Lesson:
    """Plan the distillation into some of the teacher's layers, or into another encoder."""
    longest = min(teacher.encoder.max_length, start.encoder.max_length, MAX_LENGTH)
    texts = _texts(parts, teacher, max_length=longest)
    student = start_student(start, texts) if is_teacher else start.encoder
    full_settings, settings = _settings(distil.Settings(), parts, steps=steps, seed=seed)

    def compose() -> Training[Any]:
        report("the teacher embeds the corpus")
        return distil.build(texts, distil.targets(teacher.encoder, texts), student, settings)

    return _Lesson("distil", distil.SOURCES, full_settings, compose, teacher.prompts)


def _static_lesson(
    teacher: TextModel[TextNetwork], parts: Split, *, dim: int, steps: int | None, seed: int
) -> _Lesson:
    """Plan the contrast of pairs in a table of the teacher's tokens."""
    shape = static_shape(teacher.tokenizer, dim=dim)
    widths = tuple(width for width in static.Settings().widths if width < dim)
    usual = replace(static.Settings(), widths=widths, shape=shape)
    usual = replace(usual, steps=static.steps(len(parts.train), usual.batch_size))
    texts = _texts(parts, teacher, max_length=shape.max_length)
    full_settings, settings = _settings(usual, parts, steps=steps, seed=seed)

    def compose() -> Training[Any]:
        report("the teacher embeds its tokens")
        read = (*texts.pairs.first, *texts.pairs.second)
        table = static_from_teacher(teacher.encoder, teacher.tokenizer, read, shape=shape)
        return static.contrast(texts, table, settings)

    # Texts have no prompt here in training, and a prompt's rows would be added to every text.
    return _Lesson("static", static.SOURCES, full_settings, compose, {}, widths[::-1])


def _texts(parts: Split, teacher: TextModel[TextNetwork], *, max_length: int) -> TextData:
    texts = quick(text_data(parts, teacher.tokenizer, max_length=max_length))
    report_cut(texts, max_length=max_length)
    return texts


def _settings(recipe: Any, parts: Split, *, steps: int | None, seed: int) -> tuple[Any, Any]:
    """Give the settings of a run of the usual length, and of this one's."""
    items = len(parts.train)
    full_settings, settings = (
        resized(recipe, steps=number, seed=seed, items=items) for number in (None, steps)
    )
    run_folder.say_small(settings, items=items, usual=recipe.batch_size)
    return full_settings, settings


def _start(
    init: Path | None, teacher: TextModel[TextNetwork], folder: Path
) -> TextModel[TextEncoder]:
    """Give the encoder that a student of layers starts from: the teacher, or that in `init`."""
    start = token_transformer(teacher) if init is None else encoder_folder.load_text(init)
    if start.tokenizer != teacher.tokenizer:
        raise InvalidInput(
            f"{init} has another tokenizer than the teacher; pretrain with --tokenizer "
            f"{_tokenizer_of(folder, teacher)}"
        )
    return start


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
