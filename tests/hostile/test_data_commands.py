"""The commands that take data say what they read and assumed before the first step."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import attar
from attar.cli.commands import lines
from attar.training.checkpoints import encoder_folder
from attar.training.huggingface import loading
from benchmarks.hostile.commands import written_encoder
from benchmarks.hostile.data import Make, each, images, npz, put, table, wav
from benchmarks.support.teachers import bert_folder

from ..support.commands import Attar

CORPUS = [f"the {word} sat on the mat and the {word} ate" for word in "abcdefghijklmnop"]


@dataclass(frozen=True, slots=True)
class Shown:
    """A run of `attar pretrain`, and words that it prints, or of its refusal."""

    recipe: str
    make: Make
    shown: tuple[str, ...]
    options: tuple[str, ...] = ()
    status: int = 0


NUMBERS = "a,b,target\n" + "".join(f"{row},{row * row % 7},{row % 2}\n" for row in range(12))
QUICK = ("--set", "batch_size=4", "--set", "encoder.side=8")
RUNS = {
    "a table": Shown(
        "table/t_jepa",
        table(NUMBERS),
        (
            "a.csv: 12 items of shape (2,); 8 train, 4 test (three in ten of each class held out)",
            "2 classes: 0 (6), 1 (6); labels=none reads without",
            "items of a.csv are a, b; labels are target",
        ),
        ("--read", "label=target"),
    ),
    "a table without labels": Shown(
        "table/t_jepa",
        table(NUMBERS),
        ("a.csv: 12 items of shape (2,); 12 train, 0 test (none held out)",),
        ("--read", "label=target", "--read", "labels=none"),
    ),
    "a form": Shown(
        "table/t_jepa",
        table(NUMBERS),
        ("cannot be read as image items; got (12, 2)",),
        ("--read", "columns=a,b", "--read", "form=image"),
        2,
    ),
    "folders that are no classes": Shown(
        "image/barlow_twins",
        each(images("batch0", "batch1", count=4), put("notes.txt")),
        (
            "8 items of shape (3, 4, 4); 8 train, 0 test (none held out)",
            "passed over: 1 named *.txt",
        ),
        ("--read", "labels=none"),
    ),
    "no label": Shown(
        "table/t_jepa",
        table(NUMBERS),
        ("--read label=none names no column; labels=none reads without labels",),
        ("--read", "label=none"),
        2,
    ),
    "data of no name": Shown(
        "image/barlow_twins", lambda _: Path(" "), ("--data is empty; pass a path",), (), 2
    ),
    "sound in whole numbers": Shown(
        "audio/tera",
        npz(x=(np.ones((8, 400)) * 3000).astype(np.int16)),
        ("a.npz has samples up to 3000; sound is in [-1, 1], so divide by its full scale",),
        (),
        2,
    ),
    "groups of two rates": Shown(
        "audio/continued",
        each(
            lambda folder: wav(folder / "related" / "a.wav"),
            lambda folder: wav(folder / "target" / "a.wav", rate=16000),
        ),
        ("an item of related has the shape (1, 8000) and one of target (1, 16000); bring both",),
        (),
        2,
    ),
    "normal items by another name": Shown(
        "series/eegformer",
        npz(x=np.ones((8, 400)), y=np.array(["normal", "odd"] * 4)),
        ("items of label 0 are the normal ones", "but normal, odd: write 0 for normal"),
        (),
        2,
    ),
    "a choice of texts": Shown(
        "table/t_jepa", table(NUMBERS), ("no setting 'column'",), ("--read", "column=a"), 2
    ),
}


@pytest.mark.parametrize("name", RUNS)
def test_pretrain_says_what_it_reads_before_its_first_step(
    attar_: Attar, tmp_path: Path, name: str
) -> None:
    run, folder = RUNS[name], tmp_path / "x"
    folder.mkdir()
    made = run.make(folder)
    data = made if isinstance(made, Path) else folder
    ran = attar_(
        *("pretrain", run.recipe, "--data", data, "--steps", 1, "--out", tmp_path / "out"),
        *run.options,
    )
    assert ran.status == run.status, ran.err
    for text in run.shown:
        assert text in (ran.err if run.status else ran.out)
    assert (tmp_path / "out").exists() == (run.status == 0)


def as_lines(folder: Path) -> Path:
    (folder / "corpus.txt").write_text("\n\n".join(CORPUS), "utf-8")
    return folder / "corpus.txt"


def as_files(folder: Path) -> Path:
    for row, text in enumerate(CORPUS):
        (folder / f"{row}.md").write_text(text, "utf-8")
    return folder


def as_table(folder: Path) -> Path:
    rows = "".join(f"{row},{text}\n" for row, text in enumerate(CORPUS))
    (folder / "corpus.csv").write_text(f"id,question\n{rows}", "utf-8")
    return folder / "corpus.csv"


@pytest.mark.parametrize(
    ("make", "options", "output"),
    [
        (as_lines, (), "16 texts (lines), each paired with a span"),
        (as_files, (), "16 texts (files), each paired with a span"),
        (as_table, ("--read", "column=question"), "16 texts ('question' of rows)"),
    ],
)
def test_texts_alone_are_distilled(
    attar_: Attar,
    tmp_path: Path,
    make: Callable[[Path], Path],
    options: tuple[str, ...],
    output: str,
) -> None:
    teacher, start, out = bert_folder(tmp_path / "theirs"), tmp_path / "start", tmp_path / "student"
    encoder_folder.save(encoder_folder.token_transformer(loading.read(teacher)), start)
    (tmp_path / "data").mkdir()
    data = ("--data", make(tmp_path / "data"), *options)
    ran = attar_("distill", teacher, "--init", start, *data, "--steps", 1, "--out", out)
    assert ran.status == 0, ran.err
    assert output in ran.out
    assert "14 train, 2 held out" in ran.out
    assert "texts to train on reach 12 tokens: cut there" in ran.out
    assert encoder_folder.load_text(out).lineage["recipe"] == "distil"


def test_export_measures_on_texts_alone(attar_: Attar, tmp_path: Path) -> None:
    encoder, bundle = written_encoder(tmp_path), tmp_path / "x.attar"
    data = ("--data", as_table(tmp_path), "--read", "column=question", "--softmax")
    ran = attar_("export", encoder, bundle, *data)
    assert ran.status == 0, ran.err
    assert "16 texts ('question' of rows)" in ran.out
    vectors = attar.load(bundle).embed(["the cat", "a mat"]).vectors
    assert not np.allclose(vectors[0], vectors[1])


def test_a_text_recipe_takes_texts_alone(attar_: Attar, tmp_path: Path) -> None:
    small = [f"shape.transformer.{name}" for name in ("heads=2", "width=8", "hidden=8")]
    ran = attar_(
        *("pretrain", "text/simclr", "--data", as_lines(tmp_path), "--steps", 1),
        *("--out", tmp_path / "out", "--set", "shape.rank=none"),
        *(word for change in small for word in ("--set", change)),
    )
    assert ran.status == 0, ran.err
    assert "passed over: 15 blank texts" in ran.out


def test_a_corpus_without_texts_names_its_columns(attar_: Attar, tmp_path: Path) -> None:
    teacher = bert_folder(tmp_path / "theirs")
    ran = attar_(
        "distill", teacher, "--data", as_table(tmp_path), "--steps", 1, "--out", tmp_path / "out"
    )
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "no column called text; choose by --read column=NAME, of id, question" in ran.err


def test_a_parts_links_and_a_runs_lineage_go_together(attar_: Attar, tmp_path: Path) -> None:
    images("data/cat", "elsewhere/fox", count=4)(tmp_path)
    (tmp_path / "data" / "fox").symlink_to(tmp_path / "elsewhere" / "fox")
    arguments = ("image/barlow_twins", "--data", tmp_path / "data", "--steps", 1)
    ran = attar_("pretrain", *arguments, "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert "2 classes: cat (4), fox (4)" in ran.out
    about = json.loads((tmp_path / "out" / "encoder.json").read_text("utf-8"))
    assert about["lineage"]["data"]["name"] == "data"


def test_lines_of_texts_begin_after_a_mark_and_end_at_newlines_alone(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffone\u2028and on\r\n\ntwo\n".encode())
    assert lines(tmp_path / "a.txt") == ["one\u2028and on", "two"]


def test_a_blank_molecule_is_refused_by_its_row(attar_: Attar, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,smiles\n1,CCO\n2, \n3,CC\n", "utf-8")
    ran = attar_(
        *("pretrain", "molecule/molformer", "--data", tmp_path / "a.csv"),
        *("--steps", 1, "--out", tmp_path / "out"),
    )
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert "1 smiles are blank, the first in row 1; leave those rows out" in ran.err
