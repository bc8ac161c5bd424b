"""Bad items: for each kind of bundle each item that its graph or tokenizer cannot take.

Bundles are small graphs of onnx.helper whose limits are those of real encoders: a convolution that
needs 400 samples, images of any size, an image in [0, 1], a tokenizer without an unknown token.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tokenizers import Tokenizer
from tokenizers.models import Unigram, WordPiece
from tokenizers.pre_tokenizers import Metaspace, Whitespace

from attar.bundle import Bundle
from attar.errors import InvalidInput, ShapeError
from attar.manifest import AxisRange, Cost, Limits, Manifest, Output, Range, TensorSpec, Variant

from ..support.bundles import LETTERS, graph_model, text_graph, text_manifest

KERNEL, STRIDE = 400, 320
SECOND = 16_000
FEATURES = 3

SOUND = TensorSpec(name="waveform", dtype="float32", shape=("batch", "samples"))
PICTURE = TensorSpec(name="image", dtype="uint8", shape=("batch", "height", "width", 3))
SCALED = TensorSpec(name="image", dtype="float32", shape=("batch", 1, 8, 8))
COUNTS = TensorSpec(name="counts", dtype="int8", shape=("batch", "rows", 4))

SPECS = {"sound": SOUND, "picture": PICTURE, "scaled": SCALED, "counts": COUNTS}
LIMITS = {
    "sound": Limits(
        axes={"samples": AxisRange(min=KERNEL, max=SECOND)}, cost=Cost(elements=STRIDE)
    ),
    "picture": Limits(
        axes={"height": AxisRange(min=1, max=200), "width": AxisRange(min=1, max=200)},
        max_elements=3 * 100 * 100,
        max_ratio=50,
        cost=Cost(tokens=4, elements=2**16),
    ),
    "scaled": Limits(values=Range(min=0, max=1)),
    "counts": Limits(axes={"rows": AxisRange(min=2, max=8)}),
}
TEXTS = ("pieces", "unigram")


def graph(spec: TensorSpec, *, dim: int = 8) -> bytes:
    """Give an encoder of the least, largest and mean number, of windows of 400 for sound."""
    value, nodes = "x", [helper.make_node("Cast", [spec.name], ["x"], to=TensorProto.FLOAT)]
    if spec is SOUND:
        nodes += [
            helper.make_node("Unsqueeze", ["x", "one"], ["channels"]),
            helper.make_node("Conv", ["channels", "window"], ["windows"], strides=[STRIDE]),
        ]
        value = "windows"
    axes = np.arange(1, len(spec.shape) + (spec is SOUND))
    nodes += [
        helper.make_node(f"Reduce{what}", [value, "axes"], [what], keepdims=0)
        for what in ("Min", "Max", "Mean")
    ]
    nodes += [
        helper.make_node("Unsqueeze", [what, "one"], [f"{what} column"])
        for what in ("Min", "Max", "Mean")
    ]
    nodes += [
        helper.make_node("Concat", ["Min column", "Max column", "Mean column"], ["all"], axis=1),
        helper.make_node("MatMul", ["all", "projection"], ["projected"]),
        helper.make_node("Add", ["projected", "shift"], ["shifted"]),
        helper.make_node("LpNormalization", ["shifted"], ["embedding"], axis=1, p=2),
    ]
    draw = np.random.default_rng(0)
    weights = {
        "window": np.full((1, 1, KERNEL), 1 / KERNEL, np.float32),
        "one": np.array([1]),
        "axes": axes,
        "projection": draw.standard_normal((FEATURES, dim)).astype(np.float32),
        "shift": draw.standard_normal(dim).astype(np.float32),
    }
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(spec.dtype))
    inputs = [helper.make_tensor_value_info(spec.name, kind, list(spec.shape))]
    return graph_model(nodes, inputs, dim, weights)


def tensor_bundle(path: Path, spec: TensorSpec, limits: Limits | None, *, name: str = "x") -> Path:
    """Write a bundle of that graph."""
    manifest = Manifest(
        name=name,
        version="1",
        modality="tensor",
        inputs=(spec,),
        limits=limits,
        output=Output(dim=8, dims=(8,)),
        reference="fp32",
        variants=(Variant(name="fp32", file="variants/fp32.onnx", precision="fp32"),),
    )
    return Bundle.write(path, manifest, {"variants/fp32.onnx": graph(spec)}).path


def pieces() -> bytes:
    """Give a WordPiece tokenizer of the letters a to m, whose unknown token is not there."""
    words = [*LETTERS[:13], *(f"##{letter}" for letter in LETTERS[:13])]
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return tokenizer.to_str().encode()


def unigram() -> bytes:
    """Give a Unigram tokenizer of the same letters that has no unknown token."""
    tokenizer = Tokenizer(Unigram([(letter, -1.0) for letter in ("▁", *LETTERS[:13])]))
    tokenizer.pre_tokenizer = Metaspace()
    return tokenizer.to_str().encode()


def bundle(folder: Path, name: str) -> Path:
    """Write the bundle of that name."""
    if name not in TEXTS:
        return tensor_bundle(folder / name, SPECS[name], LIMITS[name], name=name)
    tokenizer = pieces() if name == "pieces" else unigram()
    files = {"tokenizer.json": tokenizer, "variants/fp32.onnx": text_graph()}
    return Bundle.write(folder / name, text_manifest(name=name), files).path


def sound(samples: int) -> NDArray[np.float32]:
    wave: NDArray[np.float32] = np.sin(np.arange(samples) * 0.01).astype(np.float32)
    return wave


def picture(*shape: int) -> NDArray[np.uint8]:
    return np.random.default_rng(1).integers(0, 256, shape, np.uint8)


GOOD: dict[str, Any] = {
    "sound": sound(1000),
    "picture": picture(9, 7, 3),
    "scaled": np.linspace(0, 1, 64, dtype=np.float32).reshape(1, 8, 8),
    "counts": np.arange(8, dtype=np.int8).reshape(2, 4),
    "pieces": "a bad cab",
    "unigram": "a bad cab",
}


def changed(array: NDArray[Any], number: Any) -> NDArray[Any]:
    """Give a copy that has a number in front."""
    copy = array.copy()
    copy.flat[0] = number
    return copy


@dataclass(frozen=True, slots=True)
class Case:
    """One bad item; `item` makes it, and `error` names it in `refusal` after its index."""

    bundle: str
    fault: str
    item: Callable[[], Any]
    refusal: str
    error: type[InvalidInput] = ShapeError

    def __str__(self) -> str:
        return f"{self.bundle}: {self.fault}"


def _masked() -> Any:
    return np.ma.masked_less(GOOD["scaled"], 0.5)


CASES: Sequence[Case] = (
    Case(
        "sound",
        "one sample short",
        lambda: sound(399),
        "has 399 samples and the encoder takes 400 or more",
    ),
    Case("sound", "one sample", lambda: sound(1), "has 1 samples"),
    Case("sound", "empty", lambda: sound(0), "has 0 samples"),
    Case(
        "sound",
        "too long",
        lambda: sound(SECOND + 1),
        "has 16001 samples and the encoder takes 16000 at most",
    ),
    Case(
        "sound", "two channels", lambda: np.zeros((2, 1000), np.float32), r"has shape \(2, 1000\)"
    ),
    Case("sound", "a number", lambda: np.float32(1), r"has shape \(\)"),
    Case(
        "sound",
        "a NaN",
        lambda: changed(sound(1000), np.nan),
        "holds a NaN or an infinity",
        InvalidInput,
    ),
    Case("sound", "an infinity", lambda: changed(sound(1000), np.inf), "holds a NaN", InvalidInput),
    Case(
        "sound",
        "beyond float32",
        lambda: changed(sound(1000).astype(np.float64), 1e300),
        "holds a number beyond float32",
        InvalidInput,
    ),
    Case("sound", "words", lambda: np.full(1000, "a"), "has dtype <U1"),
    Case("sound", "objects", lambda: sound(1000).astype(object), "has dtype object"),
    Case(
        "sound", "complex numbers", lambda: sound(1000).astype(np.complex64), "has dtype complex64"
    ),
    Case("sound", "times", lambda: np.zeros(1000, "m8[s]"), "has dtype timedelta64"),
    Case(
        "sound",
        "ragged lists",
        lambda: [[1.0], [1.0, 2.0]],
        "a list, cannot be taken for an array",
        InvalidInput,
    ),
    Case("picture", "no rows", lambda: picture(0, 7, 3), "has 0 height"),
    Case("picture", "no columns", lambda: picture(9, 0, 3), "has 0 width"),
    Case(
        "picture",
        "too high",
        lambda: picture(201, 7, 3),
        "has 201 height and the encoder takes 200 at most",
    ),
    Case(
        "picture",
        "too large",
        lambda: picture(101, 100, 3),
        "has 30300 numbers and the encoder takes 30000 at most",
    ),
    Case(
        "picture",
        "too thin",
        lambda: picture(1, 51, 3),
        "is 51 times as long as wide and the encoder takes 50 times at most",
    ),
    Case(
        "picture", "grey", lambda: picture(9, 7), r"has shape \(9, 7\).*a grey image needs channels"
    ),
    Case("picture", "grey with an axis", lambda: picture(9, 7, 1), "repeat the grey channel"),
    Case(
        "picture",
        "alpha",
        lambda: picture(9, 7, 4),
        r"drop the alpha channel \(Pillow's convert\('RGB'\)\)",
    ),
    Case("picture", "channels first", lambda: picture(3, 9, 7), "move the channels to the end"),
    Case("picture", "a batch", lambda: picture(1, 9, 7, 3), "pass its rows as the items"),
    Case("picture", "floats", lambda: picture(9, 7, 3) / np.float32(255), "has dtype float32"),
    Case(
        "picture", "true and false", lambda: picture(9, 7, 3) > 99, "has dtype bool.*as 255 and 0"
    ),
    Case(
        "picture",
        "16 bits",
        lambda: changed(picture(9, 7, 3).astype(np.uint16), 300),
        "has numbers from .* to 300.*holds 0 to 255: scale them",
        InvalidInput,
    ),
    Case(
        "scaled",
        "bytes as floats",
        lambda: GOOD["scaled"] * 255,
        "has numbers from 0 to 255 and the encoder was trained on 0 to 1",
        InvalidInput,
    ),
    Case(
        "scaled",
        "bytes",
        lambda: picture(1, 8, 8),
        "the encoder was trained on 0 to 1",
        InvalidInput,
    ),
    Case(
        "scaled",
        "around zero",
        lambda: GOOD["scaled"] * 2 - 1,
        "has numbers from -1 to 1",
        InvalidInput,
    ),
    Case(
        "scaled",
        "channels last",
        lambda: GOOD["scaled"].transpose(1, 2, 0),
        "move the channels to the front",
    ),
    Case("scaled", "masked", _masked, "is masked in part", InvalidInput),
    Case(
        "scaled",
        "half, beyond",
        lambda: changed(GOOD["scaled"].astype(np.float16), np.inf),
        "holds a NaN",
        InvalidInput,
    ),
    Case(
        "counts",
        "too few rows",
        lambda: np.zeros((1, 4), np.int8),
        "has 1 rows and the encoder takes 2 or more",
    ),
    Case(
        "counts",
        "wider numbers",
        lambda: changed(GOOD["counts"].astype(np.int64), -129),
        "holds -128 to 127",
        InvalidInput,
    ),
    Case(
        "counts",
        "wider numbers without a sign",
        lambda: GOOD["counts"].astype(np.uint64) + 2**63,
        "holds -128 to 127",
        InvalidInput,
    ),
    Case("counts", "floats", lambda: GOOD["counts"].astype(np.float32), "has dtype float32"),
    Case("pieces", "an unknown letter", lambda: "a bad zebra", "holds 'z', 'r'", InvalidInput),
    Case(
        "pieces",
        "another script",
        lambda: "日本",
        "holds '日', '本', which this tokenizer has no token for",
        InvalidInput,
    ),
    Case(
        "pieces",
        "half of a surrogate pair",
        lambda: "a\ud800",
        "has half of a surrogate pair",
        InvalidInput,
    ),
    Case("unigram", "an unknown letter", lambda: "a bad é", "holds 'é'", InvalidInput),
    Case("unigram", "a number", lambda: 7, "must be a string; got int", InvalidInput),
)

SAME: Sequence[tuple[str, str, Callable[[], Any]]] = (
    ("sound", "other byte order", lambda: GOOD["sound"].astype(">f4")),
    ("sound", "backwards twice", lambda: GOOD["sound"][::-1].copy()[::-1]),
    ("sound", "every other number", lambda: np.repeat(GOOD["sound"], 2)[::2]),
    ("sound", "double", lambda: GOOD["sound"].astype(np.float64)),
    ("sound", "a list", GOOD["sound"].tolist),
    ("sound", "read-only", lambda: np.frombuffer(GOOD["sound"].tobytes(), np.float32)),
    ("picture", "by columns", lambda: np.asfortranarray(GOOD["picture"])),
    ("picture", "16 bits that fit", lambda: GOOD["picture"].astype(np.uint16)),
    ("scaled", "nothing masked", lambda: np.ma.array(GOOD["scaled"])),
    ("counts", "wider numbers that fit", lambda: GOOD["counts"].astype(np.int64)),
)
"""Other forms of the good item, which have its embedding."""
