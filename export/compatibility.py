"""Asymmetric search: an encoder's queries against the documents that its teacher embedded.

A bundle declares it in `compatible_with` of its manifest only if the measurements pass a bar.
Source: the asymmetric retrieval of LEAF (Vujanic and Rueckstiess, arXiv:2509.12539).
"""

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from attar.bundle import REPORT, Bundle
from attar.errors import InvalidInput
from attar.inputs import Role, TextInput
from attar.manifest import Compatible
from attar.runtime import Encoder, load
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.encoders.text import TextNetwork
from attar.training.probes.retrieval import scores
from attar.training.probes.summaries import SummaryRetrieval
from attar.training.probes.text_retrieval import embed

from .bundling import Exported
from .measure import cosine

MIN_RECALL_KEPT: Final = 0.9
"""Share of the teacher's own recall@10 that the student's queries must reach in its documents."""

FEW_DOCUMENTS: Final = 100
"""Among fewer, ten hits are more than a tenth of all, and chance alone finds much."""

MIN_COSINE: Final = 0.7
"""Mean over held-out texts, where there are few documents and recall@10 says little."""

METRICS: Final = ("recall_at_1", "recall_at_10", "mrr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Compatibility:
    """What was measured at one width: the mean cosine, and scores by who embeds what.

    `student_teacher` are the student's queries in the teacher's documents; in the other two one
    encoder embeds both. `documents` is how many are searched.
    """

    documents: int
    cosine: float
    student_student: Mapping[str, float]
    student_teacher: Mapping[str, float]
    teacher_teacher: Mapping[str, float]

    def failures(self) -> list[str]:
        """Say which bounds are broken, each with its figure.

        Recall decides. A cosine adds nothing where recall can be measured: queries may be far from
        what the teacher makes of them and still be nearest to the right documents.
        """
        failures = []
        if self.documents < FEW_DOCUMENTS and self.cosine < MIN_COSINE:
            failures.append(
                f"mean cosine {self.cosine:.4f} is below {MIN_COSINE}, which is asked for where "
                f"fewer than {FEW_DOCUMENTS} documents ({self.documents}) measure recall"
            )
        recall, own = (
            rows["recall_at_10"] for rows in (self.student_teacher, self.teacher_teacher)
        )
        if recall < MIN_RECALL_KEPT * own or own == 0:
            failures.append(
                f"recall@10 {recall:.4f} is below {MIN_RECALL_KEPT} of the teacher's own, {own:.4f}"
            )
        return failures


@dataclass(frozen=True, slots=True)
class Embedded:
    """One encoder's embeddings of a task."""

    queries: NDArray[np.float32]  # (m, d)
    documents: NDArray[np.float32]  # (n, d), of which document i belongs to query i

    def cut(self, width: int) -> "Embedded":
        """Give the first `width` numbers of each embedding."""
        return Embedded(self.queries[:, :width], self.documents[:, :width])

    def held_out(self) -> NDArray[np.float32]:
        """Give the queries and their documents, (2 m, d)."""
        return np.concatenate([self.queries, self.documents[: len(self.queries)]])


def open_teacher(
    bundle: str | Path, model: TextModel[TextNetwork], *, folder: Path, has_pairs: bool
) -> Encoder:
    """Open the reference variant of the teacher's bundle, before any work.

    Raises InvalidInput where its queries and documents cannot be compared with those of `model`,
    which was read from `folder`, and what `attar.load` raises.
    """
    opened = Bundle.open(bundle)
    manifest = opened.manifest
    dims = (*model.dims, model.encoder.dim)
    if manifest.modality != "text":
        raise InvalidInput(f"{bundle} takes {manifest.modality} and {folder} texts; give a teacher")
    if manifest.output.dims != dims:
        raise InvalidInput(
            f"{bundle} has the widths {list(manifest.output.dims)} and {folder} {list(dims)}; they "
            "must be the same to search one collection"
        )
    if not has_pairs:
        raise InvalidInput(
            "the table is read as SMILES, and compatibility is measured on pairs of texts; leave "
            "--compatible-with out"
        )
    return load(opened, variant=manifest.reference)


def embed_task(encoder: Encoder, task: SummaryRetrieval) -> Embedded:
    """Embed a retrieval task: its queries as queries, its documents as passages."""

    def rows(texts: tuple[str, ...], role: Role) -> NDArray[np.float32]:
        vectors: NDArray[np.float32] = encoder.embed(texts, role=role).vectors
        return vectors

    return Embedded(rows(task.queries, "query"), rows(task.documents, "passage"))


def measure(student: Embedded, teacher: Embedded, dims: Sequence[int]) -> dict[int, Compatibility]:
    """Compare what a student and its teacher made of a retrieval task, at each width of `dims`."""
    return {width: _compare(student.cut(width), teacher.cut(width)) for width in dims}


def refuse_another_space(
    model: TextModel[TextNetwork], teacher: Encoder, theirs: Embedded, task: SummaryRetrieval
) -> None:
    """Raise InvalidInput with the figures where the torch encoder breaks a bound at any width.

    It is asked before anything is exported: `declare` asks again what will be written.
    """
    host = TextInput(model.tokenizer, max_length=model.encoder.max_length, prompts=model.prompts)

    def rows(texts: tuple[str, ...], role: Role) -> NDArray[np.float32]:
        prepared = host.prepare(texts, role=role, truncation="truncate")
        return embed(model.encoder, [row.arrays[0] for row in prepared])

    own = Embedded(rows(task.queries, "query"), rows(task.documents, "passage"))
    _refuse_failures(measure(own, theirs, teacher.dims), teacher)


def declare(
    write: Callable[[Path], Exported],
    path: Path,
    teacher: Encoder,
    theirs: Embedded,
    task: SummaryRetrieval,
) -> Exported:
    """Export by `write`, and add to the bundle at `path` that it is compatible with the teacher.

    `theirs` is what the teacher makes of the task. Raises InvalidInput with the figures where a
    bound is broken at any width; then nothing is at `path`.
    """
    with tempfile.TemporaryDirectory(prefix="attar-") as scratch:
        exported = write(Path(scratch) / path.name)
        draft = exported.bundle
        student = load(draft, variant=draft.manifest.reference)
        if student.fingerprint == teacher.fingerprint:
            raise InvalidInput(
                f"{teacher.bundle.path} is the same encoder, which shares its space anyway; leave "
                "--compatible-with out"
            )
        measured = measure(embed_task(student, task), theirs, student.dims)
        _refuse_failures(measured, teacher)
        return replace(exported, bundle=_write(draft, path, teacher, measured, task))


def _compare(student: Embedded, teacher: Embedded) -> Compatibility:
    cosines = cosine(student.held_out(), teacher.held_out())
    return Compatibility(
        documents=len(teacher.documents),
        cosine=min(1.0, float(cosines.mean())),
        student_student=_scores(student, student),
        student_teacher=_scores(student, teacher),
        teacher_teacher=_scores(teacher, teacher),
    )


def _scores(queries: Embedded, documents: Embedded) -> dict[str, float]:
    figures = scores(queries.queries, documents.documents)
    return {metric: figures[metric] for metric in METRICS}


def _refuse_failures(measured: Mapping[int, Compatibility], teacher: Encoder) -> None:
    failures = [
        f"at {width} dimensions {failure}"
        for width, compatibility in measured.items()
        for failure in compatibility.failures()
    ]
    if failures:
        raise InvalidInput(
            f"the queries of this encoder may not search what {teacher.bundle.path} embedded, "
            f"so nothing is written: {'; '.join(failures)}; distil it from that teacher, or "
            "leave --compatible-with out"
        )


def _write(
    draft: Bundle,
    path: Path,
    teacher: Encoder,
    measured: Mapping[int, Compatibility],
    task: SummaryRetrieval,
) -> Bundle:
    """Write the draft again, with its declaration and the figures behind it."""
    full = measured[draft.manifest.output.dim]
    entry = Compatible(
        fingerprint=teacher.fingerprint,
        query_fingerprint=draft.manifest.fingerprint,
        cosine=full.cosine,
        recall_at_10=full.student_teacher["recall_at_10"],
    )
    report = {
        **draft.report,
        "compatible_with": {
            "fingerprint": teacher.fingerprint,
            "name": teacher.manifest.name,
            "queries": len(task.queries),
            "documents": len(task.documents),
            "min_recall_kept": MIN_RECALL_KEPT,
            "widths": {str(width): asdict(figures) for width, figures in measured.items()},
        },
    }
    files: dict[str, bytes | Path] = {
        entry.path: draft.path / entry.path for entry in draft.manifest.files
    }
    files[REPORT] = json.dumps(report, indent=2, sort_keys=True).encode() + b"\n"
    return Bundle.write(path, replace(draft.manifest, compatible_with=(entry,)), files)
