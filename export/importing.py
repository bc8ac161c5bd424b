"""An encoder of another library becomes a bundle, held to the torch encoder's numbers."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from attar.errors import InvalidInput
from attar.inputs import TextPair
from attar.training.backbones.network import PRETRAINED, is_backbone
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.choices import Side
from attar.training.datasets import docstrings
from attar.training.encoders.text import TextNetwork
from attar.training.huggingface import cross_encoder, loading, vision_audio
from attar.training.huggingface.config import Declared
from attar.training.huggingface.vision_audio import Tower
from attar.training.sampler import evenly

from .backbone import backbone_tower
from .bundling import Exported, refuse_taken
from .cross_encoder import export_cross_encoder
from .gates import GATES, Gates
from .random_inputs import noise
from .tensor import export_tensor
from .text import export_text

PARITY_TEXTS = 64
SENTENCES = 256  # to calibrate on and to judge by, where none are given
PARITY_TOKENS = 512  # a batch of 32 texts of 8,192 tokens would need 100 GB of attention


def import_folder(
    folder: str | Path,
    path: str | Path,
    *,
    name: str | None = None,
    declared: Declared = loading.SILENT,
    side: Side | None = None,
    max_seconds: float | None = None,
    weights: Path | None = None,
    licence: str | None = None,
    variants: Sequence[str] = (),
    calibration: Sequence[str] = (),
    tokens: bool = False,
    gates: Gates = GATES,
    overwrite: bool = False,
) -> Exported:
    """Write the encoder in `folder` to the bundle `path`: fp32, and the `variants` that pass.

    `folder` may also be a network of images by name, timm:NAME or torch:MODULE:FACTORY; `weights`
    is then a file of its weights, by default those that come with it, and `licence` theirs.
    `name` is the bundle's, by default the last part of `path` without .attar, and `gates` decide
    which variants pass.
    `declared` is what the folder does not state, and `side` the encoder of a CLIP folder to take;
    `max_seconds` is the longest sound that the bundle takes, 30 s by default. Parity is checked on
    texts made of the tokenizer's own words, from empty to longer than the encoder takes, or than
    `PARITY_TOKENS`; images and sound on noise. A folder with a cross-encoder becomes a bundle that
    scores pairs of texts, in fp32. `variants` also use the texts of `calibration`, or of the
    documentation on this machine where that is empty. With `tokens` the bundle also gives token
    vectors.
    Raises InvalidInput that names what is missing or not supported, and MissingExtra when the model
    needs `transformers`, before anything is written; NotSupported for tokens of an encoder that has
    none; AlreadyExists when `path` is taken and
    `overwrite` is false.
    """
    path, options = Path(path), _Options(declared, side, max_seconds, weights, licence)
    refuse_taken(path, overwrite=overwrite)
    name = name or path.name.removesuffix(".attar")
    network = _read_network(str(folder), options)
    folder = Path(folder)
    if network is None and cross_encoder.is_cross_encoder(folder):
        _refuse_choices(folder, declared, side, max_seconds, variants, tokens=tokens)
        return _import_cross_encoder(folder, path, name=name, overwrite=overwrite)
    model = network or _read(folder, declared, side, max_seconds)
    if isinstance(model, Tower):
        if variants:
            raise InvalidInput(
                f"{folder} holds no texts to calibrate {variants[0]} on: it embeds "
                f"{model.modality}; export it with data of its kind (attar.export.tensor)"
            )
        return export_tensor(
            path,
            model.encoder,
            name=name,
            spec=model.spec,
            limits=model.limits,
            items=noise(model.spec, model.shapes),
            modality=model.modality,
            lineage=model.lineage,
            licence=model.licence,
            tokens=tokens,
            gates=gates,
            overwrite=overwrite,
        )
    longest = min(model.encoder.max_length, PARITY_TOKENS) + 8
    texts = texts_of_every_length(model.tokenizer, longest=longest)
    return export_text(
        path,
        model,
        name=name,
        texts=[*texts, *(calibration or _sentences())] if variants else texts,
        probe=None,
        metric=None,
        variants=variants,
        tokens=tokens,
        gates=gates,
        overwrite=overwrite,
    )


def _import_cross_encoder(folder: Path, path: Path, *, name: str, overwrite: bool) -> Exported:
    """Write the cross-encoder in `folder`; parity is checked on pairs of texts of every length."""
    model = cross_encoder.read(folder)
    longest = min(model.max_length, PARITY_TOKENS) + 8
    texts = texts_of_every_length(model.tokenizer, longest=longest)
    pairs = [TextPair(*pair) for pair in zip(texts, reversed(texts), strict=True)]
    pairs += [TextPair(*pair) for pair in pairwise(texts)]
    return export_cross_encoder(path, model, name=name, pairs=pairs, overwrite=overwrite)


def _refuse_choices(
    folder: Path,
    declared: Declared,
    side: Side | None,
    max_seconds: float | None,
    variants: Sequence[str],
    *,
    tokens: bool,
) -> None:
    """Refuse what is chosen of an encoder only."""
    kind = f"{folder} holds a cross-encoder, which scores pairs of texts and gives no embedding"
    if declared != loading.SILENT:
        raise InvalidInput(
            f"{kind}; pooling, unit length, prompts and widths are declared of encoders"
        )
    if side is not None or max_seconds is not None:
        raise InvalidInput(f"{kind}; leave --tower and --max-seconds out")
    if tokens:
        raise InvalidInput(f"{kind}, of tokens neither; leave --tokens out")
    if variants:
        raise InvalidInput(f"{kind}; it is written in fp32 only, so leave {variants[0]} out")


@dataclass(frozen=True, slots=True)
class _Options:
    """What a caller declares of an encoder, each of some kind of encoder alone."""

    declared: Declared
    side: Side | None
    max_seconds: float | None
    weights: Path | None
    licence: str | None


def _read_network(name: str, options: _Options) -> Tower | None:
    """Read a network by its name; give None where the name is that of a folder."""
    if not is_backbone(name):
        if options.weights or options.licence:
            raise InvalidInput(
                "--weights and --licence are of networks by name, timm:NAME or "
                f"torch:MODULE:FACTORY; {name} is a folder, so leave them out"
            )
        return None
    if (options.declared, options.side, options.max_seconds) != (loading.SILENT, None, None):
        raise InvalidInput(
            f"{name} says all there is of its encoder but --weights and --licence; leave pooling, "
            "unit length, prompts, widths, --tower and --max-seconds out"
        )
    weights = PRETRAINED if options.weights is None else str(options.weights)
    return backbone_tower(name, weights=weights, licence=options.licence)


def _read(
    folder: Path, declared: Declared, side: Side | None, max_seconds: float | None
) -> Tower | TextModel[TextNetwork]:
    if not vision_audio.is_tower(folder):
        model = loading.read(folder, declared)
        if side is not None:
            raise InvalidInput(f"{folder} holds one encoder, of texts; leave --tower {side} out")
        if max_seconds is not None:
            raise InvalidInput(f"{folder} holds an encoder of texts; leave --max-seconds out")
        return model
    if declared != loading.SILENT:
        raise InvalidInput(
            f"{folder} says all there is of its encoder; pooling, unit length, prompts and widths "
            "are declared of text encoders only"
        )
    return vision_audio.read(folder, side, max_seconds=max_seconds)


def _sentences() -> list[str]:
    """Pick documentation of the standard library: sentences that every machine has."""
    pairs = docstrings.read(("stdlib",), per_package=SENTENCES // 2)
    return [text for pair in evenly(pairs, SENTENCES // 2) for text in (pair.summary, pair.body)]


def texts_of_every_length(tokenizer: bytes, *, longest: int, seed: int = 0) -> list[str]:
    """Make texts of 0 to about `longest` tokens from the vocabulary, always the same.

    A tokenizer that adds no special tokens has none for an empty text, so the least is one word.
    """
    vocabulary = Tokenizer.from_str(tokenizer.decode())
    tokens = sorted(word for word in vocabulary.get_vocab() if word.isalnum())
    if not tokens:
        raise InvalidInput("the tokenizer has no token of letters and digits to make texts of")
    least = 0 if vocabulary.num_special_tokens_to_add(is_pair=False) else 1
    draw = np.random.default_rng(seed)
    lengths = np.linspace(least, longest, PARITY_TEXTS).round().astype(int)
    return [
        " ".join(tokens[i] for i in draw.integers(len(tokens), size=length)) for length in lengths
    ]
