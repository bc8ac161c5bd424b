"""Encoders of images, sound and captions in a transformers folder, with their preprocessing inside.

ViT (Dosovitskiy et al., arXiv:2010.11929), DeiT (Touvron et al., arXiv:2012.12877), DINOv2 (Oquab
et al., arXiv:2304.07193) and CLIP (Radford et al., arXiv:2103.00020) take images as they are
decoded; wav2vec 2.0 (Baevski et al., arXiv:2006.11477) and HuBERT (Hsu et al., arXiv:2106.07447)
raw waveforms; CLIP's other tower texts.  The networks are the library's own classes, filled from
safetensors; embeddings have unit length.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.manifest import AxisRange, Cost, Limits, TensorSpec

from ..checkpoints.encoder_folder import TextModel
from ..choices import Side
from ..encoders.attention import unit
from ..encoders.image_preprocessing import Pixels
from ..encoders.text import TextNetwork
from . import processors, tokenization, transformers_backend
from .config import read_json, refuse_code, size

IMAGES = ("vit", "deit", "dinov2", "clip_vision_model")
SOUNDS = ("wav2vec2", "hubert")
CAPTIONS = ("clip_text_model",)
CLIP = "clip"  # a folder of both towers
KINDS = (*IMAGES, *SOUNDS, *CAPTIONS, CLIP)
"""By `model_type`."""

VARIANCE_FLOOR = 1e-7  # of a waveform, as Wav2Vec2FeatureExtractor adds it

MOST_SIDE, MOST_PIXELS, MOST_RATIO = 8192, 2**24, 100
"""Of an image: those of cameras, and panoramas; resizing them takes some 200 MB at most."""
PIXELS_PER_TOKEN = 2**16 // 3  # resizing so many takes no longer than a token

MAX_SECONDS = 30.0
"""Of sound: what speech is usually cut to; attention over it takes 9 MB a head."""

UNUSED = (
    *("pooler.", "classifier.", "cls_classifier.", "distillation_classifier.", "decoder."),
    *("lm_head.", "projector.", "quantizer.", "project_q.", "project_hid.", "masked_spec_embed"),
    *("logit_scale", "text_model.embeddings.position_ids", "vision_model.embeddings.position_ids"),
)
"""What a checkpoint may hold in addition to the encoder, or lack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tower:
    """An encoder of one tensor; `shapes` are those of some items, without the batch axis."""

    encoder: nn.Module
    spec: TensorSpec
    limits: Limits
    modality: str
    shapes: tuple[tuple[int, ...], ...]
    lineage: Mapping[str, object]
    licence: str | None = None


