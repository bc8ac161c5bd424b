"""An encoder on disk: weights as safetensors, shape and lineage as JSON, a text's tokenizer."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from hashlib import sha256
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Generic, TypeVar, cast, get_args, get_origin, get_type_hints

from safetensors import SafetensorError
from safetensors.torch import load as tensors
from safetensors.torch import save as serialised
from torch import nn

from attar.bundle import HEADS
from attar.errors import InvalidInput
from attar.heads import Head, read_head
from attar.manifest import Limits, Range, TensorSpec

from ..encoders.attention import BinarizedAttention, LinearAttention, SoftmaxAttention
from ..encoders.backbone import Backbone, BackboneConfig
from ..encoders.conv import SmallConv, SmallConvConfig
from ..encoders.conv1d import Conv1dConfig, Conv1dEncoder
from ..encoders.encoder import TensorEncoder
from ..encoders.mlp import MlpConfig, MlpEncoder
from ..encoders.resnet import ResNet, ResNetConfig
from ..encoders.scattering import ScatteringConfig, ScatteringEncoder
from ..encoders.series import SeriesConfig, SeriesEncoder
from ..encoders.spectrogram import SpectrogramConfig, SpectrogramEncoder
from ..encoders.static import StaticConfig, StaticEncoder
from ..encoders.table import TableConfig, TableEncoder
from ..encoders.text import TextConfig, TextEncoder, TextNetwork
from ..encoders.transformer import TokenTransformer
from ..encoders.vit import VitConfig, VitEncoder

WEIGHTS, ABOUT, TOKENIZER = "encoder.safetensors", "encoder.json", "tokenizer.json"
KINDS: Mapping[str, Callable[..., nn.Module]] = {
    "softmax": SoftmaxAttention,
    "linear": LinearAttention,
    "binarized": BinarizedAttention,
}
"""Attention by its name in encoder.json; without a name it is softmax."""

TEXT = "text"
TEXT_ENCODERS: Mapping[str, tuple[Callable[[Any], TextNetwork], type]] = {
    TEXT: (TextEncoder, TextConfig),
    "static": (StaticEncoder, StaticConfig),
}
"""Encoders of texts and their configurations, by their name in encoder.json."""

ENCODERS: Mapping[str, tuple[Callable[[Any], TensorEncoder], type]] = {
    "backbone": (Backbone, BackboneConfig),
    "conv1d": (Conv1dEncoder, Conv1dConfig),
    "mlp": (MlpEncoder, MlpConfig),
    "resnet": (ResNet, ResNetConfig),
    "scattering": (ScatteringEncoder, ScatteringConfig),
    "series": (SeriesEncoder, SeriesConfig),
    "small_conv": (SmallConv, SmallConvConfig),
    "spectrogram": (SpectrogramEncoder, SpectrogramConfig),
    "table": (TableEncoder, TableConfig),
    "vit": (VitEncoder, VitConfig),
}
"""Encoders of tensors and their configurations, by their name in encoder.json.

A folder without a name holds the text encoder of attar's blocks.
"""

SPEC = ("name", "dtype", "shape")  # defined by the encoder, and not by encoder.json

ABSENT: Mapping[type, Mapping[str, object]] = {SmallConvConfig: {"pooling": "flat"}}
"""What older folders do not say of a shape, where that was other than today's default."""

