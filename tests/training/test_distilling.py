"""A student is distilled: what it is made of, how it is judged, and when it is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from attar.errors import InvalidInput
from attar.training import distill
from attar.training.checkpoints import encoder_folder
from attar.training.probes.retrieval import ranks
from attar.training.probes.text_retrieval import embed
from attar.training.resizing import quick
from attar.training.run_data import corpus as read_corpus
from attar.training.text_data import validated

from ..support.students import MAX_LENGTH, corpus, tokenizer, trained, write_teacher

LENGTH, STEPS = 16, 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_teacher(tmp_path_factory.mktemp("distilling"))


def distilled(folder: Path, out: Path, **options: Any) -> Path:
    data, general = str(folder / "pairs.jsonl"), folder / "general.txt"
    given = {"data": data, "general": general, "steps": STEPS, "length": LENGTH, **options}
    return distill(folder / "teacher", out, **given)


@pytest.fixture(scope="module")
def run(folder: Path) -> Path:
    return distilled(folder, folder / "run", layers=(1,), widths=(16, 8))


def report_of(run: Path) -> Any:
    return json.loads((run / "report.json").read_text("utf-8"))


def test_a_student_has_the_layers_the_length_and_the_widths_that_are_named(run: Path) -> None:
    model = encoder_folder.load_text(run)
    assert model.encoder.shape.transformer.depth == 1
    assert model.encoder.max_length == LENGTH
    assert (model.dims, model.encoder.dim) == ((8, 16), trained().encoder.dim)
    assert (model.lineage["layers"], model.lineage["length"]) == ([1], LENGTH)


def test_by_default_a_student_reads_what_its_teacher_reads_in_two_layers(
    folder: Path, tmp_path: Path
) -> None:
    model = encoder_folder.load_text(distilled(folder, tmp_path / "run", length=None, steps=1))
    assert (model.encoder.shape.transformer.depth, model.encoder.max_length) == (2, MAX_LENGTH)
    assert model.dims == trained().dims


def test_the_report_has_student_and_teacher_on_pairs_that_neither_trained_nor_chose(
    folder: Path, run: Path
) -> None:
    report = report_of(run)
    parts = read_corpus(str(folder / "pairs.jsonl"), what="distill")
    _, test = validated(parts, tokenizer(), max_length=LENGTH)
    assert report["queries"] == len(test.queries) == len(parts.held_out)
    for who, encoder in (
        ("teacher", trained().encoder),
        ("student", encoder_folder.load_text(run).encoder),
    ):
        positions = ranks(embed(encoder, test.queries), embed(encoder, test.documents))
        assert report["recall_at_1"][who]["value"] == pytest.approx((positions <= 1).mean())
        assert report["recall_at_10"][who]["value"] == pytest.approx((positions <= 10).mean())
        assert report["mrr"][who]["value"] == pytest.approx((1 / positions).mean())
    for name in ("recall_at_1", "recall_at_10", "mrr"):
        row = report[name]
        for limits in row.values():
            assert limits["low"] <= limits["value"] <= limits["high"]
        difference = row["student"]["value"] - row["teacher"]["value"]
        assert row["difference"]["value"] == pytest.approx(difference)
    assert report["general"]["texts"] == "general.txt"
    assert 0.5 < report["general"]["cosine"] <= 1


def test_the_weights_are_those_of_the_best_probe(folder: Path, run: Path) -> None:
    rows = [json.loads(row) for row in (run / "metrics.jsonl").read_text().splitlines()]
    probes = {row["step"]: row["mrr"] for row in rows if "mrr" in row}
    assert list(probes) == [0, 3, 6, 9, STEPS]
    assert report_of(run)["steps"] == STEPS
    best = [step for step, mrr in probes.items() if mrr == max(probes.values())]
    assert report_of(run)["best_step"] == best[-1]
    parts = read_corpus(str(folder / "pairs.jsonl"), what="distill")
    texts, _ = validated(parts, tokenizer(), max_length=LENGTH)
    again = quick(texts).probe(encoder_folder.load_text(run).encoder)
    assert again["mrr"] == pytest.approx(max(probes.values()))


def test_a_pair_trains_validates_or_tests_and_all_bodies_are_searched() -> None:
    texts, test = validated(corpus(), tokenizer(), max_length=MAX_LENGTH)
    train, validation = texts.pairs.second, texts.probe.documents[: len(texts.probe.queries)]
    count = len(corpus().train)
    assert (len(validation), len(train)) == (count // 8, count - count // 8)
    assert len(test.queries) == len(corpus().held_out)
    documents = [row.tobytes() for row in test.documents]
    others = [row.tobytes() for row in (*validation, *train)]
    assert documents[len(test.queries) :] == others
    assert len(documents) == count + len(corpus().held_out)


def test_the_same_run_gives_the_same_student_and_a_longer_one_goes_on(
    folder: Path, tmp_path: Path
) -> None:
    weights = []
    for name in ("one", "other"):
        out = distilled(folder, tmp_path / name, steps=4)
        weights.append((out / encoder_folder.WEIGHTS).read_bytes())
    assert weights[0] == weights[1]
    longer = distilled(folder, tmp_path / "one", steps=6)
    assert encoder_folder.load_text(longer).lineage["steps"] == 6


def test_a_student_away_from_its_teacher_is_refused_with_the_figure_and_keeps_its_run(
    folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with pytest.raises(
        InvalidInput,
        match=r"mean cosine to its teacher is 0\.\d{3} on 119 general texts \(general\.txt\), "
        r"below 0\.9999: .* --min-cosine 0\.\d\d",
    ):
        distilled(folder, out, layers=1, min_cosine=0.9999)
    assert not (out / encoder_folder.ABOUT).exists()
    rows = (out / "metrics.jsonl").read_text()
    distilled(folder, out, layers=1, min_cosine=-1.0)  # makes no step
    assert encoder_folder.load_text(out).lineage["steps"] == STEPS
    assert (out / "metrics.jsonl").read_text() == rows


def other_start(folder: Path) -> dict[str, object]:
    return {"init": folder / "teacher", "layers": 1}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda _: {"layers": 3}, "layers must be from 1 to 2, as many as the teacher has; got 3"),
        (lambda _: {"layers": (0, 2)}, "layers must be numbers from 0 to 1, .* got 0,2"),
        (other_start, "--init .*teacher has its own layers; leave one of the two out"),
        (lambda _: {"length": 25}, "length must be from 3 to 24, .* got 25"),
        (lambda _: {"length": 2}, "length must be from 3 to 24, .* got 2"),
        (lambda _: {"widths": (8, 33)}, "widths must be from 1 to 32, .* got 8,33"),
        (lambda _: {"widths": (0,)}, "widths must be from 1 to 32, .* got 0"),
    ],
    ids=["layers", "numbers", "init", "length", "short", "widths", "none"],
)
def test_what_a_teacher_has_not_is_refused_before_anything_is_written(
    folder: Path,
    tmp_path: Path,
    options: Callable[[Path], dict[str, object]],
    message: str,
) -> None:
    with pytest.raises(InvalidInput, match=message):
        distilled(folder, tmp_path / "run", **options(folder))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "option", [{"layers": 1}, {"length": 8}, {"widths": (8,)}, {"min_cosine": 0.9}], ids=str
)
def test_an_option_of_layers_is_refused_for_a_static_student(
    folder: Path, tmp_path: Path, option: dict[str, Any]
) -> None:
    name = next(iter(option)).replace("_", "-")
    with pytest.raises(InvalidInput, match=f"its teacher's tokens; leave --{name} out"):
        distill(folder / "teacher", tmp_path / "run", student="static", **option)


def test_a_static_student_is_compared_with_its_teacher(folder: Path, tmp_path: Path) -> None:
    data = str(folder / "pairs.jsonl")
    run = distill(folder / "teacher", tmp_path / "run", student="static", dim=16, data=data)
    report = report_of(run)
    held_out = read_corpus(data, what="distill").held_out
    assert report["queries"] == len(held_out)
    for figures in (report["recall_at_1"], report["recall_at_10"], report["mrr"]):
        difference = figures["student"]["value"] - figures["teacher"]["value"]
        assert figures["difference"]["value"] == pytest.approx(difference)


def test_vectors_of_a_student_match_its_teachers_after_training(folder: Path, run: Path) -> None:
    parts = read_corpus(str(folder / "pairs.jsonl"), what="distill")
    _, test = validated(parts, tokenizer(), max_length=LENGTH)
    student, teacher = encoder_folder.load_text(run).encoder, trained().encoder
    cosine = (embed(student, test.documents) * embed(teacher, test.documents)).sum(axis=1)
    assert np.mean(cosine) > 0.5
