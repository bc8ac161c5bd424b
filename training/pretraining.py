"""Pretraining: read the data of a recipe, run it, and save its encoder."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

from tokenizers import Tokenizer

from attar.errors import InvalidInput, NotFound

from . import distributed, run_folder
from .catalogue import claim_of, find
from .checkpoints import encoder_folder
from .checkpoints.encoder_folder import TensorModel, TextModel
from .checkpoints.joint_space import models
from .checkpoints.run import CHECKPOINT, read_record
from .choices import Strategy
from .data.molecules import Molecules
from .data.objects import Objects
from .data.pairs import Split
from .data.source import Source, pixel_range
from .data.text import special_tokens
from .digest import SHA256
from .encoders.classifier import Classifier
from .encoders.encoder import TensorEncoder
from .encoders.joint_space import JointSpace
from .encoders.static import StaticConfig
from .encoders.text import TextNetwork
from .groups import Groups, read_groups
from .lineage import Lineage
from .loop import fit
from .method import Method
from .overrides import override
from .precision import best_precision
from .recipe import Recipe
from .resizing import quick, resized
from .run_data import (
    Reading,
    TextReading,
    chosen,
    corpus,
    named,
    read_source,
    report,
    report_cut,
    report_items,
)
from .text_data import TextData, text_data
from .tokenizers.smiles import smiles_tokenizer
from .tokenizers.wordpiece import train_tokenizer

PROBES = 4  # while training, besides the first and the last
SHIPPED: Mapping[str, str] = {"text": "docstrings", "image": "digits", "table": "breast_cancer"}


def pretrain(
    name: str,
    out: str | Path,
    *,
    data: str | None = None,
    reading: Sequence[str] = (),
    changes: Sequence[str] = (),
    tokenizer: Path | None = None,
    steps: int | None = None,
    seed: int = 0,
    restart: bool = False,
    micro_batch: int | None = None,
    compiled: bool = False,
    workers: int = 0,
    strategy: Strategy = "ddp",
) -> Path:
    """Run a recipe, such as `image/simclr`, and save its encoder; give the folder, `out`.

    `data` is a file, a folder or a shipped name; the default is the data of the recipe's claim.
    `reading` are the options of the reader and `changes` the settings of the recipe to change, both
    as `name=value`. `steps` are optimiser steps; the default is the recipe's. An interrupted run
    continues at its last checkpoint; `restart` starts it again. `seed` is that of all random
    numbers, and `tokenizer` a tokenizer.json for texts, which otherwise learn one. `micro_batch` is
    the number of rows whose activations are in memory together, `compiled` compiles the networks,
    `workers` processes make batches, and `strategy` is "ddp" or "fsdp" under torchrun; none of
    these changes the result.

    Raises NotFound for an unknown recipe or path, InvalidInput that names the error in the data,
    the options or the settings, and AlreadyExists where `out` holds something else.
    """
    out, recipe = Path(out), find(name)
    read = _read(recipe, name, out, data=data, reading=reading, tokenizer=tokenizer)
    settings, declared = _sized(recipe, read, changes, steps=steps, seed=seed)
    run_folder.say_small(settings, items=_count(read.items), usual=recipe.settings.batch_size)
    lineage = {"recipe": name, **_facts(recipe, read, reading), "settings": declared}
    run_folder.begin(out, lineage, restart=restart)
    fit_stage = partial(
        fit,
        restart=restart,
        precision=best_precision(),
        micro_batch=micro_batch,
        compiled=compiled,
        workers=workers,
        strategy=strategy,
    )
    method, last = _run(recipe, read.items, settings, out, fit_stage, lineage=lineage)
    if distributed.rank() == 0:  # which alone writes, and so knows that the checkpoint is there
        record = read_record(last / CHECKPOINT)
        _save(method.eval(), read, run_folder.story(record, recipe.paper), out)
    return out


@dataclass(frozen=True, slots=True, kw_only=True)
class _Read:
    """The items that a recipe trains on, and what depends on them."""

    items: Any
    tokenizer: bytes | None
    settings: Any
    source: object  # for the lineage


def _facts(recipe: Recipe[Any, Any], read: _Read, reading: Sequence[str]) -> dict[str, object]:
    """Give the lineage of the data: its source, how it was read, and its tokenizer."""
    tokenizer = read.tokenizer
    return {
        "data": read.source,
        "read": chosen(TextReading() if recipe.modality == "text" else Reading(), reading),
        "tokenizer": None if tokenizer is None else {SHA256: sha256(tokenizer).hexdigest()},
    }


def _read(
    recipe: Recipe[Any, Any],
    name: str,
    out: Path,
    *,
    data: str | None,
    reading: Sequence[str],
    tokenizer: Path | None,
) -> _Read:
    """Read the data of a run; without `data`, that of the recipe's claim."""
    shipped = SHIPPED.get(recipe.modality) if recipe.read is None else None
    spec = shipped if data is None else named(data)
    if recipe.modality == "text":
        assert spec is not None
        pairs = corpus(spec, reading, what=name)
        source = run_folder.source(spec, out, pairs)
        items, content, settings = _texts(recipe, pairs, tokenizer)
        return _Read(items=items, tokenizer=content, settings=settings, source=source)
    if tokenizer:
        raise InvalidInput(f"--tokenizer says nothing to {name}, not of texts; leave it out")
    if spec is None:
        if reading:
            raise InvalidInput(f"--read {reading[0]} says how --data is read, and there is none")
        shown = claim_of(name).data
        source, items = shown.__name__, shown()
    else:
        if recipe.read is not None:
            items = _read_path(recipe.read, spec, reading)
            report_items(spec, items)
        else:
            items = read_source(spec, reading, modality=recipe.modality)
        source = run_folder.source(spec, out)
    smiles = smiles_tokenizer(items.train) if isinstance(items, Molecules) else None
    return _Read(items=items, tokenizer=smiles, settings=recipe.settings, source=source)


