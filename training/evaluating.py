"""Evaluating: the probes of an encoder on disk, on a data set or a corpus of texts."""

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attar.errors import AlreadyExists, InvalidInput, NotFound
from attar.inputs import Role, TextInput

from .checkpoints.encoder_folder import TextModel
from .data.source import Rows, embed
from .encoders.text import TextNetwork
from .evaluation.image_embedder import ImageEmbedder, image_embedder
from .evaluation.suite import judge
from .pretrained import load_checkpoint
from .probes import suite, text_retrieval
from .probes.summaries import SummaryRetrieval
from .reading import SHIPPED
from .run_data import corpus, named, read_for, read_source
from .sampler import evenly

BATCH = 256  # images that are read at a time
MOST = 500  # images that the suite judges on: each is embedded 32 times


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


def evaluate_suite(
    encoder: str | Path,
    data: str | Path,
    *,
    reading: Sequence[str] = (),
    groups: Path | None = None,
    out: Path | None = None,
) -> dict[str, Any]:
    """Judge an encoder of images on slices, corruptions and copies; see `evaluation.suite.judge`.

    `encoder` is a folder that attar wrote, a bundle, or a network by name (timm:NAME or
    torch:MODULE:FACTORY). `data` and `reading` are as `pretrain` takes them; the test part judges,
    at most 500 images from all over it, and all images where there is none. `groups` is a text file
    with a group's name a line, one for each image of the test part, in order. `out` is a JSON file
    to write the figures to.

    Raises InvalidInput that names the encoder, the data, the choice or the file that cannot be
    read, NotFound for a path or a folder of `out` that does not exist, and AlreadyExists where
    `out` does.
    """
    if out is not None and out.exists():
        raise AlreadyExists(f"--out {out} exists; give another file")
    if out is not None and not out.parent.is_dir():
        raise NotFound(f"there is no folder {out.parent} for --out; make it, or give another file")
    embedder, spec = image_embedder(encoder), named(str(data))
    sized = None if spec in SHIPPED else embedder.side
    source = read_source(spec, reading, modality="image", side=sized)
    labelled = source.test is not None and source.test_labels is not None
    judged = source.test if source.test is not None else source.train
    rows = torch.tensor(evenly(range(len(judged)), min(MOST, len(judged))))
    names = _groups(groups, len(judged)) if groups else []
    facts = judge(
        embedder.embed,
        judged[rows].numpy(),
        train=_embedded(embedder, source.train) if labelled else None,
        train_labels=source.train_labels if labelled else None,
        test_labels=source.test_labels[rows.numpy()] if source.test_labels is not None else None,
        class_names=source.names,
        groups=[names[row] for row in rows.tolist()] if names else (),
    )
    if out is not None:
        out.write_text(json.dumps(facts, indent=2) + "\n", "utf-8")
    return facts


def _embedded(embedder: ImageEmbedder, images: Rows) -> NDArray[np.float32]:
    """Embed images that need not fit into memory: (n, dim)."""
    batches = torch.split(torch.arange(len(images)), BATCH)
    return np.concatenate([embedder.embed(images[rows].numpy()) for rows in batches])


def _groups(path: Path, count: int) -> list[str]:
    try:
        names = path.read_text("utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be read as UTF-8 text: {error}") from error
    if len(names) != count:
        raise InvalidInput(
            f"{path} names {len(names)} groups, and the data has {count} images that judge; give "
            "one a line, in their order"
        )
    return names


def _embed_texts(model: TextModel[TextNetwork], texts: Sequence[str], role: Role) -> NDArray[Any]:
    """Embed texts with the prompt of their role, truncated to what the encoder reads: (n, dim)."""
    host = TextInput(model.tokenizer, max_length=model.encoder.max_length, prompts=model.prompts)
    rows = host.prepare(texts, role=role, truncation="truncate")
    return text_retrieval.embed(model.encoder, [row.arrays[0] for row in rows])
