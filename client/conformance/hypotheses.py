"""Hypotheses: what a server may have done instead, as embeddings that the bundle gives for it."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attar.encodings import Vectors
from attar.errors import AttarError
from attar.inputs import TextInput
from attar.runtime import Encoder

Embed = Callable[[Sequence[str]], Vectors]


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """What a server may do, in words, and the embeddings that it would answer then."""

    words: str
    embed: Embed


def right(encoder: Encoder) -> Embed:
    """Give what a server must answer: the embeddings of passages, long ones cut."""
    return lambda texts: encoder.embed(list(texts)).vectors


def of_every_text(encoder: Encoder) -> Iterator[Hypothesis]:
    """Give what would make all embeddings others: prompts, special tokens, the pooling."""
    prompts = encoder.manifest.preprocessing.prompts
    passage = prompts.get("passage", "")
    for name, prompt in prompts.items():
        if prompt not in (passage, ""):
            words = f"it puts the prompt {name!r} before every text, instead of that of a passage"
            yield Hypothesis(words, _other(encoder, prompts={"passage": prompt}))
    if passage:
        words = f"it puts no prompt before the texts; a passage has {passage!r}"
        yield Hypothesis(words, _other(encoder, prompts={}))
    tokenizer = json.loads(_tokenizer(encoder))
    if tokenizer.get("post_processor") is not None:
        bare = json.dumps({**tokenizer, "post_processor": None}).encode()
        words = "it leaves out the tokenizer's special tokens"
        yield Hypothesis(words, _other(encoder, tokenizer=bare))
    if encoder.token_dim == encoder.dim:
        yield Hypothesis("it gives the first token's vector", _token(encoder, 0))
        yield Hypothesis("it gives the last token's vector", _token(encoder, -1))


def of_letters(encoder: Encoder) -> Iterator[Hypothesis]:
    """Give what would make the embeddings of some letters others."""
    embed = right(encoder)
    tokenizer = json.loads(_tokenizer(encoder))
    normalizer = tokenizer.get("normalizer")
    yield Hypothesis("it makes capitals small", lambda texts: embed([t.lower() for t in texts]))
    if isinstance(normalizer, dict) and normalizer.get("lowercase"):
        kept = {**tokenizer, "normalizer": {**normalizer, "lowercase": False}}
        words = "it does not make capitals small, as the bundle's tokenizer does"
        yield Hypothesis(words, _other(encoder, tokenizer=json.dumps(kept).encode()))
    if normalizer is not None:
        raw = {**tokenizer, "normalizer": None}
        words = "it leaves out the tokenizer's normalizer"
        yield Hypothesis(words, _other(encoder, tokenizer=json.dumps(raw).encode()))


def of_length(encoder: Encoder) -> Iterator[Hypothesis]:
    """Give what would make the embedding of a long text another: a cut elsewhere."""
    limit = encoder.max_length or 0
    side = encoder.manifest.preprocessing.truncation_side
    other = "left" if side == "right" else "right"
    kept = {"left": "end", "right": "beginning"}
    words = f"it keeps the {kept[other]} of a long text; the bundle keeps the {kept[side]}"
    yield Hypothesis(words, _other(encoder, truncation_side=other))
    for length in (2**power for power in range(3, 14)):
        if length < limit:
            words = f"it cuts a text at {length} tokens; the bundle takes {limit}"
            yield Hypothesis(words, _other(encoder, max_length=length))


def _tokenizer(encoder: Encoder) -> bytes:
    name = encoder.manifest.preprocessing.tokenizer
    assert name is not None  # it is an encoder of texts
    return encoder.bundle.read(name)


def _other(
    encoder: Encoder,
    *,
    tokenizer: bytes | None = None,
    prompts: Mapping[str, str] | None = None,
    max_length: int | None = None,
    truncation_side: str | None = None,
) -> Embed:
    """Give the encoder's embeddings with another host step; NaN where that cannot be."""
    own = encoder.manifest.preprocessing

    def embed(texts: Sequence[str]) -> Vectors:
        try:
            host = TextInput(
                tokenizer or _tokenizer(encoder),
                max_length=max_length or encoder.max_length or 0,
                prompts=own.prompts if prompts is None else prompts,
                truncation_side=truncation_side or own.truncation_side,
            )
            rows = host.prepare(list(texts), role="passage", truncation="truncate")
            return np.concatenate([encoder.finish(encoder.infer([row])) for row in rows])
        except AttarError:
            return np.full((len(texts), encoder.dim), np.nan, np.float32)

    return embed


def _token(encoder: Encoder, index: int) -> Embed:
    def embed(texts: Sequence[str]) -> Vectors:
        tokens = encoder.embed_tokens(list(texts))
        return np.stack([tokens[i][index] for i in range(len(texts))])

    return embed
