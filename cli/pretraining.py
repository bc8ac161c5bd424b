"""What `attar pretrain` does: read what a recipe learns from, run it, and save its encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer
from torch import nn

from attar.errors import InvalidInput, NotFound
from attar.training import distributed
from attar.training.catalogue import find
from attar.training.checkpoints import encoder_folder
from attar.training.checkpoints.encoder_folder import TensorModel, TextModel
from attar.training.checkpoints.run import CHECKPOINT, read_record
from attar.training.data.molecules import Molecules
from attar.training.data.objects import Objects
from attar.training.data.pairs import Split
from attar.training.data.source import Source, pixel_range
from attar.training.digest import SHA256
from attar.training.encoders.encoder import TensorEncoder
from attar.training.encoders.joint_space import SharedSpace
from attar.training.encoders.text import TextEncoder
from attar.training.lineage import Lineage
from attar.training.loop import Strategy, fit
from attar.training.overrides import override
from attar.training.precision import best_precision
from attar.training.probes.finetune import Classifier
from attar.training.recipe import Recipe
from attar.training.recipes.audio.continued import Groups
from attar.training.recipes.text.common import MAX_LENGTH, TextData, text_data
from attar.training.tokenizers.smiles import smiles_tokenizer
from attar.training.tokenizers.wordpiece import train_tokenizer

from . import runs
from .commands import quick, resized
from .console import console
from .reading import (
    Reading,
    TextReading,
    chosen,
    corpus,
    named,
    read_source,
    show,
    show_cut,
    show_whole,
)

PROBES = 4  # while training, besides the first and the last
SHIPPED: Mapping[str, str] = {"text": "docstrings", "image": "digits", "table": "breast_cancer"}


@dataclass(frozen=True, slots=True, kw_only=True)
class How:
    """What decides how fast a run is and in how much memory, and not what it computes."""

    micro_batch: int | None = None
    compiled: bool = False
    workers: int = 0
    strategy: Strategy = "ddp"


def pretrain(
    name: str,
    out: Path,
    *,
    data: str | None,
    reading: Sequence[str],
    changes: Sequence[str],
    tokenizer: Path | None,
    steps: int | None,
    seed: int,
    restart: bool,
    how: How,
) -> None:
    """Run a recipe and save its encoder's folder."""
    recipe = find(name)
    text = recipe.modality == "text"
    if tokenizer and not text:
        raise InvalidInput(f"--tokenizer says nothing to {name}, not of texts; leave it out")
    spec = SHIPPED.get(recipe.modality) if data is None else named(data)
    words, settings = None, recipe.settings
    learnt: Any
    source: object
    if text:
        assert spec is not None
        pairs = corpus(spec, reading, what=name)
        source = runs.source(spec, out, pairs)
        learnt, words, settings = _texts(recipe, pairs, tokenizer)
    elif spec is None:
        if reading:
            raise InvalidInput(f"--read {reading[0]} says how --data is read, and there is none")
        source, learnt = recipe.claim.data.__name__, recipe.claim.data()
    else:
        if recipe.read is not None:
            learnt = recipe.read(_whole(spec, reading))
            show_whole(spec, learnt)
        else:
            learnt = read_source(spec, reading, modality=recipe.modality)
        source = runs.source(spec, out)
    if isinstance(learnt, Molecules):
        words = smiles_tokenizer(learnt.train)
    count = _count(learnt)
    changed = override(settings, changes)
    if changed.steps != settings.steps:
        steps = changed.steps
    asked, settings = (
        override(resized(settings, steps=number, seed=seed, items=count), changes)
        for number in (None, steps)
    )
    runs.say_small(settings, items=count, usual=recipe.settings.batch_size)
    lineage = {
        "recipe": name,
        "data": source,
        "read": chosen(TextReading() if text else Reading(), reading),
        "tokenizer": None if words is None else {SHA256: sha256(words).hexdigest()},
        # A run too short for its warm-up has a shorter one, and may yet be prolonged.
        "settings": (
            runs.settings_of(asked, but=("seed", "steps"))
            if recipe.stages is None
            else runs.settings_of(settings, but=("seed",))
        ),
    }
    runs.begin(out, lineage, restart=restart)
    encoder, last = _run(recipe, learnt, settings, out, how, lineage=lineage, restart=restart)
    if distributed.rank() == 0:  # which alone writes, and so knows that the checkpoint is there
        record = read_record(last / CHECKPOINT)
        _save(encoder, words, learnt, runs.story(record, recipe.paper), out)


