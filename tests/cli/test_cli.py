"""The command line, from pairs in a file to embeddings; a mistake is one line and status 2."""

import copy
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import attar
from attar.bundle import Bundle
from attar.cli import commands, console
from attar.errors import InvalidInput
from attar.training.catalogue import catalogue
from attar.training.checkpoints import encoder_folder
from attar.training.datasets import package_descriptions
from attar.training.encoders.conv import SmallConv
from attar.training.encoders.static import StaticEncoder
from attar.training.huggingface import loading
from benchmarks.hostile.commands import documents
from benchmarks.support.bundles import tiny_bundle
from benchmarks.support.teachers import bert_folder, minilm

from ..support.commands import Attar
from ..support.students import corpus, trained


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the corpus as the JSON lines that `--data` reads."""
    path = tmp_path_factory.mktemp("data") / "pairs.jsonl"
    some = (*corpus().train, *corpus().held_out)
    rows = ({"name": p.name, "summary": p.summary, "body": p.body} for p in some)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return path


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small trained encoder, as pretrain would."""
    folder = tmp_path_factory.mktemp("encoder")
    encoder_folder.save(trained(), folder)
    return folder


def test_recipes_are_listed_with_their_papers_and_claims(attar_: Attar) -> None:
    ran = attar_("recipes")
    assert ran.status == 0
    for word in ("barlow_twins", "simclr", "digits", "2103.03230", "2002.05709", "recall@10"):
        assert word in ran.out


def test_recipes_names_are_whole_in_a_narrow_terminal(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(console.console, "width", 60)
    commands.list_recipes()
    assert {*catalogue()} <= {*capfd.readouterr().out.split()}


def test_pretrain_writes_an_encoder_that_loads(attar_: Attar, pairs: Path, tmp_path: Path) -> None:
    out = tmp_path / "encoder"
    ran = attar_(
        "pretrain", "text/simclr", "--out", out, "--data", pairs, "--steps", 2, "--seed", 3
    )
    assert ran.status == 0, ran.err
    assert f"encoder written to {out}; next: attar export {out}" in ran.out
    model = encoder_folder.load_text(out)
    assert (model.lineage["recipe"], model.lineage["steps"], model.lineage["seed"]) == (
        "text/simclr",
        2,
        3,
    )
    # The table has a row for each word piece of the tokenizer learned here, and no more.
    words = json.loads(model.tokenizer)["model"]["vocab"]
    assert model.encoder.shape.vocabulary == len(words)


def test_pretrain_and_export_take_images_and_changed_settings(
    attar_: Attar, tmp_path: Path
) -> None:
    out, bundle = tmp_path / "encoder", tmp_path / "digits.attar"
    ran = attar_(
        *("pretrain", "image/vicreg", "--out", out, "--steps", 3, "--seed", 2),
        *("--set", "dim=16", "--set", "batch_size=32", "--micro-batch", 16, "--workers", 2),
    )
    assert ran.status == 0, ran.err
    model = encoder_folder.load(out)
    assert isinstance(model, encoder_folder.TensorModel)
    assert model.encoder.dim == 16
    assert (model.lineage["data"], model.lineage["seed"]) == ("digits", 2)
    settings = model.lineage["settings"]
    assert isinstance(settings, dict)
    assert (settings["dim"], settings["batch_size"]) == (16, 32)
    refused = attar_("binarize", out, bundle, "--data", "digits")
    assert refused.status == 2
    assert "holds an encoder of image, and only text encoders are binarized" in refused.err
    exported = attar_("export", out, bundle, "--data", "digits")
    assert exported.status == 0, exported.err
    assert {"fp32", "int8"} == {variant.name for variant in Bundle.open(bundle).manifest.variants}
    encoder = attar.load(bundle, variant="fp32", threads=1)
    image = np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8)
    assert len(encoder.embed([image])) == 1
    with pytest.raises(InvalidInput, match="from 0 to 255 and the encoder was trained on 0 to 1"):
        encoder.embed([image * 255])


