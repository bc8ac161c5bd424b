"""Ids are taken only where they can be the model's tokenizer's own, on the device and the wire."""

import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from hypothesis import example, given
from hypothesis import settings as examples
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from tritonclient.utils import InferenceServerException

import attar
from attar.errors import InvalidInput
from attar.inputs import TextInput
from benchmarks.hostile.requests import world
from benchmarks.hostile.token_ids import (
    CASES,
    MAX_LENGTH,
    TEXTS_ONLY,
    TOKENIZERS,
    Case,
    foreign,
    texts,
    tokenizer,
)
from benchmarks.support.bundles import WORDS, tiny_bundle
from benchmarks.support.servers import free_port, serving, settings

WAY_OUT = "check_embedding_ctx_length=False"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    port = free_port()
    with world(tmp_path_factory.mktemp("ids"), http_port=port) as (target, _):
        yield target, f"http://127.0.0.1:{port}/v1/embeddings"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> attar.Encoder:
    return attar.load(tiny_bundle(tmp_path_factory.mktemp("ids") / "tiny.attar"), threads=1)


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_own_ids_of_any_text_pass_however_they_were_cut(kind: str, side: str) -> None:
    theirs: Any = PreTrainedTokenizerFast(tokenizer_object=tokenizer(kind), truncation_side=side)  # type: ignore[no-untyped-call]
    written = tokenizer(kind).to_str().encode()
    ours = TextInput(written, max_length=MAX_LENGTH, prompts={}, truncation_side=side)

    @examples(max_examples=40, deadline=None, database=None)
    @given(texts())
    @example(" <s>The")
    @example("don't The")
    @example("don'tcat ")
    def check(text: str) -> None:
        for length in (MAX_LENGTH, 5):
            ids = theirs(text, truncation=True, max_length=length)["input_ids"]
            (row,) = ours.prepare([ids], role="query", truncation="error")
            assert row.arrays[0].tolist() == ids

    check()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_other_ids_are_refused_on_the_device(case: Case, encoder: attar.Encoder) -> None:
    with pytest.raises(InvalidInput, match=case.refusal) as refused:
        encoder.embed([encoder.prepare(["cat"])[0].arrays[0].tolist(), case.ids])

    assert str(refused.value).startswith("item 1 ")
    assert WAY_OUT in str(refused.value) or not case.ids


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_other_ids_are_refused_on_the_wire(case: Case, served: tuple[str, str]) -> None:
    target, url = served
    own, refusals = [2, 5, 3], list[str]()
    with attar.Client(target) as client:
        found = client.embed([own, case.ids], model="tiny", partial=True)
        refusals.append(str(found.errors[1]))
        assert found.errors[0] is None
        (streamed,) = client.embed_stream([[own, case.ids]], model="tiny", partial=True)
        refusals.append(str(streamed.errors[1]))
    async with attar.AsyncClient(target) as client:
        with pytest.raises(InvalidInput) as refused:
            await client.embed([own, case.ids], model="tiny")
        refusals.append(str(refused.value))
    async with httpx.AsyncClient() as web:
        for given_ids in (case.ids, [own, case.ids]):
            answer = await web.post(url, json={"model": "tiny", "input": given_ids})
            assert answer.status_code == 400, answer.text
            refusals.append(answer.json()["error"]["message"])

    for refusal in refusals:
        assert re.search(case.refusal, refusal)
        assert WAY_OUT in refusal or not case.ids


@pytest.mark.parametrize("call", TEXTS_ONLY)
def test_calls_of_texts_alone_take_no_ids(call: str, served: tuple[str, str]) -> None:
    with (
        attar.Client(served[0]) as client,
        pytest.raises(InvalidInput, match="item 0 must be a string; got list"),
    ):
        TEXTS_ONLY[call](client, [2, 5, 3])


def test_kserve_takes_no_ids(served: tuple[str, str]) -> None:
    target, url = served
    for name, refusal in (("text", "text is INT64; tiny takes BYTES"), ("input_ids", "takes one")):
        tensor = {"name": name, "datatype": "INT64", "shape": [1, 3], "data": [2, 5, 3]}
        answer = httpx.post(
            url.replace("/v1/embeddings", "/v2/models/tiny/infer"), json={"inputs": [tensor]}
        )
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert refusal in answer.text

        ids = triton.InferInput(name, [1, 3], "INT64")
        ids.set_data_from_numpy(np.array([[2, 5, 3]]))
        with (
            triton.InferenceServerClient(target) as kserve,
            pytest.raises(InferenceServerException, match=refusal),
        ):
            kserve.infer("tiny", [ids])


def test_no_text_in_ids_of_another_tokenizer_is_embedded(served: tuple[str, str]) -> None:
    other, draw = foreign(), random.Random(0)

    with httpx.Client() as web:
        for length in (1, 2, 3, 5, 8) * 40:
            ids = other.encode(" ".join(draw.choices(WORDS, k=length))).ids[:MAX_LENGTH]
            answer = web.post(served[1], json={"model": "tiny", "input": [ids]})
            assert answer.status_code == 400
            assert WAY_OUT in answer.text


def test_any_ids_are_taken_where_a_setting_allows_them(tmp_path: Path) -> None:
    path, port, ids = tiny_bundle(tmp_path / "tiny.attar"), free_port(), [[5], [6, 7]]
    local = attar.load(path, threads=1, allow_token_ids=True)
    chosen = settings(path, data_dir=tmp_path / "data", http_port=port, allow_token_ids=True)

    with serving(chosen) as target, attar.Client(target) as client:
        remote = client.embed(ids)
        asked = {"model": "tiny", "input": ids}
        web = httpx.post(f"http://127.0.0.1:{port}/v1/embeddings", json=asked).json()

    for rows in (remote.vectors, [one["embedding"] for one in web["data"]]):
        assert rows == pytest.approx(local.embed(ids).vectors, abs=1e-6)
    assert (local.reopened().embed(ids).vectors == local.embed(ids).vectors).all()


@pytest.mark.parametrize("around", ["$A", "[CLS] $A", "$A [SEP]"])
def test_a_tokenizer_that_does_not_mark_both_ends_proves_nothing(around: str) -> None:
    one = tokenizer("WordPiece without a decoder")
    marks = [(token, one.token_to_id(token)) for token in ("[CLS]", "[SEP]") if token in around]
    parts = type(one).from_str(one.to_str())
    parts.post_processor = TemplateProcessing(single=around, special_tokens=marks)
    host = TextInput(parts.to_str().encode(), max_length=MAX_LENGTH, prompts={})

    with pytest.raises(InvalidInput, match="no special tokens before and after") as refused:
        host.prepare([parts.encode("cat").ids], role="passage", truncation="truncate")
    assert "allow_token_ids" in str(refused.value)
