"""Distilling: train a small encoder on a large one, without labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from attar.errors import InvalidInput

from . import digest, distributed, run_folder
from .checkpoints import encoder_folder
from .checkpoints.encoder_folder import TextModel
from .checkpoints.run import CHECKPOINT, read_record
from .choices import Student
from .digest import SHA256
from .distillation.images import distill_images, is_image_teacher
from .distillation.layer_student import LayerOptions, plan_layer_student
from .distillation.static_student import plan_static_student
from .early_stopping import BEST
from .encoders.students import STATIC
from .encoders.text import TextNetwork
from .loop import fit
from .precision import best_precision
from .pretrained import load_text_checkpoint
from .run_data import TextReading, chosen, corpus, named, report

LEAST: Mapping[Student, int] = {"layers": 4, "static": 3}
"""Pairs: two to train on and one that judges; where weights are chosen, one that validates."""


def distill(
    teacher_folder: str | Path,
    out: str | Path,
    *,
    student: Student = "layers",
    data: str = "docstrings",
    reading: Sequence[str] = (),
    init: Path | None = None,
    layers: int | Sequence[int] | None = None,
    length: int | None = None,
    widths: Sequence[int] = (),
    general: Path | None = None,
    min_cosine: float | None = None,
    dim: int | None = None,
    encoder: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    restart: bool = False,
) -> Path:
    """Train a small encoder on a large one and save it; give `out`, its folder.

    The teacher may be of images: a network by name (timm:NAME or torch:MODULE:FACTORY), or a folder
    that attar wrote. Its student is an image encoder by name, `encoder` ("small"), which learns the
    teacher's embeddings of the images that `data` holds, `reading` gives its side, and the teacher
    sees them at its own. The report compares both on the test part, or on one image in eight. All
    that follows is of texts.

    `teacher_folder` is one of attar's, such as an adapted encoder's, or of Hugging Face's
    libraries. `data`, `reading`, `steps`, `seed` and `restart` are as `pretrain` takes them. The
    `student` is one of

    - "layers": some of the teacher's layers, or the encoder in the folder `init`, trained to give
      the teacher's embeddings of the data and to find the pairs;
    - "static": a table of the teacher's tokens, `dim` wide (256), trained by contrast of the pairs.

    Held-out pairs judge the student: `report.json` in the folder has the figures of student and
    teacher with their intervals.

    What follows is for layers alone. `layers` are how many, spread from the first to the last (2),
    or which, by their numbers from 0. Texts are cut at `length` tokens, by default at what teacher
    and student read, up to 128. `widths` are those that the embedding may be cut to, by default the
    teacher's. The weights that are saved are those of the probe that finds other held-out pairs
    best. The report also says how far both agree on `general`, a file of a text a line, by default
    descriptions of the installed packages. Where the mean cosine there is below `min_cosine`
    (0.35), the student is refused with InvalidInput, and the run's files stay.

    Raises the errors of `pretrain`, and InvalidInput where teacher and student have different
    tokenizers, for layers, a length or widths that there are not, or an argument that is not of
    this student.
    """
    folder, out = Path(teacher_folder), Path(out)
    if is_image_teacher(teacher_folder):
        _refuse_of_texts(
            student=student != "layers",
            init=init,
            layers=layers,
            length=length,
            widths=widths,
            general=general,
            min_cosine=min_cosine,
            dim=dim,
        )
        return distill_images(
            teacher_folder,
            out,
            data=data,
            reading=reading,
            encoder=encoder,
            steps=steps,
            seed=seed,
            restart=restart,
        )
    if encoder is not None:
        raise InvalidInput("only a student of images has an encoder by name; leave --encoder out")
    options = LayerOptions(
        init=init,
        layers=layers,
        length=length,
        widths=tuple(widths),
        general=general,
        min_cosine=min_cosine,
    )
    if student == "static":
        options.refuse()
    elif dim is not None:
        raise InvalidInput("only a static student has a width of its own; leave --dim out")
    teacher = load_text_checkpoint(folder)
    parts = corpus(named(data), reading, what="distill", least=LEAST[student])
    if student == "static":
        plan = plan_static_student(
            teacher, parts, dim=dim or STATIC.dim, out=out, steps=steps, seed=seed
        )
    else:
        plan = plan_layer_student(teacher, folder, parts, options, out=out, steps=steps, seed=seed)
    lineage = {
        "recipe": plan.recipe,
        "data": run_folder.source(data, out, parts),
        "read": chosen(TextReading(), reading),
        "teacher": {**teacher.lineage, SHA256: digest.of_path(folder, without=out)},
        "init": None if init is None else run_folder.start(init),
        **plan.facts,
        "settings": run_folder.settings_of(plan.full_settings, but=("seed", "steps")),
    }
    run_folder.begin(out, lineage, restart=restart)
    if restart:
        (out / BEST).unlink(missing_ok=True)
    training = plan.compose()
    fit(
        training,
        out=out,
        lineage=lineage,
        restart=restart,
        precision=best_precision(),
        probe_every=plan.probe_every,
    )
    if distributed.rank() == 0:
        plan.finish()
        student_model = TextModel(
            encoder=cast("TextNetwork", training.method.encoder),
            tokenizer=teacher.tokenizer,
            dims=plan.dims,
            prompts=plan.prompts,
            lineage=run_folder.story(read_record(out / CHECKPOINT), plan.sources),
            licence=teacher.licence,
        )
        encoder_folder.save(student_model, out)
        report(f"encoder written to {out}; next: attar export {out} NAME.attar")
    return out


def _refuse_of_texts(**options: object) -> None:
    """Raise InvalidInput that names the options, of those for texts alone, that were given."""
    if given := [name for name, value in options.items() if value not in (None, False, (), [])]:
        raise InvalidInput(
            f"the teacher is of images, which have no {' or '.join(given)}; leave it out"
        )