def _texts(
    recipe: Recipe[Any, Any], parts: Split, tokenizer: Path | None
) -> tuple[Any, bytes, Any]:
    """Tokenise pairs of texts, whose vocabulary is learned, and fit the settings to it."""
    words = (
        tokenizer.read_bytes()
        if tokenizer
        else train_tokenizer(text for pair in parts.train for text in (pair.summary, pair.body))
    )
    texts = quick(text_data(parts, words))  # refuses what is no tokenizer
    show_cut(texts, max_length=MAX_LENGTH)
    vocabulary = Tokenizer.from_str(words.decode()).get_vocab_size()
    settings = recipe.settings
    settings = replace(settings, shape=replace(settings.shape, vocabulary=vocabulary))
    return texts, words, settings


def _whole(spec: str, reading: Sequence[str]) -> Path:
    """Give the path of data that a recipe reads itself, which no word of `--read` is about."""
    if reading:
        raise InvalidInput(f"--read {reading[0]}: the recipe reads {spec} as a whole; leave it out")
    if not Path(spec).exists():
        raise NotFound(f"there is no file or folder {spec}")
    return Path(spec)


def _count(data: Any) -> int:
    """Give how many items the smallest part that a run learns from has."""
    match data:
        case TextData():
            return len(data.pairs.first)
        case Groups():
            return min(len(data.related.train), len(data.target.train))
        case Objects():
            return len(data.train_labels)
        case _:
            return len(data.train)


def _run(
    recipe: Recipe[Any, Any],
    data: Any,
    settings: Any,
    out: Path,
    how: How,
    *,
    lineage: Lineage,
    restart: bool,
) -> tuple[nn.Module, Path]:
    """Fit each run of a recipe; give the last one's encoder and folder."""
    encoder: nn.Module | None = None
    folder = out
    for stage in recipe.runs(data, settings):
        training = stage.training
        if recipe.stages is not None:
            show((f"{stage.name}: {training.steps} steps",))
            folder = out / stage.name
        fit(
            training,
            out=folder,
            lineage=lineage if recipe.stages is None else {**lineage, "stage": stage.name},
            restart=restart,
            precision=best_precision(),
            probe_every=max(1, training.steps // PROBES),
            micro_batch=how.micro_batch,
            compiled=how.compiled,
            workers=how.workers,
            strategy=how.strategy,
        )
        encoder = training.method.encoder
    if encoder is None:
        raise InvalidInput("the recipe has no run")
    return encoder, folder


def _save(
    encoder: nn.Module, words: bytes | None, data: Any, lineage: Mapping[str, object], out: Path
) -> None:
    """Save an encoder: of a classifier that inside it, of a shared space each in a folder."""
    inner = encoder.encoder if isinstance(encoder, Classifier) else encoder
    if isinstance(inner, SharedSpace):
        for name, model in inner.models(lineage).items():
            encoder_folder.save(model, out / name)
            _show_saved(out / name)
        return
    if isinstance(inner, TextEncoder):
        assert words is not None
        encoder_folder.save(TextModel(encoder=inner, tokenizer=words, lineage=lineage), out)
    else:
        tensors = cast("TensorEncoder", inner)
        is_images = isinstance(data, Source) and tensors.modality == "image"
        values = pixel_range(data.train) if is_images else None
        encoder_folder.save(TensorModel(encoder=tensors, values=values, lineage=lineage), out)
    _show_saved(out)


def _show_saved(folder: Path) -> None:
    console.print(f"encoder written to {folder}; next: attar export {folder} NAME.attar")