def _sized(
    recipe: Recipe[Any, Any], read: _Read, changes: Sequence[str], *, steps: int | None, seed: int
) -> tuple[Any, dict[str, object]]:
    """Give the settings of a run on its items, with `changes`, and those that its lineage has."""
    count, changed = _count(read.items), override(read.settings, changes)
    if changed.steps != read.settings.steps:
        steps = changed.steps
    full_settings, settings = (
        override(resized(read.settings, steps=number, seed=seed, items=count), changes)
        for number in (None, steps)
    )
    if recipe.stages is not None:
        return settings, run_folder.settings_of(settings, but=("seed",))
    # A run that is too short for its warm-up gets a shorter one, and may be prolonged later.
    return settings, run_folder.settings_of(full_settings, but=("seed", "steps"))


def _texts(
    recipe: Recipe[Any, Any], parts: Split, tokenizer: Path | None
) -> tuple[Any, bytes, Any]:
    """Tokenise pairs of texts, with a learned vocabulary by default; fit the settings to it."""
    content = (
        tokenizer.read_bytes()
        if tokenizer
        else train_tokenizer(text for pair in parts.train for text in (pair.summary, pair.body))
    )
    settings = recipe.settings
    longest = settings.shape.max_length
    texts = quick(text_data(parts, content, max_length=longest))  # refuses what is no tokenizer
    report_cut(texts, max_length=longest)
    vocabulary = Tokenizer.from_str(content.decode()).get_vocab_size()
    shape = replace(settings.shape, vocabulary=vocabulary)
    if isinstance(shape, StaticConfig):
        shape = replace(shape, special=special_tokens(content))
    return texts, content, replace(settings, shape=shape)


def _read_path(read: Callable[..., Any], spec: str, reading: Sequence[str]) -> Any:
    """Read a path by a recipe's own reader; of these, groups alone have options."""
    if reading and read is not read_groups:
        raise InvalidInput(f"--read {reading[0]}: the recipe reads {spec} as a whole; leave it out")
    if not Path(spec).exists():
        raise NotFound(f"there is no file or folder {spec}")
    return read(Path(spec), **chosen(Reading(), reading))


def _count(data: Any) -> int:
    """Count the items of the smallest part that a run trains on."""
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
    fit_stage: Callable[..., object],
    *,
    lineage: Lineage,
) -> tuple[Method[Any], Path]:
    """Fit each run of a recipe; give the method and the folder of the last one."""
    method: Method[Any] | None = None
    folder = out
    for stage in recipe.runs(data, settings):
        training = stage.training
        if recipe.stages is not None:
            report(f"{stage.name}: {training.steps} steps")
            folder = out / stage.name
        fit_stage(
            training,
            out=folder,
            lineage=lineage if recipe.stages is None else {**lineage, "stage": stage.name},
            probe_every=max(1, training.steps // PROBES),
        )
        method = training.method
    if method is None:
        raise InvalidInput("the recipe has no run")
    return method, folder


def _save(method: Method[Any], read: _Read, lineage: Mapping[str, object], out: Path) -> None:
    """Save an encoder with its heads: of a classifier the one inside, of a space each one.

    A bundle of an image encoder gives unit length, but where heads take the features as they are.
    """
    exported = method.exported
    inner = exported.encoder if isinstance(exported, Classifier) else exported
    if isinstance(inner, JointSpace):
        for name, model in models(inner, lineage).items():
            heads = method.heads(read.items.source(name), model.encoder)
            encoder_folder.save(replace(model, heads=heads), out / name)
            _report_saved(out / name)
        return
    if isinstance(inner, TextNetwork):
        assert read.tokenizer is not None
        text = TextModel(encoder=inner, tokenizer=read.tokenizer, lineage=lineage)
        encoder_folder.save(text, out)
    else:
        tensors = cast("TensorEncoder", inner)
        items = read.items.target if isinstance(read.items, Groups) else read.items
        source = items if isinstance(items, Source) else None
        is_image = tensors.modality == "image"
        heads = method.heads(source, tensors) if source else {}
        model = TensorModel(
            encoder=tensors,
            normalize=is_image and not heads,
            values=pixel_range(source.train) if source and is_image else None,
            heads=heads,
            lineage=lineage,
            licence=tensors.licence,
        )
        encoder_folder.save(model, out)
    _report_saved(out)


def _report_saved(folder: Path) -> None:
    report(f"encoder written to {folder}; next: attar export {folder} NAME.attar")
