"""A small text encoder, really trained for a moment, and the corpus that it learned from."""

import json
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attar.export.text import text_graph
from attar.inputs import TextInput
from attar.training.binarizing import RECOVERY, Conversion, recover_binarized
from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.data.pairs import Pair, Split, split
from attar.training.encoders.text import TextConfig, TextEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.loop import fit
from attar.training.probes.text_retrieval import embed
from attar.training.recipes.text import simclr
from attar.training.text_data import TextData, text_data
from attar.training.tokenizers.wordpiece import train_tokenizer

from .session_cache import once

SYLLABLES = ("ba", "ko", "ri", "mu", "te", "zan", "pol", "ix")
MAX_LENGTH = 24
VOCABULARY = 300


@cache
def corpus() -> Split:
    """Give 120 pairs of made-up words: a body is its summary's words shuffled among others."""
    draw = np.random.default_rng(0)
    words = sorted({"".join(draw.choice(SYLLABLES, size=3)) for _ in range(150)})
    pairs = []
    for i in range(120):
        summary = draw.choice(words, size=draw.integers(3, 16))
        body = draw.permutation([*summary, *draw.choice(words, size=draw.integers(0, 10))])
        pairs.append(Pair(f"item{i}", "made", " ".join(summary), " ".join(body)))
    return split(pairs, held_out=20)


@cache
def tokenizer() -> bytes:
    """Learn a tokenizer.json from the corpus."""
    known = (text for pair in corpus().train for text in (pair.summary, pair.body))
    return train_tokenizer(known, vocabulary=VOCABULARY)


@cache
def data() -> TextData:
    """Give the corpus as token ids."""
    return text_data(corpus(), tokenizer(), max_length=MAX_LENGTH)


@cache
def trained() -> TextModel[TextEncoder]:
    """Train two layers of width 32 for 100 steps of SimCLR; nobody may change what this gives."""
    encoder = once("trained", _train)
    return TextModel(
        encoder=encoder.eval(),
        tokenizer=tokenizer(),
        prompts={"query": "", "passage": ""},
        lineage={"recipe": "simclr", "seed": simclr.SMALL.seed},
        licence="Apache-2.0",
    )


def _train() -> TextEncoder:
    settings = simclr.Settings(
        steps=100,
        warmup=5,
        batch_size=32,
        shape=TextConfig(
            vocabulary=VOCABULARY,
            max_length=MAX_LENGTH,
            rank=16,
            transformer=TransformerConfig(width=32, depth=2, heads=4, hidden=64),
        ),
    )
    training = simclr.recipe.build(data(), settings)
    fit(training, accelerator="cpu", progress=False)
    encoder = training.method.encoder
    assert isinstance(encoder, TextEncoder)
    return encoder


@cache
def binarized() -> TextEncoder:
    """Hash the trained encoder's attention and distil it back for some steps."""
    settings = Conversion(recovery=replace(RECOVERY, steps=10))
    return once(
        "binarized",
        lambda: recover_binarized(trained().encoder, data(), data().probe, settings)[0],
    )


@cache
def student_graph() -> bytes:
    """Export the trained encoder to ONNX, once for all tests that read it."""
    return once("student_graph", lambda: text_graph(trained().encoder))


@cache
def binarized_graph() -> bytes:
    """Export the binarized encoder to ONNX, once for all tests that read it."""
    return once("binarized_graph", lambda: text_graph(binarized()))


def texts() -> list[str]:
    """Give texts of every length, the empty one and one too long among them."""
    pairs = corpus().train
    return ["", *(text for pair in pairs for text in (pair.summary, pair.body)), "ba " * 40]


def embed_in_torch(encoder: TextEncoder, items: Sequence[str]) -> NDArray[np.float32]:
    """Embed texts without any export, in full precision."""
    host = TextInput(tokenizer(), max_length=encoder.shape.max_length, prompts={})
    rows = host.prepare(items, role="passage", truncation="truncate")
    return embed(encoder, [row.arrays[0] for row in rows])


def write_teacher(root: Path) -> Path:
    """Write a teacher in a folder of attar's, pairs, and general texts of the same words."""
    encoder_folder.save(trained(), root / "teacher")
    some = (*corpus().train, *corpus().held_out)
    rows = ({"name": p.name, "summary": p.summary, "body": p.body} for p in some)
    (root / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    general = (f"{p.summary} {q.summary}" for p, q in pairwise(some))
    (root / "general.txt").write_text("\n".join(general), "utf-8")
    return root
