"""A bundle's recorded figures, held to what its variants do on this machine.

Hashes and fingerprint are checked by opening it. Then each variant must be as near to the
reference as its gate asks, give a text the same embedding alone and among others, and be about as
quick, compared with the reference, as where the bundle was made. A probe is not run again, for its
data is not in a bundle.
"""

import importlib
import inspect
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attar import trial_inputs
from attar.bench import items, time_runs
from attar.bundle import Bundle
from attar.errors import AttarError, InvalidInput
from attar.host import describe, instruction_set
from attar.inputs import Items, Prepared
from attar.manifest import Latency, Manifest, Variant
from attar.runtime import Encoder, load

from .measure import BATCH, SINGLES, cosine, tolerance

TEXTS = 128
LONG = 512  # words of one text: longer than many encoders take
TEXT_MODULES = (
    "argparse", "collections", "contextlib", "csv", "datetime", "decimal", "difflib", "functools",
    "heapq", "json", "logging", "pathlib", "random", "re", "shutil", "statistics", "string",
    "subprocess", "textwrap", "threading", "unittest", "urllib.parse", "zipfile",
)  # fmt: skip
"""Modules of Python's own whose documentation serves as texts: every machine has it."""

PARITY_SLACK = 0.01
"""Of a cosine recorded without a gate: other texts, other kernels."""

TOLERANCE_FACTOR = 5
"""Times the recorded tolerance: it is the most that was seen of some hundred other texts."""

RATIO_FACTOR = 3
"""Times the recorded ratio of latencies: CPUs differ in instructions, and clocks are noisy."""

LATENCY_ROUNDS = 5
NOISE_LENGTH, NOISE_TOKENS = 64, 16
"""Of a tensor's free axis, where the manifest allows it, and so long that it has these tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison: `holds` is None where there is nothing to judge by, and `why` says more."""

    variant: str
    what: str
    recorded: str
    here: str
    holds: bool | None
    why: str = ""


def verify(
    path: str | os.PathLike[str], *, items: Items | None = None, against: Path | None = None
) -> list[Check]:
    """Check a bundle on this machine, on `items` (texts or arrays), or on some of its own.

    `against` is the folder of the torch encoder that the bundle was made of; every variant is
    compared with it as well. Raises BundleRefused for a damaged bundle, and InvalidInput for items
    or a teacher that cannot be compared.
    """
    bundle = Bundle.open(path)
    bundle.manifest.require_encoder("attar verify")
    items = _own_items(bundle) if items is None else items
    if len(items) < 2:
        raise InvalidInput(f"two items or more are compared; got {len(items)}")
    checks = _of_the_whole(bundle)
    reference = load(path, variant=bundle.manifest.reference)
    rows = reference.prepare(items)
    truth = reference.embed(items).vectors
    teacher = None if against is None else _Teacher.read(against, bundle, items)
    if teacher is not None:
        checks += teacher.checks
    for variant in bundle.manifest.variants:
        try:
            encoder = load(path, variant=variant.name)
        except AttarError as error:
            checks.append(_not_run(variant, str(error)))
            continue
        vectors = encoder.embed(items).vectors
        bounds = _bounds(bundle, variant)
        checks += _proof(variant)
        if variant.name != reference.variant.name:
            checks += _parity(variant, cosine(vectors, truth), bounds, "the reference")
            checks += _token_parity(variant, encoder, reference, items)
            checks += _latency(path, variant, reference.variant)
        if teacher is not None:
            checks += _parity(variant, cosine(vectors, teacher.vectors), bounds, "the teacher")
        checks += _alone(variant, encoder, rows, vectors)
    return checks