def test_a_folder_of_images_of_any_size_is_trained_on_and_exported_with(
    attar_: Attar, tmp_path: Path
) -> None:
    draw = np.random.default_rng(0)
    for name in "ab":
        folder = tmp_path / "photos" / name
        folder.mkdir(parents=True)
        for number in range(6):
            pixels = draw.integers(0, 255, (20 + number, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
    photos, out, bundle = tmp_path / "photos", tmp_path / "encoder", tmp_path / "photos.attar"
    ran = attar_(
        *("pretrain", "image/barlow_twins", "--data", photos, "--read", "side=16"),
        *("--set", "views=natural", "--set", "batch_size=4", "--steps", 2, "--out", out),
    )
    assert ran.status == 0, ran.err
    exported = attar_("export", out, bundle, "--data", photos)
    assert exported.status == 0, exported.err
    assert Bundle.open(bundle).manifest.inputs[0].shape == ("batch", 3, 16, 16)


def test_pretrain_runs_every_stage_of_a_recipe_in_a_folder_of_its_own(
    attar_: Attar, tmp_path: Path
) -> None:
    out = tmp_path / "encoder"
    ran = attar_(
        *("pretrain", "image/simclr_v2", "--out", out, "--steps", 3),
        *("--set", "tuning_steps=2", "--set", "distil_steps=3"),
    )
    assert ran.status == 0, ran.err
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == [
        "distil",
        "heads",
        "pretrain",
    ]
    student = encoder_folder.load(out)
    assert isinstance(student, encoder_folder.TensorModel)
    assert isinstance(student.encoder, SmallConv)
    assert student.encoder.shape.width == 8


def test_pretrain_takes_a_tokenizer(attar_: Attar, pairs: Path, tmp_path: Path) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    tokenizer.write_bytes(trained().tokenizer)
    out = tmp_path / "encoder"
    ran = attar_(
        "pretrain", "text/barlow_twins", "--out", out, "--data", pairs, "--steps", 1,
        "--tokenizer", tokenizer,
    )  # fmt: skip
    assert ran.status == 0, ran.err
    assert encoder_folder.load_text(out).tokenizer == trained().tokenizer


def test_a_static_encoder_is_pretrained_with_the_corpus_own_tokens(
    attar_: Attar, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "static"
    ran = attar_("pretrain", "text/static", "--out", out, "--data", pairs, "--steps", 1)
    assert ran.status == 0, ran.err
    encoder = encoder_folder.load(out).encoder
    assert isinstance(encoder, StaticEncoder)
    assert encoder.shape.special == (0, 1, 2, 3)
    assert encoder.shape.vocabulary < 1000


def test_binarize_writes_every_variant_and_shows_it(
    attar_: Attar, encoder: Path, pairs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "student.attar"
    ran = attar_("binarize", encoder, path, "--data", pairs, "--steps", 5)
    assert ran.status == 0, ran.err
    bundle = Bundle.open(path)
    report = bundle.report["variants"]
    assert isinstance(report, dict)
    assert report.keys() == {"fp32", "int8", "binarized", "binarized_int8"}
    assert report["binarized"]["steps"] == 5
    assert bundle.manifest.name == "student"
    assert bundle.manifest.fingerprint in ran.out
    for name, row in report.items():
        assert name in ran.out
        assert row["probe"].keys() == {"recall_at_1", "recall_at_10", "mrr", "rankme"}

    again = attar_("export", encoder, path, "--data", pairs)
    assert (again.status, again.err.count("\n")) == (2, 1)
    assert "exists; choose another path" in again.err


def test_binarized_may_be_left_out(
    attar_: Attar, encoder: Path, pairs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "student.attar"
    ran = attar_("export", encoder, path, "--data", pairs, "--softmax")
    assert ran.status == 0, ran.err
    assert "binarized" not in {variant.name for variant in Bundle.open(path).manifest.variants}


@pytest.mark.slow
def test_a_hugging_face_folder_is_binarized_as_the_flags_say(
    attar_: Attar, pairs: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.attar"
    ran = attar_(
        "binarize", bert_folder(tmp_path / "theirs"), path, "--data", pairs, "--steps", 2,
        "--layers", "0", "--bits", 8, "--beta", 20, "--static-sigma",
    )  # fmt: skip
    assert ran.status == 0, ran.err
    report = Bundle.open(path).report["variants"]
    assert isinstance(report, dict)
    assert report.keys() == {"fp32", "int8", "binarized", "binarized_int8"}
    assert report["binarized"]["layers"] == [0]
    assert report["binarized"]["damage"] == {}  # named layers are not compared with the others
    hashing = {"bits": 8, "anchors": 25, "beta": 20.0, "static_sigma": True}
    assert report["binarized"]["hashing"] == hashing


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--beta", 16), "beta must be greater than the 16 bits, for weights to be positive"),
        (("--layers", "0,9"), "there is no layer 9; the encoder has 0 to 1"),
        (("--layers", "first"), "--layers are numbers from 0, with commas between; got 'first'"),
    ],
)
def test_a_mistake_in_how_to_binarize_is_named_and_nothing_is_written(
    attar_: Attar, pairs: Path, tmp_path: Path, flags: tuple[object, ...], message: str
) -> None:
    encoder_folder.save(trained(), tmp_path / "encoder")
    path = tmp_path / "x.attar"
    ran = attar_("binarize", tmp_path / "encoder", path, "--data", pairs, *flags)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert message in ran.err
    assert not path.exists()


def test_embed_prints_one_json_object_a_text(attar_: Attar, bundle_path: Path) -> None:
    texts = ["the cat sat", "rain", "the " * 40]
    ran = attar_("embed", bundle_path, *texts, "--variant", "fp32", "--role", "query")
    assert ran.status == 0
    rows = [json.loads(line) for line in ran.out.splitlines()]
    expected = attar.load(bundle_path).embed(texts, role="query")
    assert np.array_equal(
        np.array([row["embedding"] for row in rows], np.float32), expected.vectors
    )
    assert [row["tokens"] for row in rows] == expected.tokens.tolist()
    assert [row["truncated"] for row in rows] == [False, False, True]


def test_inspect_shows_what_a_bundle_holds(attar_: Attar, tmp_path: Path) -> None:
    path = tiny_bundle(
        tmp_path / "[odd] name", variants=("fp32", "int8"), latency_ms={"fp32": 1.25}
    )
    ran = attar_("inspect", path)
    assert ran.status == 0
    manifest = Bundle.open(path).manifest
    for word in (manifest.fingerprint, "up to 16 tokens", "16 dimensions", "int8", "1.25"):
        assert word in ran.out


def test_import_writes_a_teachers_bundle(attar_: Attar, tmp_path: Path) -> None:
    ran = attar_("import", bert_folder(tmp_path / "theirs"), tmp_path / "mine.attar")
    assert ran.status == 0, ran.err
    assert "mine 1: text, up to 12 tokens" in ran.out
    assert "1.000000" in ran.out  # its cosine to torch


def test_adapt_trains_an_encoder_on_documents_and_says_what_that_gained(
    attar_: Attar, encoder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "adapted"
    ran = attar_(
        *("adapt", encoder, "--out", out, "--data", documents(tmp_path), "--steps", 1),
        *("--rule", "title_and_body", "--length", 16, "--widths", "8,16", "--layers", 1),
    )
    assert ran.status == 0, ran.err
    for line in (
        "title_and_body makes 10 pairs to train on",
        "mrr of held-out queries: ",
        "general texts (descriptions of installed packages) it agrees with the base: Spearman ",
        f"encoder written to {out}; next: attar export {out}",
    ):
        assert line in " ".join(ran.out.split())
    model = encoder_folder.load_text(out)
    assert (model.dims, model.lineage["length"]) == ((8, 16), 16)
    assert (out / "report.json").exists()


def test_distill_starts_from_an_encoder_that_shares_the_tokenizer(
    attar_: Attar, encoder: Path, pairs: Path, tmp_path: Path
) -> None:
    teacher, start = bert_folder(tmp_path / "theirs"), tmp_path / "start"
    encoder_folder.save(encoder_folder.token_transformer(loading.read(teacher)), start)
    out = tmp_path / "student"
    arguments = ["distill", teacher, "--out", out, "--data", pairs, "--steps", 2, "--init"]

    ran = attar_(*arguments, start)
    assert ran.status == 0, ran.err
    assert (
        encoder_folder.load_text(out).lineage["recipe"],
        encoder_folder.load_text(out).encoder.dim,
    ) == (
        "distil",
        16,
    )

    other = attar_(*arguments, encoder)
    assert (other.status, other.err.count("\n")) == (2, 1)
    assert f"another tokenizer than the teacher; pretrain with --tokenizer {teacher}" in other.err


def test_distill_makes_a_static_student_that_is_exported_and_embeds(
    attar_: Attar, pairs: Path, tmp_path: Path
) -> None:
    teacher, out, bundle = (
        bert_folder(tmp_path / "theirs"),
        tmp_path / "static",
        tmp_path / "x.attar",
    )
    ran = attar_(
        *("distill", teacher, "--out", out, "--data", pairs, "--steps", 2),
        *("--student", "static", "--dim", 12),
    )
    assert ran.status == 0, ran.err
    model = encoder_folder.load(out)
    assert isinstance(model, encoder_folder.TextModel)
    assert isinstance(model.encoder, StaticEncoder)
    assert (model.encoder.dim, model.lineage["recipe"]) == (12, "static")

    ran = attar_("export", out, bundle, "--data", pairs)
    assert ran.status == 0, ran.err
    assert "binarized is left out: the encoder is static" in ran.out
    manifest = Bundle.open(bundle).manifest
    assert [variant.name for variant in manifest.variants] == ["fp32", "int8"]
    assert [variant.attention for variant in manifest.variants] == [None, None]
    vectors = attar.load(bundle, variant="int8").embed(["", "the cat"]).vectors
    assert vectors[0].tolist() == [1] + [0] * 11
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)
    assert attar_("verify", bundle, "--against", out).status == 0


@pytest.mark.slow
def test_all_minilm_is_distilled(attar_: Attar, pairs: Path, tmp_path: Path) -> None:
    few, general, out = (tmp_path / name for name in ("few.jsonl", "general.txt", "student"))
    few.write_text("".join(pairs.read_text("utf-8").splitlines(keepends=True)[:12]), "utf-8")
    general.write_text("\n".join(package_descriptions.read(20)), "utf-8")
    arguments = ["distill", minilm(), "--out", out, "--data", few, "--steps", 2]
    arguments += ["--general", general]
    early = attar_(*arguments)
    assert (early.status, early.err.count("\n")) == (2, 1), early.err
    assert "the student's mean cosine to its teacher is 0." in early.err
    ran = attar_(*arguments, "--min-cosine", 0)
    assert ran.status == 0, ran.err
    assert encoder_folder.load_text(out).encoder.dim == 384


def test_binarize_names_the_command_that_leaves_out_a_variant_that_cannot_be(
    attar_: Attar, pairs: Path, tmp_path: Path
) -> None:
    sharp = copy.deepcopy(trained())
    for name, parameter in sharp.encoder.named_parameters():
        if ".query." in name or ".value." in name:
            parameter.data *= 30
    encoder_folder.save(sharp, tmp_path / "sharp")
    arguments = tmp_path / "sharp", tmp_path / "x.attar", "--data", pairs
    ran = attar_("binarize", *arguments)
    assert (ran.status, ran.err.count("\n")) == (2, 1)
    assert ran.err.startswith("attar: binarizing any one layer moves embeddings to a mean cosine")
    assert ran.err.endswith("; `attar export` writes the other variants\n")
    ran = attar_("export", *arguments)
    assert ran.status == 0, ran.err
    assert "binarized is left out: binarizing any one layer moves embeddings" in ran.out
    assert {"fp32", "int8"} == {v.name for v in Bundle.open(tmp_path / "x.attar").manifest.variants}


# Mistakes.


def nothing(folder: Path) -> list[object]:
    return ["inspect", folder / "nothing"]


def no_recipe(folder: Path) -> list[object]:
    return ["pretrain", "image/nothing", "--out", folder / "x", "--data", folder / "pairs.jsonl"]


def no_folder(folder: Path) -> list[object]:
    return ["pretrain", "image/byol", "--out", folder / "x", "--data", folder / "none"]


def no_data(folder: Path) -> list[object]:
    return ["pretrain", "text/simclr", "--out", folder / "x", "--data", folder / "nothing.jsonl"]


def bad_line(folder: Path) -> list[object]:
    path = folder / "bad.jsonl"
    path.write_text('{"name": "a", "summary": "b", "body": "c"}\n{"name": "d"}\n', "utf-8")
    return ["pretrain", "text/simclr", "--out", folder / "x", "--data", path]


def one_pair(folder: Path) -> list[object]:
    path = folder / "one.jsonl"
    path.write_text('{"name": "a", "summary": "b", "body": "c"}\n', "utf-8")
    return ["pretrain", "text/simclr", "--out", folder / "x", "--data", path]


def no_encoder(folder: Path) -> list[object]:
    return ["export", folder / "nothing", folder / "x.attar"]


def no_teacher(folder: Path) -> list[object]:
    return ["import", folder / "nothing", folder / "x.attar"]


def no_tokenizer(folder: Path) -> list[object]:
    tokenizer = folder / "nothing.json"
    data = folder / "three.jsonl"
    rows = [{"name": name, "summary": name, "body": name} for name in "abc"]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    out = folder / "x"
    return ["pretrain", "text/simclr", "--out", out, "--data", data, "--tokenizer", tokenizer]


def bad_role(folder: Path) -> list[object]:
    return ["embed", tiny_bundle(folder / "tiny.attar"), "cat", "--role", "user"]


def no_variant(folder: Path) -> list[object]:
    return ["embed", tiny_bundle(folder / "tiny.attar"), "cat", "--variant", "fp64"]


def serve_nothing(folder: Path) -> list[object]:
    ports = ("--port", "0", "--http-port", "off", "--metrics-port", "off")
    return ["serve", folder / "nothing", *ports, "--data-dir", folder / "data"]


@pytest.mark.parametrize(
    ("mistake", "message"),
    [
        (nothing, "no bundle at"),
        (no_recipe, "there is no recipe 'image/nothing'; there are "),
        (no_folder, "there is no file or folder"),
        (no_data, "cannot read pairs from"),
        (bad_line, "bad.jsonl, line 2"),
        (
            one_pair,
            "has 1 of the 3 pairs of texts that are needed, one of which is held out; give more",
        ),
        (no_encoder, "nothing/encoder.json is missing"),
        (no_teacher, "nothing is missing; give the folder"),
        (no_tokenizer, "No such file or directory"),
        (bad_role, "role must be one of passage, query; got 'user'"),
        (no_variant, "tiny has no variant 'fp64'; it has fp32"),
        (serve_nothing, "nothing"),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_status_2(
    attar_: Attar, mistake: Callable[[Path], list[object]], message: str, tmp_path: Path
) -> None:
    ran = attar_(*mistake(tmp_path))
    assert ran.status == 2
    assert ran.err.startswith("attar: ")
    assert message in ran.err
    assert ran.err.count("\n") == 1
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "x.attar").exists()


@pytest.mark.parametrize(
    "arguments", [["export"], ["pretrain", "text/simclr", "--out", "x", "--steps", "0"], ["exprot"]]
)
def test_flags_that_do_not_parse_have_status_2_too(attar_: Attar, arguments: list[str]) -> None:
    ran = attar_(*arguments)
    assert ran.status == 2
    assert "Usage" in ran.err


# What each part needs.


def python(code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    environment = {**os.environ, "COLUMNS": "200"}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)


HELP = """
import sys
from attar.cli.main import main
try:
    main()
finally:
    for name in ("torch", "grpc", "onnx", "sklearn", "onnxscript"):
        assert name not in sys.modules, name
"""


def test_help_names_every_command_and_imports_no_heavy_part() -> None:
    ran = python(HELP, "--help")
    assert ran.returncode == 0, ran.stderr
    for command in (
        "import", "recipes", "pretrain", "adapt", "distill", "export", "binarize", "export-triton",
        "export-tensorrt", "serve", "embed", "inspect", "demo",
    ):  # fmt: skip
        assert command in ran.stdout


def test_embedding_needs_no_torch(bundle_path: Path) -> None:
    ran = python(HELP, "embed", bundle_path, "cat")
    assert ran.returncode == 0, ran.stderr
    assert "embedding" in ran.stdout


@pytest.mark.parametrize("command", [("verify",), ("inspect", "--ops")], ids=" ".join)
def test_what_reads_a_bundle_alone_imports_no_torch(
    command: tuple[str, ...], bundle_path: Path
) -> None:
    code = HELP.replace('"onnx", ', "")  # of which it reads the operations
    ran = python(code, command[0], bundle_path, *command[1:])
    assert ran.returncode == 0, ran.stderr


WITHOUT = """
import sys
for name in sys.argv.pop(1).split(","):
    sys.modules[name] = None
from attar.cli.main import main
main()
"""


@pytest.mark.parametrize(
    ("missing", "arguments", "extra"),
    [
        ("typer", ["--help"], "server"),
        ("torch", ["recipes"], "export"),
        ("safetensors", ["import", "folder", "x.attar"], "hf"),
        ("grpc", ["serve", "x"], "server"),
    ],
)
def test_a_missing_extra_is_named_in_one_line(
    missing: str, arguments: list[str], extra: str
) -> None:
    ran = python(WITHOUT, missing, *arguments)
    assert ran.returncode == 2
    assert ran.stderr.startswith("attar: ")
    assert ran.stderr.endswith(f"needs the {extra} extra: pip install 'attar[{extra}]'\n")
    assert ran.stderr.count("\n") == 1
