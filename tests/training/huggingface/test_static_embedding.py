"""A StaticEmbedding and a Router give what sentence-transformers gives, or are refused by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import attar
from attar.errors import InvalidInput
from attar.export.importing import import_folder
from attar.inputs import TextInput
from attar.training.huggingface import loading
from attar.training.huggingface.config import Declared
from attar.training.probes.text_retrieval import embed
from benchmarks.support.encoders import random_texts
from benchmarks.support.families import libraries, router_folder, static_folder
from benchmarks.support.teachers import bert_folder, write_json

TEXTS = ["rain", "an unknown word", "blue sky sun " * 40, *random_texts(12, length=(1, 20))]


def in_torch(folder: Path, declared: Declared = loading.SILENT, role: str = "passage") -> Any:
    model = loading.read(folder, declared)
    host = TextInput(model.tokenizer, max_length=model.encoder.max_length, prompts=model.prompts)
    rows = host.prepare(TEXTS, role=role, truncation="truncate")
    return embed(model.encoder, [row.arrays[0] for row in rows])


def theirs(folder: Path) -> Any:
    with libraries() as (_, library):
        return library.SentenceTransformer(str(folder), device="cpu")


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("model2vec", [True, False])
def test_a_table_gives_what_sentence_transformers_gives(
    *, normalize: bool, model2vec: bool, tmp_path: Path
) -> None:
    folder = static_folder(tmp_path / "theirs", normalize=normalize, model2vec=model2vec)
    given, expected = in_torch(folder), theirs(folder).encode(TEXTS)
    np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    assert loading.read(folder).normalized is normalize


def test_a_bundle_of_a_table_gives_the_same(tmp_path: Path) -> None:
    folder = static_folder(tmp_path / "theirs", normalize=False)
    bundle = import_folder(folder, tmp_path / "mine.attar").bundle
    given = attar.load(bundle.path, threads=1).embed(TEXTS).vectors
    np.testing.assert_allclose(given, theirs(folder).encode(TEXTS), rtol=1e-5, atol=1e-5)
    with pytest.raises(InvalidInput, match="item 0 has no tokens"):
        attar.load(bundle.path, threads=1).embed([""])


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return router_folder(tmp_path_factory.mktemp("router") / "theirs")


def test_each_route_of_a_router_is_read_by_its_name(router: Path) -> None:
    made = theirs(router)
    for route, role, expected in (
        ("query", "query", made.encode_query(TEXTS)),
        ("document", "passage", made.encode_document(TEXTS)),
    ):
        given = in_torch(router, Declared(route=route), role)  # type: ignore[arg-type]  # above
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-5)
    model = loading.read(router, Declared(route="query"))
    assert model.lineage["declared"]["route"] == "query"  # type: ignore[index]  # a dictionary


def test_a_router_asks_for_a_route_and_nothing_else_takes_one(router: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"choose one \(--route query, --route document\)"):
        loading.read(router)
    for folder in (bert_folder(tmp_path / "bert"), static_folder(tmp_path / "static")):
        with pytest.raises(InvalidInput, match="has one encoder; leave --route query out"):
            loading.read(folder, Declared(route="query"))


def weigh(**parts: torch.Tensor) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (path,) = folder.rglob("model.safetensors")
        save_file({name.replace("__", "."): part for name, part in parts.items()}, path)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (weigh(embedding__weight=torch.zeros(3, 2)), "and the table 3 rows"),
        (weigh(embedding__weight=torch.zeros(3)), r"a table of shape \(3,\)"),
        (weigh(embedding__weight=torch.full((99, 2), torch.nan)), "holds a NaN"),
        (weigh(rows=torch.zeros(3, 2)), "has 'rows'; expected 'embedding.weight'"),
        (weigh(embeddings=torch.zeros(3, 2), mapping=torch.tensor([3])), "rows that it has not"),
        (weigh(embeddings=torch.zeros(3, 2), weights=torch.ones(2)), r"weights of shape \(2,\)"),
        (lambda folder: next(folder.rglob("tokenizer.json")).unlink(), "tokenizer.json is missing"),
        (lambda folder: next(folder.rglob("tokenizer.json")).write_text("{}"), "is damaged"),
    ],
)
def test_a_bad_table_is_named(
    spoil: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    folder = static_folder(tmp_path / "theirs")
    spoil(folder)
    with pytest.raises(InvalidInput, match=message):
        loading.read(folder)


ROUTES = {"types": {"q": "sentence_transformers.models.LSTM"}, "structure": {"query": ["q"]}}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "lacks types or structure"),
        (ROUTES, "uses the module 'sentence_transformers.models.LSTM'"),
        ({**ROUTES, "structure": {"document": ["q"]}}, "has the routes document, and no query"),
        ({**ROUTES, "structure": {"query": [["q"]]}}, "of which it has no type"),
        ({**ROUTES, "parameters": {"route_mappings": {"a": "b"}}}, "has route_mappings"),
        (
            {"types": {"../q": "mine.Code"}, "structure": {"query": ["../q"]}},
            "which is not inside the folder",
        ),
    ],
)
def test_a_bad_router_is_named(config: dict[str, Any], message: str, tmp_path: Path) -> None:
    folder = bert_folder(tmp_path / "theirs")
    kind = "sentence_transformers.base.modules.router.Router"
    write_json(folder / "modules.json", [{"path": "", "type": kind}])
    write_json(folder / "router_config.json", config)
    with pytest.raises(InvalidInput, match=message):
        loading.read(folder, Declared(route="query"))