class ImageTower(nn.Module):
    """Decoded images to embeddings: the class token's state, and what CLIP projects it to."""

    def __init__(
        self, pixels: Pixels, network: nn.Module, projection: nn.Module, *, patch: int
    ) -> None:
        super().__init__()
        self.pixels = pixels
        self.network = network
        self.projection = projection
        height, width = pixels.crop
        self.grid = height // patch, width // patch

    def forward(self, image: UInt8[Tensor, "b height width 3"]) -> Float[Tensor, "b dim"]:
        """Embed RGB images of one size."""
        return self._embed(self.network(pixel_values=self.pixels(image)))

    def with_tokens(
        self, image: UInt8[Tensor, "b height width 3"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n dim"]]:
        """Give the embeddings, and the patches of the centre that is kept, mapped as those are."""
        outputs = self.network(pixel_values=self.pixels(image))
        # A class token stands before them, and DeiT's token of distillation.
        patches: Tensor = outputs.last_hidden_state[:, -self.grid[0] * self.grid[1] :]
        if self._is_clip:
            patches = self.network.post_layernorm(patches)  # type: ignore[operator]
        return self._embed(outputs), self.projection(patches)

    @property
    def _is_clip(self) -> bool:
        return isinstance(self.projection, nn.Linear)

    def _embed(self, outputs: Any) -> Float[Tensor, "b dim"]:
        # CLIP alone norms the class token after pooling it; the others' poolers may be untrained.
        state: Tensor = outputs.pooler_output if self._is_clip else outputs.last_hidden_state[:, 0]
        return unit(self.projection(state))


class SpeechTower(nn.Module):
    """Waveforms to the mean of their frames' states."""

    def __init__(self, network: nn.Module, *, normalise: bool) -> None:
        super().__init__()
        self.network = network
        self.normalise = normalise

    def forward(self, waveform: Float[Tensor, "b samples"]) -> Float[Tensor, "b dim"]:
        """Embed waveforms of one length, of any loudness if the network is used to that."""
        if self.normalise:
            centred = waveform - waveform.mean(1, keepdim=True)
            waveform = centred / (centred.square().mean(1, keepdim=True) + VARIANCE_FLOOR).sqrt()
        states: Tensor = self.network(input_values=waveform).last_hidden_state
        return unit(states.mean(1))


class CaptionTower(TextNetwork):
    """CLIP's texts: the state of the first end-of-text token, which has seen what comes before."""

    def __init__(self, network: nn.Module, projection: nn.Linear, *, max_length: int) -> None:
        super().__init__()
        self.network = network
        self.projection = projection
        self.dim = projection.out_features
        self.max_length = max_length
        self.normalized = True

    def forward(
        self,
        input_ids: Int[Tensor, "b n"],
        attention_mask: Int[Tensor, "b n"],
    ) -> Float[Tensor, "b dim"]:
        """Embed rows of ids, each with its end-of-text token and padded after it."""
        return unit(self.projection(self.network(input_ids=input_ids).pooler_output))

    @property
    def token_dim(self) -> int:
        """Give the embedding's width."""
        return self.dim

    def with_tokens(
        self, input_ids: Int[Tensor, "b n"], attention_mask: Int[Tensor, "b n"]
    ) -> tuple[Float[Tensor, "b dim"], Float[Tensor, "b n dim"]]:
        """Give the embeddings, and the states of all tokens, mapped as that one is."""
        outputs = self.network(input_ids=input_ids)
        tokens: Tensor = self.projection(outputs.last_hidden_state)
        return unit(self.projection(outputs.pooler_output)), tokens


def is_tower(folder: Path) -> bool:
    """Say, by its config.json alone, whether `folder` is one that `read` reads."""
    path = folder / "config.json"
    plain = path.is_file() and not (folder / "modules.json").exists()
    return plain and read_json(path).get("model_type") in KINDS


def read(
    folder: Path, side: Side | None = None, *, max_seconds: float | None = None
) -> Tower | TextModel[TextNetwork]:
    """Give the encoder of a transformers `folder`, ready for inference.

    `side` is the tower of a CLIP folder that holds both, and `max_seconds` the longest sound that
    the encoder is to take, by default `MAX_SECONDS`. Raises InvalidInput that names what is
    missing, damaged or not supported, and MissingExtra without `transformers`.
    """
    where = folder / "config.json"
    config = read_json(where)
    kind = config.get("model_type")
    if kind not in KINDS:
        raise InvalidInput(f"{where} has model_type {kind!r}; attar imports {', '.join(KINDS)}")
    refuse_code(folder, config)
    if (side is not None) != (kind == CLIP):
        wants = "both towers; choose vision or text" if kind == CLIP else f"one encoder, a {kind}"
        raise InvalidInput(f"{folder} holds {wants} (--tower); got {side}")
    if kind in SOUNDS:
        return _speech(folder, config, max_seconds or MAX_SECONDS)
    if max_seconds is not None:
        raise InvalidInput(f"{folder} embeds no sound; leave --max-seconds out")
    if kind in CAPTIONS or side == "text":
        return _captions(folder, config)
    return _images(folder, config)


def _images(folder: Path, config: Mapping[str, Any]) -> Tower:
    where = folder / "config.json"
    inner = _part(config, "vision", where)
    pixels = processors.images(folder, config)
    # DINOv2 stretches its positions over images of another size; the others take one size.
    side = size(inner, "image_size", where)
    if config["model_type"] != "dinov2" and pixels.crop != (side, side):
        raise InvalidInput(
            f"{folder} prepares images of {pixels.crop} and {where} has image_size {side}; "
            "save the processor that the model was trained with"
        )
    network, projection = (
        _clip(folder, config, "vision")
        if config["model_type"] in (CLIP, "clip_vision_model")
        else (_load_model(folder, config), nn.Identity())
    )
    height, width = pixels.crop
    patch = size(inner, "patch_size", where)
    sides = AxisRange(min=1, max=MOST_SIDE)
    return Tower(
        encoder=ImageTower(pixels, network, projection, patch=patch).eval(),
        spec=TensorSpec(name="image", dtype="uint8", shape=("batch", "height", "width", 3)),
        limits=Limits(
            axes={"height": sides, "width": sides},
            max_elements=3 * MOST_PIXELS,
            max_ratio=MOST_RATIO,
            cost=Cost(
                tokens=(height // patch) * (width // patch) + 1, elements=3 * PIXELS_PER_TOKEN
            ),
        ),
        modality="image",
        shapes=((height, width, 3), (2 * height, width + 3, 3), (height + 5, 3 * width // 2, 3)),
        lineage={"imported": folder.resolve().name},
    )


def _speech(folder: Path, config: Mapping[str, Any], max_seconds: float) -> Tower:
    where = folder / "config.json"
    if config.get("add_adapter"):
        raise InvalidInput(f"{where} has add_adapter; attar imports encoders without adapters")
    sound = processors.sounds(folder, config)
    rate = sound.rate
    least, stride = field(config, where)
    most = int(rate * max_seconds)
    if most < least:
        raise InvalidInput(
            f"{folder} takes {least / rate:g} s of sound at least; got {max_seconds:g} s at most"
        )
    return Tower(
        encoder=SpeechTower(_load_model(folder, config), normalise=sound.normalise).eval(),
        spec=TensorSpec(
            name="waveform",
            dtype="float32",
            shape=("batch", "samples"),
            extra={"sampling_rate": rate},
        ),
        limits=Limits(axes={"samples": AxisRange(min=least, max=most)}, cost=Cost(elements=stride)),
        modality="audio",
        shapes=tuple((min(max(n, least), most),) for n in (rate // 2, rate, rate + rate // 3)),
        lineage={"imported": folder.resolve().name},
    )


def field(config: Mapping[str, Any], where: Path) -> tuple[int, int]:
    """Give the samples that the convolutions make one frame of, and those between two frames."""
    kernels, strides = config.get("conv_kernel"), config.get("conv_stride")
    if not isinstance(kernels, list) or not isinstance(strides, list):
        raise InvalidInput(f"{where} lacks conv_kernel or conv_stride, which a sound encoder's has")
    least = 1
    for kernel, step in zip(reversed(kernels), reversed(strides), strict=True):
        least = (least - 1) * step + kernel
    return least, math.prod(strides)


def _captions(folder: Path, config: Mapping[str, Any]) -> TextModel[TextNetwork]:
    where = folder / "config.json"
    part = _part(config, "text", where)
    tokenizer = tokenization.read(folder, config, rows=size(part, "vocab_size", where))
    tokenizer.refuse_left_padding("a clip")
    network, projection = _clip(folder, config, "text")
    positions = size(part, "max_position_embeddings", where)
    longest = min(tokenizer.limit or positions, positions)
    tokenization.check(tokenizer, max_length=longest)
    return TextModel(
        encoder=CaptionTower(network, projection, max_length=longest).eval(),
        tokenizer=tokenizer.content,
        lineage={"imported": folder.resolve().name, "tower": "text"},
    )


def _load_model(folder: Path, config: Mapping[str, Any]) -> nn.Module:
    """Fill the network that config.json describes."""
    path = folder / "model.safetensors"
    transformers_backend.check_depth(config, folder / "config.json", path)
    return transformers_backend.load(folder, config, path, unused=UNUSED)


def _clip(folder: Path, config: Mapping[str, Any], side: Side) -> tuple[nn.Module, nn.Linear]:
    """Give one of CLIP's towers and its projection, without which the two do not meet."""
    path = folder / "model.safetensors"
    transformers_backend.check_depth(
        _part(config, side, folder / "config.json"), folder / "config.json", path
    )
    both = config["model_type"] == CLIP
    alone = {"vision": "CLIPVisionModelWithProjection", "text": "CLIPTextModelWithProjection"}
    architecture = "CLIPModel" if both else alone[side]
    model: Any = transformers_backend.load(
        folder, config, path, architecture=architecture, unused=UNUSED
    )
    if side == "vision":
        return model.vision_model, model.visual_projection
    return model.text_model, model.text_projection


def _part(config: Mapping[str, Any], side: Side, where: Path) -> Mapping[str, Any]:
    """Give the configuration of one tower, the whole one where there is but one."""
    if config["model_type"] != CLIP:
        return config
    part = config.get(f"{side}_config")
    if not isinstance(part, Mapping):
        raise InvalidInput(f"{where} lacks {side}_config, which a clip's has")
    return part