def own_texts(count: int = TEXTS) -> list[str]:
    """Take paragraphs from the documentation of Python's own modules, and a long text of them."""
    paragraphs = [text for name in TEXT_MODULES for text in _paragraphs(name)]
    step = max(1, len(paragraphs) // count)
    long = " ".join(" ".join(paragraphs).split()[:LONG])
    return [*paragraphs[::step][:count], long]


def _paragraphs(name: str) -> Iterator[str]:
    module = importlib.import_module(name)
    for _, thing in inspect.getmembers(module):
        if getattr(thing, "__module__", None) == name and callable(thing):
            for paragraph in (inspect.getdoc(thing) or "").split("\n\n"):
                if text := " ".join(paragraph.split()):
                    yield text


def _own_items(bundle: Bundle) -> Items:
    """Take texts, or noise of a shape that the encoder takes."""
    if bundle.manifest.preprocessing.tokenizer is not None:
        return own_texts()
    manifest = bundle.manifest
    size = _usual_length(manifest)
    if trial_inputs.is_open(manifest):
        row = trial_inputs.first_that_runs(load(bundle.path, variant=manifest.reference))
        size = max(size, trial_inputs.length_of(manifest.inputs[0], row.arrays[0].shape))
    return [row.arrays[0] for row in items(bundle, length=size, count=BATCH)]


def _usual_length(manifest: Manifest) -> int:
    """Give a size of the free axis like those that export compares: a few tokens are no item."""
    shape, limits = manifest.inputs[0].shape[1:], manifest.limits
    if limits is None or sum(isinstance(axis, str) for axis in shape) != 1:
        return NOISE_LENGTH
    fixed = math.prod(axis for axis in shape if isinstance(axis, int))
    return max(NOISE_LENGTH, NOISE_TOKENS * limits.cost.elements // fixed)


def _of_the_whole(bundle: Bundle) -> list[Check]:
    files = len(bundle.manifest.files)
    sealed = f"{files} files, {bundle.manifest.fingerprint[:19]}..."
    checks = [
        Check(variant="", what="hashes and fingerprint", recorded=sealed, here=sealed, holds=True)
    ]
    host, here = bundle.report.get("host"), describe()
    if isinstance(host, Mapping):
        for key in ("cpu", "onnxruntime"):
            recorded = str(host.get(key, "not recorded"))
            checks.append(
                Check(variant="", what=key, recorded=recorded, here=str(here[key]), holds=None)
            )
    return checks


def _not_run(variant: Variant, why: str) -> Check:
    return Check(
        variant=variant.name, what="runs", recorded="", here="does not run", holds=None, why=why
    )


def _proof(variant: Variant) -> Iterator[Check]:
    """Say on which instructions the gates were passed, where that decides how numbers round."""
    if variant.precision != "fp32":
        yield Check(
            variant=variant.name,
            what="instructions",
            recorded=", ".join(variant.proven_on) or "none",
            here=instruction_set(),
            holds=None,
        )


def _bounds(bundle: Bundle, variant: Variant) -> Mapping[str, float]:
    """Give the least mean and worst cosine: the gate's, or else a little less than recorded."""
    of_all: Any = bundle.report.get("variants")
    of_one = of_all.get(variant.name) if isinstance(of_all, Mapping) else None
    gate = of_one.get("gate") if isinstance(of_one, Mapping) else None
    bounds = {}
    for name in ("cosine_mean", "cosine_worst"):
        bound = gate.get(name) if isinstance(gate, Mapping) else None
        if isinstance(bound, int | float):
            bounds[name] = float(bound)
        elif name in variant.parity:
            bounds[name] = variant.parity[name] - PARITY_SLACK
    return bounds


def _parity(
    variant: Variant, cosines: NDArray[np.float64], bounds: Mapping[str, float], with_whom: str
) -> Iterator[Check]:
    cosine_figures = {"cosine_mean": float(cosines.mean()), "cosine_worst": float(cosines.min())}
    for name, value in cosine_figures.items():
        recorded = variant.parity.get(name)
        bound = bounds.get(name)
        yield Check(
            variant=variant.name,
            what=f"{name.removeprefix('cosine_')} cosine to {with_whom}",
            recorded="none" if recorded is None else f"{recorded:.6f}",
            here=f"{value:.6f}",
            holds=None if bound is None else value >= bound,
            why="no bound is recorded" if bound is None else f"at least {bound:.6g}",
        )


def _token_parity(
    variant: Variant, encoder: Encoder, reference: Encoder, items: Items
) -> Iterator[Check]:
    """Compare token vectors with the reference's, where the bundle has any."""
    if encoder.manifest.tokens is None:
        return
    vectors, truth = (one.embed_tokens(items).vectors for one in (encoder, reference))
    directed = truth.any(axis=1)  # one of zeros has no direction to compare
    recorded = {
        name.removeprefix("token_"): figure
        for name, figure in variant.parity.items()
        if name.startswith("token_")
    }
    of_tokens = replace(variant, parity=recorded)
    bounds = _bounds(encoder.bundle, of_tokens)
    cosines = cosine(vectors[directed], truth[directed])
    yield from _parity(of_tokens, cosines, bounds, "the reference's tokens")


def _alone(
    variant: Variant, encoder: Encoder, rows: Sequence[Prepared], vectors: NDArray[np.float32]
) -> Iterator[Check]:
    some = range(min(SINGLES, len(rows)))
    alone = np.concatenate([encoder.infer([rows[i]]) for i in some])
    moved = float(np.abs(alone - vectors[: len(alone)]).max())
    recorded = variant.tolerance
    yield Check(
        variant=variant.name,
        what="most a number moves with its batch-mates",
        recorded="none" if recorded is None else f"{recorded:.0e}",
        here=f"{tolerance(moved):.0e}",
        holds=None if recorded is None else tolerance(moved) <= TOLERANCE_FACTOR * recorded,
        why="" if recorded is None else f"at most {TOLERANCE_FACTOR} times the recorded",
    )


def _latency(path: str | os.PathLike[str], variant: Variant, reference: Variant) -> Iterator[Check]:
    """Compare latencies as ratios, the two variants taking turns: hosts are not comparable."""
    if variant.latency is None or reference.latency is None:
        return
    where = variant.latency
    ratio = _ratio(path, variant.name, reference.name, where)
    recorded = variant.latency.p50_ms / reference.latency.p50_ms
    yield Check(
        variant=variant.name,
        what=f"latency, times the reference's ({where.length} tokens, {where.threads} threads)",
        recorded=f"{recorded:.2f}",
        here=f"{ratio:.2f}",
        holds=1 / RATIO_FACTOR <= ratio / recorded <= RATIO_FACTOR,
        why=f"within {RATIO_FACTOR} times the recorded",
    )


def _ratio(path: str | os.PathLike[str], variant: str, reference: str, where: Latency) -> float:
    encoders = [load(path, variant=name, threads=where.threads) for name in (variant, reference)]
    rows = items(encoders[0].bundle, length=where.length, count=where.batch)
    seconds: list[list[float]] = [[], []]
    for _ in range(LATENCY_ROUNDS):
        for runs, encoder in zip(seconds, encoders, strict=True):
            runs.extend(time_runs(encoder, rows, seconds=0.1))
    return float(np.median(seconds[0]) / np.median(seconds[1]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Teacher:
    """The torch encoder's own embeddings of the items, and what it says of itself."""

    vectors: NDArray[np.float32]
    checks: Sequence[Check]

    @classmethod
    def read(cls, folder: Path, bundle: Bundle, items: Items) -> "_Teacher":
        """Embed the items in torch, tokenised as the teacher does."""
        from attar.inputs import TextInput
        from attar.training.checkpoints import encoder_folder
        from attar.training.checkpoints.encoder_folder import TensorModel
        from attar.training.huggingface import loading
        from attar.training.probes.text_retrieval import embed

        manifest = bundle.manifest
        if manifest.preprocessing.tokenizer is None:
            raise InvalidInput(
                f"{manifest.name} takes {manifest.modality}, and a teacher's folder holds a text "
                "encoder; leave the teacher out"
            )
        encoder_folder.refuse_two_models(folder)
        is_ours = (folder / encoder_folder.ABOUT).exists()
        model = encoder_folder.load(folder) if is_ours else loading.read(folder)
        if isinstance(model, TensorModel):
            raise InvalidInput(
                f"{folder} holds an encoder of {model.encoder.modality}; this needs one of texts"
            )
        if model.encoder.dim != manifest.output.dim:
            raise InvalidInput(
                f"{folder} gives {model.encoder.dim} dimensions and {manifest.name} "
                f"{manifest.output.dim}; compare with the encoder that the bundle was made of"
            )
        longest, prompts = model.encoder.max_length, dict(model.prompts)
        host = TextInput(model.tokenizer, max_length=longest, prompts=prompts)
        rows = host.prepare(items, role="passage", truncation="truncate")
        facts = (
            ("maximum length", manifest.max_length, longest),
            ("prompts", dict(manifest.preprocessing.prompts), prompts),
        )
        checks = [
            Check(
                variant="",
                what=f"{what}, of the teacher",
                recorded=str(recorded),
                here=str(here),
                holds=recorded == here,
            )
            for what, recorded, here in facts
        ]
        return cls(vectors=embed(model.encoder, [row.arrays[0] for row in rows]), checks=checks)
