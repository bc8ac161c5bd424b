"""An imported bundle held to the torch encoder of the folder that it was made of."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import attar
from attar.export.measure import cosine
from attar.inputs import TextInput
from attar.training.huggingface import loading
from attar.training.probes.text_retrieval import embed

TEXTS = ("", "the cat sat on the mat", "rain", "日本語 naïve ☃", "blue sky, red sun: " * 40)


def assert_same_as_torch(bundle: Path, folder: Path, texts: Sequence[str] = TEXTS) -> None:
    """Embed texts by both; they differ by rounding alone."""
    model = loading.read(folder)
    host = TextInput(model.tokenizer, max_length=model.encoder.max_length, prompts={})
    texts = list(texts)
    rows = host.prepare(texts, role="passage", truncation="truncate")
    expected = embed(model.encoder, [row.arrays[0] for row in rows])
    given = attar.load(bundle, threads=1).embed(texts).vectors
    assert np.abs(given - expected).max() <= 2e-6
    assert cosine(given, expected).min() >= 1 - 1e-5
