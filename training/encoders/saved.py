"""An encoder on disk: weights as safetensors, shape and lineage as JSON, and the tokenizer."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from attar.errors import InvalidInput

from .attention import SoftmaxAttention
from .head import Dense, HeadShape
from .text import TextEncoder, TextNetwork, TextShape
from .transformer import TransformerShape

WEIGHTS, ABOUT, TOKENIZER = "encoder.safetensors", "encoder.json", "tokenizer.json"


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

    Raises InvalidInput when a layer does not attend by softmax, since the shape cannot say so.
    """
    for place, block in enumerate(model.encoder.transformer.blocks):
        if not isinstance(block.attention, SoftmaxAttention):
            raise InvalidInput(
                f"layer {place} has {type(block.attention).__name__} and only softmax attention "
                "can be saved; save the encoder first and binarize it for export"
            )
    folder.mkdir(parents=True, exist_ok=True)
    weights = model.encoder.state_dict()
    save_file({name: w.cpu().contiguous() for name, w in weights.items()}, folder / WEIGHTS)
    about = {
        "shape": asdict(model.encoder.shape),
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


def _shape(said: Any) -> TextShape:
    """Read a shape's JSON; encoders written before heads were declared have the plain one."""
    head = said.pop("head", {})
    layers = tuple(Dense(**layer) for layer in head.pop("dense", ()))
    transformer = TransformerShape(**said.pop("transformer"))
    return TextShape(**said, transformer=transformer, head=HeadShape(**head, dense=layers))
