"""Exporting: an encoder's folder becomes one bundle of measured and gated variants."""

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from attar.errors import InvalidInput
from attar.training.binarizing import Conversion, recover_binarized
from attar.training.checkpoints.encoder_folder import TensorModel, TextModel, token_transformer
from attar.training.data.molecules import read_smiles
from attar.training.data.pairs import Split
from attar.training.encoders.text import TextEncoder, TextNetwork
from attar.training.pretrained import load_checkpoint
from attar.training.probes.summaries import SummaryRetrieval
from attar.training.resizing import quick
from attar.training.run_data import corpus, has_smiles, named
from attar.training.sampler import evenly
from attar.training.text_data import text_data

from .bundling import Exported, refuse_taken
from .compatibility import declare, embed_task, open_teacher, refuse_another_space
from .gates import GATES, Gates
from .measure import Probe
from .targets.native import NATIVE, refuse_without_library
from .tensor import export_with_data
from .text import VARIANTS, export_text

log = logging.getLogger("attar.export")

WITHOUT_BINARIZED = "`attar export` writes the other variants"
SEARCHED = 2000  # bodies, as many as `adapt` searches: each variant embeds them all
PARITY_PAIRS = 256  # two texts each: parity in a minute, and enough to calibrate on


def export(
    folder: str | Path,
    bundle: str | Path,
    *,
    data: str | None = None,
    reading: Sequence[str] = (),
    binarized: Conversion | None = None,
    required: bool = False,
    native: bool = False,
    compatible_with: str | Path | None = None,
    tokens: bool = False,
    gates: Gates = GATES,
) -> Exported:
    """Write the variants of an encoder that attar or Hugging Face's libraries saved to a bundle.

    `data` and `reading`, as `pretrain` takes them, are what parity is checked on and int8
    calibrated with: docstrings for texts and noise for tensors if not given. With `binarized` there
    are also variants of hashed attention; where it cannot be hashed they are left out, or with
    `required` refused. `native` adds those that need attar-native. Each variant holds its gate of
    `gates`, or is in `refused` with the reasons. With `tokens` the bundle also gives token vectors.

    `compatible_with` is the bundle of a teacher, whose documents the queries of this text encoder
    are to search; the manifest declares it. Raises InvalidInput where the figures of
    `attar.export.compatibility` do not allow it, NotSupported for tokens of an encoder that has
    none, and InvalidInput and AlreadyExists that name the folder, the data or the bundle.
    """
    folder, bundle = Path(folder), Path(bundle)
    variants = (*VARIANTS, *NATIVE) if native else VARIANTS
    refuse_taken(bundle, overwrite=False)
    refuse_without_library(variants)
    model = load_checkpoint(folder)
    if isinstance(model, TensorModel):
        _refuse_text_options(folder, model, required=required, teacher=compatible_with)
        return export_with_data(
            bundle, model, data=data, reading=reading, tokens=tokens, gates=gates
        )
    return _export_text(
        model,
        folder,
        bundle,
        data="docstrings" if data is None else named(data),
        reading=reading,
        binarized=binarized,
        required=required,
        variants=variants,
        compatible_with=compatible_with,
        tokens=tokens,
        gates=gates,
    )


def parity_texts(parts: Split) -> list[str]:
    """Pick texts for parity and calibration: summaries and bodies of the training part."""
    pairs = evenly(parts.train, PARITY_PAIRS)
    return [text for pair in pairs for text in (pair.summary, pair.body)]


def through_runtime(task: SummaryRetrieval) -> Probe:
    """Give the task as a probe of a bundle's encoder."""
    return lambda encoder: task(lambda texts, role: encoder.embed(texts, role=role).vectors)


def _refuse_text_options(
    folder: Path, model: TensorModel, *, required: bool, teacher: str | Path | None
) -> None:
    """Raise InvalidInput for options that an encoder of tensors does not have."""
    kind = f"{folder} holds an encoder of {model.encoder.modality}, and only text encoders are"
    if required:
        raise InvalidInput(f"{kind} binarized; {WITHOUT_BINARIZED}")
    if teacher is not None:
        raise InvalidInput(f"{kind} compared with a teacher; leave --compatible-with out")


def _export_text(
    model: TextModel[TextNetwork],
    folder: Path,
    bundle: Path,
    *,
    data: str,
    reading: Sequence[str],
    binarized: Conversion | None,
    required: bool,
    variants: Sequence[str],
    compatible_with: str | Path | None,
    tokens: bool,
    gates: Gates,
) -> Exported:
    """Export a text encoder; parity, int8 and quality see the texts of `data`."""
    is_smiles = has_smiles(data, reading)
    parts = None if is_smiles else corpus(data, reading, what="this encoder", least=2)
    teacher = None
    if compatible_with is not None:
        teacher = open_teacher(compatible_with, model, folder=folder, has_pairs=parts is not None)
    task = SummaryRetrieval.of(parts, most=SEARCHED) if parts else None
    if teacher is not None and task is not None:
        theirs = embed_task(teacher, task)
        refuse_another_space(model, teacher, theirs, task)
    hashed, notes = _hashed_if_possible(model, parts, binarized, required=required)
    write = partial(
        export_text,
        model=model,
        name=bundle.name.removesuffix(".attar"),
        texts=parity_texts(parts) if parts else evenly(read_smiles(Path(data)), PARITY_PAIRS),
        probe=through_runtime(task) if task else None,
        metric="recall_at_10" if task else None,
        variants=variants,
        binarized=hashed,
        notes=notes,
        tokens=tokens,
        gates=gates,
    )
    if teacher is None or task is None:
        return write(bundle)
    return declare(write, bundle, teacher, theirs, task)


def _hashed_if_possible(
    model: TextModel[TextNetwork],
    parts: Split | None,
    binarized: Conversion | None,
    *,
    required: bool,
) -> tuple[TextEncoder | None, dict[str, Mapping[str, object]]]:
    """Binarize an encoder and give its notes; None where it cannot be, unless it is required.

    Without settings nothing is binarized.
    """
    if binarized is None:
        return None, {}
    try:
        hashed, note = _hashed(model, parts, binarized)
    except InvalidInput as error:
        if required:
            raise InvalidInput(f"{error}; {WITHOUT_BINARIZED}") from error
        log.info("binarized is left out: %s", error)
        return None, {}
    return hashed, {"binarized": note}


def _hashed(
    model: TextModel[TextNetwork], parts: Split | None, binarized: Conversion
) -> tuple[TextEncoder, Mapping[str, object]]:
    """Binarize an encoder's attention and recover it on pairs; raises InvalidInput if it cannot."""
    trained = token_transformer(model)
    if parts is None:
        raise InvalidInput(
            "the table is read as SMILES, and what is binarized recovers on pairs of texts"
        )
    texts = text_data(parts, model.tokenizer, max_length=trained.encoder.max_length)
    return recover_binarized(trained.encoder, quick(texts), texts.probe, binarized)
