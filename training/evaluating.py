"""Evaluating: the probes of an encoder on disk, on a data set or a corpus of texts."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar.inputs import Role, TextInput

from .checkpoints.encoder_folder import TextModel
from .data.source import embed
from .encoders.text import TextNetwork
from .pretrained import load_checkpoint
from .probes import suite, text_retrieval
from .probes.summaries import SummaryRetrieval
from .run_data import corpus, named, read_for


def evaluate(
    folder: str | Path, data: str | Path, *, reading: Sequence[str] = ()
) -> dict[str, float]:
    """Probe the encoder in `folder` on `data`, and give the figures by name.

    Texts give recall at 1 and 10, MRR and RankMe: held-out summaries must find their bodies
    (`SummaryRetrieval`). All other items give RankMe of the training part and, with labels in both
    parts, the accuracies `knn`, `linear` and `scarce` (`probes.suite.evaluate`). `data` and
    `reading` are as `pretrain` takes them; images are fitted to the encoder's side, and recordings
    must have its rate.

    Raises InvalidInput that names the folder, the data or the choice that cannot be read, and
    NotFound for a path that does not exist.
    """
    model, spec = load_checkpoint(folder), named(str(data))
    if isinstance(model, TextModel):
        task = SummaryRetrieval.of(corpus(spec, reading, what="evaluate", least=2))
        return task(partial(_embed_texts, model))
    encoder = model.encoder
    source = read_for(encoder, spec, reading)
    test = np.zeros((0, 1), np.float32) if source.test is None else embed(encoder, source.test)
    return suite.evaluate(embed(encoder, source.train), test, source)


def _embed_texts(model: TextModel[TextNetwork], texts: Sequence[str], role: Role) -> NDArray[Any]:
    """Embed texts with the prompt of their role, truncated to what the encoder reads: (n, dim)."""
    host = TextInput(model.tokenizer, max_length=model.encoder.max_length, prompts=model.prompts)
    rows = host.prepare(texts, role=role, truncation="truncate")
    return text_retrieval.embed(model.encoder, [row.arrays[0] for row in rows])
