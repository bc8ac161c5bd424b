"""Distilling images: a small encoder of a large one, such as a pretrained network by name."""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import InvalidInput

from .. import digest, distributed, run_folder
from ..adaptation.report import REPORT
from ..backbones.network import is_backbone
from ..checkpoints import encoder_folder
from ..checkpoints.encoder_folder import ABOUT, TensorModel
from ..checkpoints.run import CHECKPOINT, read_record
from ..data.source import Source, embed, item_shape, pixel_range, some, subset
from ..encoders.backbone import Backbone
from ..loop import fit
from ..precision import best_precision
from ..probes.agreement import agreement
from ..probes.interval import bootstrap
from ..probes.knn import knn_hits
from ..recipes.image import distil
from ..run_data import Reading, chosen, named, read_source, report
from .plan import sized

HELD_OUT, JUDGED = 8, 1000  # one image in so many where there is no test part; most that judge
LEAST: Final = 8  # images
TEXTS: Final = "docstrings"  # what a teacher of texts is distilled on where nothing is named
ENCODER: Final = "small"

Parts: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]
"""Embeddings of the images to train on, and of those that judge."""


def is_image_teacher(teacher: str | Path) -> bool:
    """Say whether a teacher is a network by name, or a folder that attar wrote of tensors."""
    if is_backbone(str(teacher)):
        return True
    try:
        about = json.loads((Path(teacher) / ABOUT).read_text("utf-8"))
        return about.get("encoder") in encoder_folder.ENCODERS
    except (OSError, ValueError, AttributeError):
        return False  # what is wrong with it is said where it is read


def distill_images(
    teacher: str | Path,
    out: Path,
    *,
    data: str,
    reading: Sequence[str],
    encoder: str | None,
    steps: int | None,
    seed: int,
    restart: bool,
) -> Path:
    """Train a small image encoder to give a large one's embeddings; see `distill`."""
    if named(data) == TEXTS and not Path(data).exists():
        raise InvalidInput("the teacher is of images; --data names the images to distil it on")
    source = _judged_apart(read_source(data, reading, modality="image"))
    if len(source.train) < LEAST:
        raise InvalidInput(f"{data} has {len(source.train)} images to train on; give {LEAST}")
    model, side = _teacher(teacher, channels=item_shape(source.train)[0])
    own = [f"side={side}", *(choice for choice in reading if not choice.startswith("side="))]
    large = _judged_apart(read_source(data, own, modality="image"))
    settings = replace(distil.Settings(), encoder=encoder or ENCODER, dim=model.encoder.dim)
    full, settings = sized(settings, len(source.train), steps=steps, seed=seed)
    lineage = {
        "recipe": "distil",
        "data": run_folder.source(data, out),
        "read": chosen(Reading(), reading),
        "teacher": _facts(teacher, model, out),
        "settings": run_folder.settings_of(full, but=("seed", "steps")),
    }
    run_folder.begin(out, lineage, restart=restart)
    report(f"the teacher embeds {len(large.train):,} images of {side} x {side} pixels")
    targets = embed(model.encoder, large.train, batch=64)
    training = distil.build(source, targets, settings)
    fit(training, out=out, lineage=lineage, restart=restart, precision=best_precision())
    if distributed.rank() == 0:
        student: Any = training.method.encoder.eval()
        assert source.test is not None
        assert large.test is not None
        _write_report(
            out,
            source,
            teacher=(targets, embed(model.encoder, large.test, batch=64)),
            student=(embed(student, source.train), embed(student, source.test)),
        )
        saved = TensorModel(
            encoder=student,
            normalize=True,
            values=pixel_range(source.train),
            lineage=run_folder.story(read_record(out / CHECKPOINT), distil.SOURCES),
            licence=model.licence,
        )
        encoder_folder.save(saved, out)
        report(f"encoder written to {out}; next: attar export {out} NAME.attar")
    return out


def _teacher(teacher: str | Path, *, channels: int) -> tuple[TensorModel, int]:
    """Give the teacher, in evaluation mode, and the side of its images."""
    if is_backbone(name := str(teacher)):
        backbone = Backbone.pretrained(name, channels=channels).eval()
        return TensorModel(encoder=backbone, licence=backbone.licence), backbone.shape.side
    model = encoder_folder.load(Path(teacher))
    if not isinstance(model, TensorModel) or model.encoder.modality != "image":
        kind = model.encoder.modality if isinstance(model, TensorModel) else "text"
        raise InvalidInput(f"{teacher} holds an encoder of {kind}; images need one of images")
    takes, pixels = model.encoder.input.shape[1], model.encoder.input.shape[-1]
    if takes != channels or not isinstance(pixels, int):
        raise InvalidInput(f"{teacher} takes images of {takes} channels; the data has {channels}")
    return model, pixels


def _facts(teacher: str | Path, model: TensorModel, out: Path) -> dict[str, object]:
    if is_backbone(str(teacher)):
        return {"name": str(teacher)}
    return {**model.lineage, digest.SHA256: digest.of_path(Path(teacher), without=out)}


def _judged_apart(source: Source) -> Source:
    """Give a source with a test part: its own, or one image in eight of those to train on."""
    if source.test is not None:
        return _some_of_test(source)
    rows = torch.arange(len(source.train))
    judged = rows % HELD_OUT == HELD_OUT - 1
    return _some_of_test(
        replace(
            source,
            train=subset(source.train, rows[~judged]),
            test=subset(source.train, rows[judged]),
            train_labels=None,
            test_labels=None,
        )
    )


def _some_of_test(source: Source) -> Source:
    """Give a source with at most `JUDGED` images in its test part, from all over it."""
    assert source.test is not None
    kept = some(Source(train=source.test, train_labels=source.test_labels), JUDGED)
    return replace(source, test=kept.train, test_labels=kept.train_labels)


def _write_report(out: Path, source: Source, *, teacher: Parts, student: Parts) -> None:
    """Compare student and teacher on the images that judge, and show it."""
    facts: dict[str, Any] = {
        "held_out": len(student[1]),
        "agreement": asdict(agreement(teacher[1], student[1])),
    }
    report(
        f"on {len(student[1])} held-out images the student agrees with its teacher: mean cosine "
        f"{facts['agreement']['cosine']:.3f}, Spearman {facts['agreement']['spearman']:.3f}"
    )
    labels, test_labels = source.train_labels, source.test_labels
    if labels is not None and test_labels is not None:
        theirs, own = (
            knn_hits(train, labels, test, test_labels).astype(np.float64)
            for train, test in (teacher, student)
        )
        figures = {"teacher": theirs, "student": own, "difference": own - theirs}
        facts["knn"] = {name: asdict(bootstrap(values)) for name, values in figures.items()}
        gap = facts["knn"]["difference"]
        report(
            f"20-NN: teacher {theirs.mean():.3f}, student {own.mean():.3f}; difference "
            f"{gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
        )
    (out / REPORT).write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
