"""attar verify --server: a right server holds, and each fault is named in words."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attar
from attar.client.conformance import HttpServer, check_server
from attar.errors import InvalidInput, NotSupported, Unavailable
from attar.inputs import TextInput
from attar.runtime import Encoder
from benchmarks.support.bundles import row_bundle, tiny_bundle
from benchmarks.support.embedding_server import Rows, embedding_server
from benchmarks.support.servers import free_port, serving, settings

Fault = Callable[[Encoder], Rows]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of small letters only, with a prompt and token vectors."""
    path = tmp_path_factory.mktemp("bundle") / "tiny.attar"
    return tiny_bundle(path, max_length=64, prompts={"passage": "passage: "}, tokens=True)


@pytest.fixture(scope="module")
def encoder(bundle: Path) -> Encoder:
    return attar.load(bundle, threads=1)


def right(encoder: Encoder) -> Rows:
    return lambda texts: encoder.embed(list(texts)).vectors


def with_tokenizer(encoder: Encoder, change: Callable[[dict[str, Any]], object]) -> Rows:
    """Embed through the bundle's tokenizer with a change to its file."""
    document = json.loads(encoder.bundle.read("tokenizer.json"))
    change(document)
    prompts = encoder.manifest.preprocessing.prompts
    host = TextInput(json.dumps(document).encode(), max_length=64, prompts=prompts)

    def rows(texts: Sequence[str]) -> np.ndarray:
        prepared = host.prepare(list(texts), role="passage", truncation="truncate")
        return encoder.finish(encoder.infer(prepared))

    return rows


def capitals_kept(encoder: Encoder) -> Rows:
    def change(document: dict[str, Any]) -> None:
        document["normalizer"]["lowercase"] = False

    return with_tokenizer(encoder, change)


def without_special_tokens(encoder: Encoder) -> Rows:
    return with_tokenizer(encoder, lambda document: document.update(post_processor=None))


def cut_at_sixteen(encoder: Encoder) -> Rows:
    document = encoder.bundle.read("tokenizer.json")
    prompts = encoder.manifest.preprocessing.prompts
    full = TextInput(document, max_length=64, prompts=prompts)
    short = TextInput(document, max_length=16, prompts=prompts)

    def rows(texts: Sequence[str]) -> np.ndarray:
        kept = [
            (short if row.truncated else full).prepare(
                [text], role="passage", truncation="truncate"
            )
            for text, row in zip(texts, encoder.prepare(list(texts)), strict=True)
        ]
        return np.concatenate([encoder.finish(encoder.infer(one)) for one in kept])

    return rows


def first_token(encoder: Encoder) -> Rows:
    def rows(texts: Sequence[str]) -> np.ndarray:
        tokens = encoder.embed_tokens(list(texts))
        return np.stack([tokens[i][0] for i in range(len(texts))])

    return rows


def no_prompt(encoder: Encoder) -> Rows:
    return lambda texts: encoder.embed(list(texts), role="query").vectors


def other_weights(encoder: Encoder) -> Rows:
    turn = np.linalg.qr(np.random.default_rng(0).standard_normal((encoder.dim, encoder.dim)))[0]
    return lambda texts: encoder.embed(list(texts)).vectors @ turn.astype(np.float32)


def three_times(encoder: Encoder) -> Rows:
    return lambda texts: 3 * encoder.embed(list(texts)).vectors


def sorted_by_length(encoder: Encoder) -> Rows:
    return lambda texts: encoder.embed(sorted(texts, key=len)).vectors


def padding_counted(encoder: Encoder) -> Rows:
    def rows(texts: Sequence[str]) -> np.ndarray:
        longest = max(text.count(" ") for text in texts)
        padded = [text + " the" * (longest - text.count(" ")) for text in texts]
        return encoder.embed(padded).vectors

    return rows


def answers_of_others(encoder: Encoder) -> Rows:
    latest: list[Sequence[str]] = [[]]
    both = threading.Lock()

    def rows(texts: Sequence[str]) -> np.ndarray:
        latest[0] = texts
        time.sleep(0.005)
        with both:
            return encoder.embed(list(latest[0])).vectors

    return rows