Network_co = TypeVar("Network_co", bound=TextNetwork, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel(Generic[Network_co]):
    """A text encoder with its tokenizer and prompts, and its lineage.

    `tokenizer` is the content of a tokenizer.json; `prompts` are by role, "query" or "passage".
    `dims` are the smaller widths that the encoder was trained to be cut to (Matryoshka, Kusupati et
    al. 2022, arXiv:2205.13147), rising.
    """

    encoder: Network_co
    tokenizer: bytes
    dims: tuple[int, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    lineage: Mapping[str, object] = field(default_factory=dict)
    licence: str | None = None

    @property
    def normalized(self) -> bool:
        """Whether every embedding has unit length."""
        return self.encoder.normalized


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorModel:
    """An encoder of images, series, spectrograms or rows, and its lineage.

    `facts` are what its input's sizes do not say, such as {"unit": "m"}, and `values` the range of
    the numbers that it was trained on, where that says how they are scaled. With `normalize`, a
    bundle gives the embeddings unit length, which the encoder does not. `heads` are small models on
    its embeddings, by name; export gives them the fingerprint of the bundle.
    """

    encoder: TensorEncoder
    normalize: bool = False
    values: Range | None = None
    heads: Mapping[str, Head] = field(default_factory=dict)
    facts: Mapping[str, object] = field(default_factory=dict)
    lineage: Mapping[str, object] = field(default_factory=dict)
    licence: str | None = None

    @property
    def input(self) -> TensorSpec:
        """What the encoder takes, as a bundle's manifest says it."""
        spec = self.encoder.input
        return replace(spec, extra={**spec.extra, **self.facts})

    @property
    def limits(self) -> Limits:
        """Which items the encoder takes, as a bundle's manifest says it."""
        return replace(self.encoder.limits, values=self.values)


def token_transformer(model: TextModel[TextNetwork]) -> TextModel[TextEncoder]:
    """Check that a model is of attar's blocks, so that it can be saved, distilled and binarized.

    Raises InvalidInput when it is not.
    """
    if isinstance(model.encoder, StaticEncoder):
        raise InvalidInput(
            "the encoder is static, a table of tokens without attention or layers; this needs a "
            "transformer"
        )
    if not isinstance(model.encoder, TextEncoder):
        raise InvalidInput(
            f"{model.lineage.get('imported', 'the model')} is a {type(model.encoder).__name__} "
            "encoder, which can be exported as it is; this needs one of attar's own blocks, such "
            "as a BERT, RoBERTa or DistilBERT"
        )
    return cast("TextModel[TextEncoder]", model)


def save(model: TextModel[TextNetwork] | TensorModel, folder: Path) -> None:
    """Write the model to `folder`, which may exist; its files are replaced.

    Each file is whole or not there, and encoder.json, the last of them, holds the digests of the
    others: a folder in which a kill left files of two models is refused by `load`.

    Raises InvalidInput when the encoder or a layer's attention is not one of attar's own.
    """
    encoder: Any = model.encoder
    about: dict[str, object] = {
        "encoder": _encoder_name(encoder),
        "shape": asdict(encoder.shape),
        "attention": [_attention(layer) for layer in _layers(encoder)],
        "lineage": dict(model.lineage),
        "licence": model.licence,
    }
    if isinstance(model, TextModel):
        about |= {"prompts": dict(model.prompts), "dims": model.dims}
    else:
        spec = model.input
        about["input"] = {**model.facts, **{name: getattr(spec, name) for name in SPEC}}
        about["normalize"] = model.normalize
        if model.values is not None:
            about["values"] = [model.values.min, model.values.max]
    weights = {name: w.cpu().contiguous() for name, w in encoder.state_dict().items()}
    files = {WEIGHTS: serialised(weights)}
    if isinstance(model, TextModel):
        files[TOKENIZER] = model.tokenizer
    else:
        files |= {f"{HEADS}{name}.npz": head.to_bytes() for name, head in model.heads.items()}
    about["sha256"] = {name: sha256(content).hexdigest() for name, content in files.items()}
    files[ABOUT] = (json.dumps(about, indent=2, sort_keys=True) + "\n").encode()
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        draft = folder / f"{name}.partial"
        draft.write_bytes(content)
        draft.replace(folder / name)
    if isinstance(model, TensorModel):
        (folder / TOKENIZER).unlink(missing_ok=True)
    for path in _head_files(folder):
        if f"{HEADS}{path.name}" not in files:
            path.unlink()


def remove(folder: Path) -> None:
    """Remove the model that `save` wrote to `folder`, if there is one."""
    for name in (ABOUT, WEIGHTS, TOKENIZER):
        (folder / name).unlink(missing_ok=True)
    for path in _head_files(folder):
        path.unlink()


def _head_files(folder: Path) -> list[Path]:
    """List the files of the heads that `save` wrote."""
    return sorted((folder / HEADS).glob("*.npz"))


def load(folder: Path) -> TextModel[TextNetwork] | TensorModel:
    """Read what `save` wrote, ready for inference: the same weights, bit for bit.

    Raises InvalidInput when a file is missing, damaged or not the one that encoder.json was written
    with, and when the encoder is one that this version does not know; the message names it.
    """
    path = folder / ABOUT
    with _naming(path):
        about = json.loads(path.read_text("utf-8"))
        encoder_name = str(about.get("encoder", TEXT))
    if encoder_name not in (*TEXT_ENCODERS, *ENCODERS):
        raise InvalidInput(
            f"{path} is of a {encoder_name!r} encoder; this version reads "
            f"{', '.join((*TEXT_ENCODERS, *ENCODERS))}"
        )
    model: TextModel[TextNetwork] | TensorModel
    with _naming(path):
        read = _text_model if encoder_name in TEXT_ENCODERS else _tensor_model
        model = read(encoder_name, about)
        if "attention" in about:
            _attend(model.encoder, about["attention"])
        digests = dict(about.get("sha256", {}))  # none in folders older than they
    with _naming(folder / WEIGHTS):
        content = (folder / WEIGHTS).read_bytes()
        _refuse_other(WEIGHTS, content, digests)
        model.encoder.load_state_dict(tensors(content))
    model.encoder.eval()
    if isinstance(model, TensorModel):
        return replace(model, heads=_read_heads(folder, digests))
    with _naming(folder / TOKENIZER):
        tokenizer = (folder / TOKENIZER).read_bytes()
        _refuse_other(TOKENIZER, tokenizer, digests)
        return replace(model, tokenizer=tokenizer)


def refuse_two_models(folder: Path) -> None:
    """Raise InvalidInput for a folder that also holds a model of Hugging Face's libraries."""
    theirs = [name for name in ("modules.json", "config.json") if (folder / name).exists()]
    if theirs and (folder / ABOUT).exists():
        raise InvalidInput(
            f"{folder} holds two models, attar's ({ABOUT}) and one of Hugging Face's libraries "
            f"({theirs[0]}); give each a folder of its own"
        )


def lineage_of(folder: Path) -> dict[str, object]:
    """Read the lineage of the encoder in `folder` alone; raises InvalidInput as `load` does."""
    with _naming(folder / ABOUT):
        return dict(json.loads((folder / ABOUT).read_text("utf-8"))["lineage"])


def load_text(folder: Path) -> TextModel[TextEncoder]:
    """Read a text transformer that `save` wrote.

    Raises InvalidInput as `load` does, and for other encoders.
    """
    model = load(folder)
    if isinstance(model, TensorModel):
        raise InvalidInput(
            f"{folder} holds an encoder of {model.encoder.modality}; this needs one of texts"
        )
    return token_transformer(model)


def attention_kinds(encoder: nn.Module) -> str | None:
    """Give the kind of attention of each layer, as in `KINDS`; None for an encoder without.

    A text encoder of another library attends by softmax, and a static one not at all. Layers of
    several kinds are named with a plus between, as in "binarized+softmax".
    """
    if kinds := {str(_attention(layer)["kind"]) for layer in _layers(encoder)}:
        return "+".join(sorted(kinds))
    attends = isinstance(encoder, TextNetwork) and not isinstance(encoder, StaticEncoder)
    return "softmax" if attends else None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raise InvalidInput that names this file for any error in reading it."""
    try:
        yield
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        RuntimeError,
        SafetensorError,
    ) as error:
        raise InvalidInput(
            f"{path} is missing or damaged: {error!r}; an encoder's folder has {ABOUT}, {WEIGHTS} "
            f"and, for texts, {TOKENIZER}, as `attar pretrain` writes them; run it again"
        ) from error


def _read_heads(folder: Path, digests: Mapping[str, str]) -> dict[str, Head]:
    """Read the heads that encoder.json names."""
    heads: dict[str, Head] = {}
    for name in digests:
        if not name.startswith(HEADS):
            continue
        path = folder / HEADS / Path(name).name
        with _naming(path):
            content = path.read_bytes()
            _refuse_other(name, content, digests)
            if (head := read_head(content)) is not None:
                heads[path.stem] = head
    return heads


def _refuse_other(name: str, content: bytes, digests: Mapping[str, str]) -> None:
    """Raise ValueError for a file that is not the one encoder.json was written with."""
    if digests.get(name) not in (None, sha256(content).hexdigest()):
        raise ValueError(f"it is not the file that {ABOUT} was written with")


def _text_model(encoder_name: str, about: Mapping[str, Any]) -> TextModel[TextNetwork]:
    make, shape = TEXT_ENCODERS[encoder_name]
    return TextModel(
        encoder=make(_read(shape, about["shape"])),
        tokenizer=b"",
        dims=tuple(about.get("dims", ())),
        prompts=dict(about["prompts"]),
        lineage=dict(about["lineage"]),
        licence=about["licence"],
    )


def _tensor_model(encoder_name: str, about: Mapping[str, Any]) -> TensorModel:
    make, shape = ENCODERS[encoder_name]
    facts = {key: fact for key, fact in about["input"].items() if key not in SPEC}
    values = about.get("values")
    return TensorModel(
        encoder=make(_read(shape, about["shape"])),
        normalize=bool(about.get("normalize", False)),
        values=None if values is None else Range(min=float(values[0]), max=float(values[1])),
        facts=facts,
        lineage=dict(about["lineage"]),
        licence=about["licence"],
    )


def _read(kind: Any, value: Any) -> Any:
    """Read a part of a shape from JSON: dataclasses from objects, tuples from lists, or None.

    What is not said has its default, as a text encoder's head in folders older than heads, or what
    `ABSENT` has.
    """
    if isinstance(kind, UnionType) and value is not None:
        kinds = [part for part in get_args(kind) if part is not NoneType]
        # Of several dataclasses, the one that has all fields of the value.
        kind = next((k for k in kinds if is_dataclass(k) and {*value} <= _fields(k)), kinds[0])
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        parts = {name: _read(hints[name], part) for name, part in value.items()}
        return cast("Any", kind)(**{**ABSENT.get(cast("type", kind), {}), **parts})
    if get_origin(kind) is tuple:
        return tuple(_read(get_args(kind)[0], part) for part in value)
    return tuple(value) if isinstance(value, list) else value


def _fields(shape: Any) -> set[str]:
    return {part.name for part in fields(shape)}


def _encoder_name(encoder: nn.Module) -> str:
    """Name an encoder in encoder.json."""
    for encoder_name, (make, _) in (*TEXT_ENCODERS.items(), *ENCODERS.items()):
        if type(encoder) is make:
            return encoder_name
    raise InvalidInput(
        f"{type(encoder).__name__} cannot be saved; an encoder is one of "
        f"{', '.join((*TEXT_ENCODERS, *ENCODERS))}"
    )


def _layers(encoder: nn.Module) -> list[nn.Module]:
    """Give the attention of every layer of the token transformer, none where there is not one."""
    transformer = getattr(encoder, "transformer", None)
    if not isinstance(transformer, TokenTransformer):
        return []
    return [block.attention for block in transformer.blocks]


def _attend(encoder: nn.Module, layers: Sequence[dict[str, Any]]) -> None:
    """Build the attention of each layer by its entry in encoder.json."""
    transformer = getattr(encoder, "transformer", None)
    blocks = transformer.blocks if isinstance(transformer, TokenTransformer) else ()
    for block, layer in zip(blocks, layers, strict=True):
        arguments = {name: value for name, value in layer.items() if name != "kind"}
        width = block.attention_norm.normalized_shape[0]
        block.attention = KINDS[layer["kind"]](width, block.attention.heads, **arguments)


def _attention(attention: nn.Module) -> dict[str, object]:
    """Give the arguments that build a layer's attention again."""
    match attention:
        case SoftmaxAttention():
            return {"kind": "softmax", "rotary": attention.rotary}
        case LinearAttention():
            return {"kind": "linear", "features": attention.omega.shape[1]}
        case BinarizedAttention():
            return {
                "kind": "binarized",
                "bits": attention.bits,
                "anchors": attention.anchors.shape[1],
                "beta": attention.beta,
                "static_sigma": attention.static_sigma,
                "bias": attention.bias,
            }
    raise InvalidInput(
        f"{type(attention).__name__} cannot be saved; attention is one of {', '.join(KINDS)}"
    )
