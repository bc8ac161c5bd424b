"""An encoder on disk: weights as safetensors, shape and lineage as JSON, and the tokenizer."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from attar.errors import InvalidInput

from .attention import BinarizedAttention, LinearAttention, SoftmaxAttention
from .head import Dense, HeadShape
from .text import TextEncoder, TextNetwork, TextShape
from .transformer import TransformerShape

WEIGHTS, ABOUT, TOKENIZER = "encoder.safetensors", "encoder.json", "tokenizer.json"
KINDS: Mapping[str, Callable[..., nn.Module]] = {
    "softmax": SoftmaxAttention,
    "linear": LinearAttention,
    "binarized": BinarizedAttention,
}
"""Attention by its word in encoder.json; an encoder written without the word attends by softmax."""


Network_co = TypeVar("Network_co", bound=TextNetwork, covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextModel(Generic[Network_co]):
    """A text encoder with what it needs to meet text, and where it came from.

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


def token_transformer(model: TextModel[TextNetwork]) -> TextModel[TextEncoder]:
    """Hold a model to be of attar's own blocks, which can be distilled from, saved and binarized.

    Raises InvalidInput when it is not.
    """
    if not isinstance(model.encoder, TextEncoder):
        raise InvalidInput(
            f"{model.lineage.get('imported', 'the model')} is a {type(model.encoder).__name__} "
            "encoder, which can be exported as it is; this needs one of attar's own blocks, such "
            "as a BERT, RoBERTa or DistilBERT"
        )
    return cast("TextModel[TextEncoder]", model)


def save(model: TextModel[TextEncoder], folder: Path) -> None:
    """Write the model to `folder`, which may exist; its files are replaced.

    Raises InvalidInput when a layer's attention is not one of attar's own.
    """
    attention = [_attention(block.attention) for block in model.encoder.transformer.blocks]
    folder.mkdir(parents=True, exist_ok=True)
    weights = model.encoder.state_dict()
    save_file({name: w.cpu().contiguous() for name, w in weights.items()}, folder / WEIGHTS)
    about = {
        "shape": asdict(model.encoder.shape),
        "attention": attention,
        "prompts": dict(model.prompts),
        "dims": model.dims,
        "lineage": dict(model.lineage),
        "licence": model.licence,
    }
    (folder / ABOUT).write_text(json.dumps(about, indent=2, sort_keys=True) + "\n")
    (folder / TOKENIZER).write_bytes(model.tokenizer)


def load(folder: Path) -> TextModel[TextEncoder]:
    """Read what `save` wrote, ready for inference.

    Raises InvalidInput when a file is missing or damaged; the message names it.
    """
    try:
        reading = ABOUT
        about = json.loads((folder / ABOUT).read_text("utf-8"))
        encoder = TextEncoder(_shape(about["shape"]))
        if "attention" in about:
            _attend(encoder, about["attention"])
        prompts, lineage = dict(about["prompts"]), dict(about["lineage"])
        licence, dims = about["licence"], tuple(about.get("dims", ()))
        reading = WEIGHTS
        encoder.load_state_dict(load_file(folder / WEIGHTS))
        reading = TOKENIZER
        tokenizer = (folder / TOKENIZER).read_bytes()
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
            f"{folder / reading} is missing or damaged: {error!r}; an encoder's folder has "
            f"{ABOUT}, {WEIGHTS} and {TOKENIZER}, as `attar pretrain` writes them"
        ) from error
    return TextModel(
        encoder=encoder.eval(),
        tokenizer=tokenizer,
        dims=dims,
        prompts=prompts,
        lineage=lineage,
        licence=licence,
    )


def attention_kinds(encoder: nn.Module) -> str:
    """Say how an encoder's layers attend, in the words of `KINDS`; a borrowed encoder's by softmax.

    Layers of several kinds are named with a plus between, as in "binarized+softmax".
    """
    if not isinstance(encoder, TextEncoder):
        return "softmax"
    blocks = encoder.transformer.blocks
    return "+".join(sorted({str(_attention(block.attention)["kind"]) for block in blocks}))


def _attend(encoder: TextEncoder, layers: Sequence[dict[str, Any]]) -> None:
    """Give each layer the attention that was said of it."""
    shape = encoder.shape.transformer
    for block, said in zip(encoder.transformer.blocks, layers, strict=True):
        arguments = {name: value for name, value in said.items() if name != "kind"}
        block.attention = KINDS[said["kind"]](shape.width, shape.heads, **arguments)


def _attention(attention: nn.Module) -> dict[str, object]:
    """Say how a layer attends, in the arguments that make it again."""
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


def _shape(said: Any) -> TextShape:
    """Read a shape's JSON; encoders written before heads were declared have the plain one."""
    head = said.pop("head", {})
    layers = tuple(Dense(**layer) for layer in head.pop("dense", ()))
    transformer = TransformerShape(**said.pop("transformer"))
    return TextShape(**said, transformer=transformer, head=HeadShape(**head, dense=layers))
