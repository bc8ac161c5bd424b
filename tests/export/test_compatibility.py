"""A student's bundle declares its teacher only if its queries find what the teacher embedded."""

import copy
import json
from pathlib import Path

import pytest
import torch

import attar
from attar.bundle import Bundle
from attar.errors import InvalidInput
from attar.export import export
from attar.export.compatibility import (
    FEW_DOCUMENTS,
    MIN_COSINE,
    MIN_RECALL_KEPT,
    Compatibility,
    embed_task,
    measure,
)
from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.encoders.text import TextEncoder
from attar.training.probes.summaries import SummaryRetrieval
from benchmarks.support.bundles import compatible_bundle, tiny_bundle
from benchmarks.support.encoders import random_texts, tiny_encoder

from ..support.commands import Attar
from ..support.students import corpus, tokenizer, trained


def moved(noise: float) -> TextModel[TextEncoder]:
    """Give the trained encoder with noise in its weights: a student of another quality."""
    encoder = copy.deepcopy(trained().encoder)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std(correction=0), alpha=noise)
    return TextModel(encoder=encoder, tokenizer=tokenizer(), prompts=trained().prompts)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    every = (*corpus().train, *corpus().held_out)
    rows = ({"name": p.name, "summary": p.summary, "body": p.body} for p in every)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory, pairs: Path) -> Path:
    folder = tmp_path_factory.mktemp("teacher")
    encoder_folder.save(trained(), folder / "encoder")
    return export(folder / "encoder", folder / "teacher.attar", data=str(pairs)).bundle.path


def saved(folder: Path, noise: float) -> Path:
    encoder_folder.save(moved(noise), folder / "encoder")
    return folder / "encoder"


def test_a_student_that_finds_what_the_teacher_embedded_declares_it(
    attar_: Attar, pairs: Path, teacher: Path, tmp_path: Path
) -> None:
    encoder, path = saved(tmp_path, 0.05), tmp_path / "student.attar"
    arguments = ("--data", pairs, "--softmax")
    ran = attar_("export", encoder, path, *arguments, "--compatible-with", teacher)
    assert ran.status == 0, ran.err
    bundle = Bundle.open(path)
    (entry,) = bundle.manifest.compatible_with
    assert entry.fingerprint == Bundle.open(teacher).manifest.fingerprint
    assert entry.query_fingerprint == bundle.manifest.fingerprint
    assert f"its queries may search {entry.fingerprint}: mean cosine" in ran.out
    assert {"fp32", "int8"} == {variant.name for variant in bundle.manifest.variants}
    alone = export(encoder, tmp_path / "alone.attar", data=str(pairs)).bundle
    assert alone.manifest.fingerprint == entry.query_fingerprint
    assert alone.manifest.compatible_with == ()


def test_the_report_has_the_three_rows_that_the_runtime_gives(
    pairs: Path, teacher: Path, tmp_path: Path
) -> None:
    encoder = saved(tmp_path, 0.05)
    bundle = export(
        encoder, tmp_path / "student.attar", data=str(pairs), compatible_with=teacher
    ).bundle
    report = bundle.report["compatible_with"]
    assert isinstance(report, dict)
    rows = report["widths"]["32"]
    (entry,) = bundle.manifest.compatible_with
    assert (rows["cosine"], rows["student_teacher"]["recall_at_10"]) == (
        entry.cosine,
        entry.recall_at_10,
    )
    queries, documents = report["queries"], report["documents"]
    assert (queries, documents) == (15, 120)
    for name in ("student_student", "student_teacher", "teacher_teacher"):
        assert rows[name].keys() == {"recall_at_1", "recall_at_10", "mrr"}
    assert rows["teacher_teacher"] == pytest.approx(
        {key: Bundle.open(teacher).variant("fp32").probe[key] for key in rows["teacher_teacher"]}
    )
    assert rows["student_student"] == pytest.approx(
        {key: bundle.variant("fp32").probe[key] for key in rows["student_student"]}
    )