def nan_of_nothing(encoder: Encoder) -> Rows:
    def rows(texts: Sequence[str]) -> np.ndarray:
        vectors = encoder.embed(list(texts)).vectors.copy()
        vectors[[not text.strip() for text in texts]] = np.nan
        return vectors

    return rows


FAULTS: dict[str, tuple[Fault, str, str]] = {
    "capitals": (capitals_kept, "tokenisation", "does not make capitals small"),
    "special tokens": (without_special_tokens, "plain texts", "leaves out the tokenizer's special"),
    "truncation": (cut_at_sixteen, "truncation", "cuts a text at 16 tokens; the bundle takes 64"),
    "pooling": (first_token, "plain texts", "gives the first token's vector"),
    "prompts": (no_prompt, "plain texts", "puts no prompt before the texts"),
    "weights": (other_weights, "plain texts", "another pooling, other weights"),
    "normalisation": (three_times, "normalisation", "lengths are 3 to 3; the bundle's are 1"),
    "order": (sorted_by_length, "order", "are other texts' embeddings"),
    "padding": (padding_counted, "batch invariance", "has another embedding than alone"),
    "concurrency": (answers_of_others, "concurrency", "some get another text's embedding"),
    "NaN": (nan_of_nothing, "empty texts", "'': NaN or infinity"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_and_nothing_else_is_called_wrong(encoder: Encoder, name: str) -> None:
    fault, what, words = FAULTS[name]
    with embedding_server(fault(encoder)) as url:
        checks = check_server(HttpServer(url), encoder)

    wrong = {check.what: check.why for check in checks if check.holds is False}
    assert wrong.keys() == {what}
    assert words in wrong[what]


def test_a_right_server_holds(encoder: Encoder) -> None:
    with embedding_server(right(encoder)) as url:
        checks = check_server(HttpServer(url), encoder)

    assert len(checks) == 10
    assert [check for check in checks if not check.holds] == []
    (cut,) = [check for check in checks if check.what == "truncation"]
    assert cut.why == "a long text is cut at 64 tokens"


@pytest.fixture(scope="module")
def attar_server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    data = tmp_path_factory.mktemp("data")
    with serving(settings(bundle, data_dir=data, http_port=port)):
        yield f"http://127.0.0.1:{port}"


@pytest.mark.parametrize("protocol", ["openai", "tei", "kserve"])
def test_attar_holds_on_each_of_its_protocols(
    encoder: Encoder, attar_server: str, protocol: str
) -> None:
    server = HttpServer(attar_server, protocol=protocol, model="tiny")  # type: ignore[arg-type]

    checks = check_server(server, encoder)

    assert len(checks) == 10
    assert [check for check in checks if not check.holds] == []


def test_an_answer_of_another_width_is_told_by_both_widths(encoder: Encoder) -> None:
    with embedding_server(lambda texts: encoder.embed(list(texts)).vectors[:, :8]) as url:
        *_, last = check_server(HttpServer(url), encoder)

    assert (last.what, last.why) == ("width", "an embedding has 8 numbers; the bundle's has 16")


def test_a_server_that_refuses_plain_texts_is_quoted(encoder: Encoder) -> None:
    def refuse(texts: Sequence[str]) -> np.ndarray:
        raise ValueError("there is no such model")

    with embedding_server(refuse) as url:
        (only,) = check_server(HttpServer(url), encoder)

    assert only.holds is False
    assert "400" in only.why
    assert "there is no such model" in only.why


def test_where_nobody_answers_the_url_is_named(encoder: Encoder) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Unavailable, match=url):
        check_server(HttpServer(url), encoder)


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8080", "ftp://host", "http://", "http://host:99999", "http://u@host/?a=b"]
)
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(InvalidInput, match="URL"):
        HttpServer(url)


def test_a_bundle_that_takes_no_texts_cannot_judge(tmp_path: Path) -> None:
    rows = attar.load(row_bundle(tmp_path / "rows.attar", dim=4, normalized=True, name="rows"))
    with pytest.raises(NotSupported, match="servers are checked with texts"):
        check_server(HttpServer("http://127.0.0.1:9"), rows)
