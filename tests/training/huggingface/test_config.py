"""What a folder says of its encoder is what the bundle says; what it leaves open is declared."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.normalizers import NFKC

import attar
from attar.errors import InvalidInput
from attar.export.importing import import_folder
from attar.training.data.text import tokenize
from attar.training.huggingface import loading
from attar.training.huggingface.config import Declared
from attar.training.probes.text_retrieval import embed
from benchmarks.hostile.folders import PROMPTS, edit
from benchmarks.support.families import libraries, sentence_folder
from benchmarks.support.teachers import LENGTH, WIDTH, bert_folder, write_json

TEXTS = ["", "rain", "the cat sat on the mat", "blue sky sun " * 9, "a red mat in the rain"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return bert_folder(tmp_path / "theirs")


def card(folder: Path, *dims: int) -> None:
    """Write a model card as sentence-transformers does after training with MatryoshkaLoss."""
    loss = json.dumps({"loss": "X", "matryoshka_dims": dims, "n_dims_per_step": -1}, indent=4)
    (folder / "README.md").write_text(f"#### MatryoshkaLoss\n```json\n{loss}\n```\n")


def test_prompts_and_widths_are_those_of_sentence_transformers(tmp_path: Path) -> None:
    prompts = {"query": "the cat ", "document": "red sun ", "Clustering": "rain mat "}
    folder = sentence_folder(tmp_path / "theirs", prompts=prompts)
    edit(PROMPTS, truncate_dim=8)(folder)
    exported = import_folder(folder, tmp_path / "mine.attar")
    encoder = attar.load(exported.bundle.path, threads=1)
    assert encoder.manifest.output.dims == (8, 16)
    with libraries() as (_, library):
        made = library.SentenceTransformer(str(folder), device="cpu")
        made.truncate_dim = None
        expected = {
            "query": made.encode_query(TEXTS),
            "passage": made.encode_document(TEXTS),
            "Clustering": made.encode(TEXTS, prompt_name="Clustering"),
        }
        short = made.encode_query(TEXTS, truncate_dim=8, normalize_embeddings=True)
    for role, vectors in expected.items():
        given = encoder.embed(TEXTS, role=role).vectors
        np.testing.assert_allclose(given, vectors, rtol=0, atol=1e-5)
    cut = encoder.embed(TEXTS, role="query", dims=8).vectors
    np.testing.assert_allclose(cut, short, rtol=0, atol=1e-5)
    assert np.abs(expected["query"] - expected["passage"]).max() > 0.01


@pytest.mark.parametrize(
    ("listed", "query", "passage"),
    [
        ({}, "", ""),
        ({"query": "q: ", "passage": "p: "}, "q: ", "p: "),
        ({"query": "q: ", "document": "d: ", "passage": "p: "}, "q: ", "d: "),
        # sentence-transformers saves empty ones next to the given ones
        ({"query": "", "document": "", "passage": "p: "}, "", "p: "),
        ({"query": None, "corpus": "c: "}, "", "c: "),
    ],
)
def test_a_role_has_the_prompt_that_the_folder_names(
    folder: Path, listed: dict[str, Any], query: str, passage: str
) -> None:
    edit(PROMPTS, prompts=listed)(folder)
    assert loading.read(folder).prompts == {"query": query, "passage": passage}


def test_the_prompts_of_other_tasks_have_their_own_names(folder: Path) -> None:
    listed = {"query": "q: ", "document": "d: ", "passage": "p: ", "Clustering": "topic: "}
    edit(PROMPTS, prompts={**listed, "none": "", "corpus": "c: "})(folder)
    roles = {"query": "q: ", "passage": "d: "}
    others = {"Clustering": "topic: ", "corpus": "c: "}
    assert loading.read(folder).prompts == {**roles, **others}
    edit(PROMPTS, prompts={f"task {i}": "a" for i in range(257)})(folder)
    with pytest.raises(InvalidInput, match="has 257 prompts; attar imports 256 at most"):
        loading.read(folder)


def test_prompts_are_declared_where_the_folder_has_none(folder: Path) -> None:
    declared = Declared(prompts={"query": "query: ", "passage": "passage: "})
    assert loading.read(folder, declared).prompts == declared.prompts
    edit(PROMPTS, prompts={"query": "query: "})(folder)
    assert loading.read(folder, declared).prompts == declared.prompts  # what it says again


def test_a_default_prompt_is_taken_when_it_is_a_roles(folder: Path) -> None:
    edit(PROMPTS, prompts={"query": "q: "}, default_prompt_name="query")(folder)
    assert loading.read(folder).prompts == {"query": "q: ", "passage": ""}


def test_widths_are_those_of_the_folder_or_declared(folder: Path) -> None:
    assert loading.read(folder).dims == ()
    assert loading.read(folder, Declared(dims=(4, 8, 16))).dims == (4, 8)  # 16 is the whole
    card(folder, 16, 8, 4)
    assert loading.read(folder).dims == (4, 8)
    assert loading.read(folder, Declared(dims=(8,))).dims == (8,)
    with pytest.raises(InvalidInput, match="was trained for the widths 4, 8, 16; got 2"):
        loading.read(folder, Declared(dims=(2,)))


def test_embeddings_of_any_length_have_one_width(folder: Path) -> None:
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    write_json(folder / "modules.json", modules[:2])
    card(folder, 16, 8, 4)
    model = loading.read(folder)
    assert (model.normalized, model.dims) == (False, ())
    model = loading.read(folder, Declared(normalize=True))
    assert (model.normalized, model.dims) == (True, (4, 8))


def test_a_plain_folder_is_as_it_is_declared(folder: Path) -> None:
    whole = loading.read(folder)
    (folder / "modules.json").unlink()
    declared = Declared(pooling="mean", normalize=True)
    plain = loading.read(folder, declared)
    rows = tokenize(TEXTS, whole.tokenizer, max_length=LENGTH)
    np.testing.assert_array_equal(embed(plain.encoder, rows), embed(whole.encoder, rows))
    assert plain.encoder.dim == WIDTH
    assert plain.lineage["declared"] == {
        "route": None,
        "pooling": "mean",
        "normalize": True,
        "prompts": {},
        "dims": (),
    }
    assert "declared" not in whole.lineage


@pytest.mark.parametrize(
    ("sentences", "tokenizer", "most"),
    [
        (7, 9, 7),  # sentence-transformers' own setting decides
        (None, 9, 9),
        (None, 10**30, 20),  # the tokenizer knows none, so the positions do
        (None, 50, 20),
        (50, None, 20),  # and nothing is longer than them
        (None, None, 20),
    ],
)
def test_the_length_is_the_folders(
    folder: Path, sentences: int | None, tokenizer: int | None, most: int
) -> None:
    edit("sentence_bert_config.json", max_seq_length=sentences)(folder)
    edit("tokenizer_config.json", model_max_length=tokenizer)(folder)
    assert loading.read(folder).encoder.max_length == most


def test_lower_case_comes_before_the_tokenizers_own_steps(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.normalizer = NFKC()
    tokenizer.save(str(folder / "tokenizer.json"))
    before = loading.read(folder).tokenizer
    assert before == (folder / "tokenizer.json").read_bytes()
    edit("sentence_bert_config.json", do_lower_case=True)(folder)
    after = loading.read(folder).tokenizer
    upper, lower = tokenize(["THE CAT", "the cat"], after, max_length=LENGTH)
    np.testing.assert_array_equal(upper, lower)
    (unknown,) = tokenize(["THE CAT"], before, max_length=LENGTH)
    assert unknown.tolist() != lower.tolist()


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("intfloat/e5-base-v2", "intfloat/e5-base-v2"),
        ("minilm", "minilm"),
        # A path of somebody's machine is no name.
        ("/home/me/model", "theirs"),
        ("a/b/c", "theirs"),
        ("", "theirs"),
    ],
)
def test_lineage_names_the_model_and_no_ones_folders(folder: Path, given: str, name: str) -> None:
    edit("config.json", _name_or_path=given)(folder)
    assert loading.read(folder).lineage == {"imported": name}


@pytest.mark.parametrize("dims", [(8, 4), (4, 4), (0,)])
def test_widths_rise_from_one(dims: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="dims must be rising whole numbers from 1"):
        Declared(dims=dims)


def test_a_prompt_is_a_roles() -> None:
    with pytest.raises(InvalidInput, match="for query or passage; got one for 'document'"):
        Declared(prompts={"document": "d: "})