def test_a_student_of_another_space_is_refused_with_its_figures_and_nothing_is_written(
    pairs: Path, teacher: Path, tmp_path: Path
) -> None:
    path = tmp_path / "student.attar"
    with pytest.raises(InvalidInput, match=r"at 32 dimensions recall@10 0\.\d+ is below 0\.9 of"):
        export(saved(tmp_path, 5.0), path, data=str(pairs), compatible_with=teacher)
    assert [entry.name for entry in tmp_path.iterdir()] == ["encoder"]


def test_the_teacher_itself_is_refused(pairs: Path, teacher: Path, tmp_path: Path) -> None:
    encoder_folder.save(trained(), tmp_path / "encoder")
    with pytest.raises(InvalidInput, match="is the same encoder"):
        export(tmp_path / "encoder", tmp_path / "x.attar", data=str(pairs), compatible_with=teacher)


def test_molecules_are_refused_before_any_work(tmp_path: Path) -> None:
    encoder_folder.save(
        TextModel(encoder=tiny_encoder(), tokenizer=tokenizer()), tmp_path / "encoder"
    )
    (tmp_path / "molecules.csv").write_text("smiles\nCCO\nCCN\n", "utf-8")
    teacher = tiny_bundle(tmp_path / "teacher.attar")
    with pytest.raises(InvalidInput, match="read as SMILES"):
        export(
            tmp_path / "encoder",
            tmp_path / "x.attar",
            data=str(tmp_path / "molecules.csv"),
            compatible_with=teacher,
        )


def test_every_width_is_measured(tmp_path: Path) -> None:
    path = tiny_bundle(tmp_path / "teacher.attar", dims=(8, 16))
    teacher, student = (
        attar.load(bundle, threads=1)
        for bundle in (path, compatible_bundle(tmp_path / "student.attar", path))
    )
    texts = tuple(dict.fromkeys(random_texts(40, length=(4, 8))))
    task = SummaryRetrieval(queries=texts, documents=texts)
    measured = measure(embed_task(student, task), embed_task(teacher, task), student.dims)
    assert measured.keys() == {8, 16}
    for each in measured.values():
        assert 0.9 < each.cosine < 1
        assert not each.failures()
        assert each.teacher_teacher["recall_at_10"] == 1


@pytest.mark.parametrize(
    ("cosine", "recall", "own", "refused"),
    [
        (MIN_COSINE, MIN_RECALL_KEPT, 1.0, ()),
        (MIN_COSINE - 1e-3, 1.0, 1.0, ("mean cosine 0.6990 is below 0.7, ",)),
        (1.0, MIN_RECALL_KEPT - 1e-3, 1.0, ("recall@10 0.8990 is below 0.9 of",)),
        (1.0, 0.0, 0.0, ("recall@10 0.0000 is below 0.9 of the teacher's own, 0.0000",)),
    ],
)
def test_each_bound_is_held_among_few_documents(
    cosine: float, recall: float, own: float, refused: tuple[str, ...]
) -> None:
    failures = figures(FEW_DOCUMENTS - 1, cosine, recall=recall, own=own).failures()
    for failure, expected in zip(failures, refused, strict=True):
        assert failure.startswith(expected)


def test_recall_alone_decides_among_many_documents() -> None:
    assert figures(FEW_DOCUMENTS, -1.0, recall=MIN_RECALL_KEPT, own=1.0).failures() == []
    (failure,) = figures(FEW_DOCUMENTS, 1.0, recall=MIN_RECALL_KEPT - 1e-3, own=1.0).failures()
    assert failure.startswith("recall@10 0.8990 is below 0.9 of")


def figures(documents: int, cosine: float, *, recall: float, own: float) -> Compatibility:
    rows = [{"recall_at_1": 0.0, "recall_at_10": value, "mrr": 0.0} for value in (recall, own)]
    return Compatibility(
        documents=documents,
        cosine=cosine,
        student_student=rows[0],
        student_teacher=rows[0],
        teacher_teacher=rows[1],
    )
