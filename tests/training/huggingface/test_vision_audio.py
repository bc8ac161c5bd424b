"""Images, sound and captions: transformers' own numbers, from decoded pixels and raw waveforms.

Models are small and random, built and saved by transformers itself; its processors and networks are
what embeddings are compared with.
"""

import json
import math
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing
from torch.nn import functional as F

import attar
from attar import trial_inputs
from attar.errors import InvalidInput, ShapeError
from attar.export.importing import import_folder
from attar.training.encoders.image_preprocessing import Pixels
from attar.training.huggingface import vision_audio

from ...support.vision_audio import (
    CONVOLUTIONS,
    LAYERS,
    PATCHES,
    RATE,
    SIDE,
    SIZES,
    dinov2,
    wav2vec2,
)

transformers: Any = pytest.importorskip("transformers")

# transformers and what it imports warn about one another; that is not what is tested.
pytestmark = pytest.mark.filterwarnings("ignore")

WORDS = ["<pad>", "<start>", "<end>", "a", "photo", "of", "the", "two", "cats", "under", "tree"]


@cache
def pixels(*, size: int = SIDE) -> Any:
    """Give a processor that resizes the shorter side, cuts the centre out and normalises."""
    return transformers.CLIPImageProcessor(
        size={"shortest_edge": size + 4}, crop_size={"height": size, "width": size}
    )


def sound() -> Any:
    return transformers.Wav2Vec2FeatureExtractor(sampling_rate=RATE, do_normalize=True)


def vit() -> Any:
    return transformers.ViTModel(transformers.ViTConfig(**SIZES, **PATCHES))


def deit() -> Any:
    model = transformers.DeiTModel(transformers.DeiTConfig(**SIZES, **PATCHES))
    torch.nn.init.normal_(model.embeddings.distillation_token)  # zero when it is made
    return model


def clip() -> Any:
    text = {**SIZES, "vocab_size": len(WORDS), "max_position_embeddings": 8, "eos_token_id": 2}
    vision = {**SIZES, **PATCHES}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)
    return transformers.CLIPModel(config)


def hubert() -> Any:
    return transformers.HubertModel(transformers.HubertConfig(**SIZES, **CONVOLUTIONS))


def first_token(model: Any, image: NDArray[np.uint8]) -> torch.Tensor:
    prepared = pixels()(Image.fromarray(image), return_tensors="pt")
    states: torch.Tensor = model(**prepared).last_hidden_state[:, 0]
    return states


def image_features(model: Any, image: NDArray[np.uint8]) -> torch.Tensor:
    prepared = pixels()(Image.fromarray(image), return_tensors="pt")
    features: torch.Tensor = model.get_image_features(**prepared).pooler_output
    return features


def mean_frame(model: Any, waveform: NDArray[np.float32]) -> torch.Tensor:
    prepared = sound()(waveform, sampling_rate=RATE, return_tensors="pt")
    frames: torch.Tensor = model(**prepared).last_hidden_state
    return frames.mean(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, its processor, and what transformers makes of one item."""

    model: Callable[[], Any]
    processor: Callable[[], Any]
    reference: Callable[[Any, Any], torch.Tensor]


CASES = {
    "vit": Case(model=vit, processor=pixels, reference=first_token),
    "deit": Case(model=deit, processor=pixels, reference=first_token),
    "dinov2": Case(model=dinov2, processor=pixels, reference=first_token),
    "clip": Case(model=clip, processor=pixels, reference=image_features),
    "wav2vec2": Case(model=wav2vec2, processor=sound, reference=mean_frame),
    "hubert": Case(model=hubert, processor=sound, reference=mean_frame),
}
MORE = {
    "dinov2 with gates": Case(
        model=partial(dinov2, use_swiglu_ffn=True), processor=pixels, reference=first_token
    ),
    "wav2vec2 with norms before": Case(
        model=partial(wav2vec2, do_stable_layer_norm=True, feat_extract_norm="layer"),
        processor=sound,
        reference=mean_frame,
    ),
}


def saved(model: Any, folder: Path, processor: Any) -> Path:
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def items(case: Case) -> list[NDArray[Any]]:
    """Give two items of each of two shapes; images need no resizing but the cut."""
    draw = np.random.default_rng(7)
    if case.processor is sound:
        return [draw.normal(3, 0.1, n).astype(np.float32) for n in (900, 900, 1601, 1601)]
    sizes = [(SIDE + 4, SIDE + 4), (SIDE + 4, SIDE + 9)]
    return [draw.integers(0, 256, (*size, 3), np.uint8) for size in sizes for _ in range(2)]


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name not in {"vit", "wav2vec2"}))
        for name in CASES
    ],
)
def test_a_bundle_gives_transformers_embeddings(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    model = case.model().eval()
    folder = saved(model, tmp_path / "theirs", case.processor())
    side: Any = "vision" if name == "clip" else None
    path = import_folder(folder, tmp_path / "mine.attar", side=side).bundle.path
    encoder = attar.load(path, threads=1)
    given = items(case)
    with torch.no_grad():
        theirs = F.normalize(torch.cat([case.reference(model, item) for item in given])).numpy()

    together = encoder.embed(given).vectors
    np.testing.assert_allclose(together, theirs, rtol=0, atol=1e-5)
    alone = np.concatenate([encoder.embed([item]).vectors for item in given])
    batched = np.concatenate([encoder.infer(encoder.prepare(given[i : i + 2])) for i in (0, 2)])
    np.testing.assert_allclose(alone, batched, rtol=0, atol=1e-6)
    assert encoder.manifest.output.normalized


def patches(model: Any, image: NDArray[np.uint8]) -> torch.Tensor:
    """Give transformers' states of an image's patches, those of CLIP in its joint space."""
    prepared = pixels()(Image.fromarray(image), return_tensors="pt")
    vision = getattr(model, "vision_model", model)
    states = vision(pixel_values=prepared["pixel_values"]).last_hidden_state
    before = 2 if isinstance(model, transformers.DeiTModel) else 1  # its token of distillation
    own: torch.Tensor = states[:, before:]
    if vision is model:
        return own
    projected: torch.Tensor = model.visual_projection(vision.post_layernorm(own))
    return projected


@pytest.mark.parametrize(
    "name",
    ["vit", *(pytest.param(name, marks=pytest.mark.slow) for name in ("deit", "dinov2", "clip"))],
)
def test_the_tokens_of_an_image_are_its_patches(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    torch.manual_seed(0)
    model = case.model().eval()
    folder = saved(model, tmp_path / "theirs", case.processor())
    side: Any = "vision" if name == "clip" else None
    exported = import_folder(folder, tmp_path / "mine.attar", side=side, tokens=True)
    encoder = attar.load(exported.bundle, threads=1)
    given = items(case)
    with torch.no_grad():
        theirs = F.normalize(torch.cat([patches(model, item) for item in given]), dim=-1)

    ours = encoder.embed_tokens(given)

    assert ours.grid == ((4, 4) if name == "dinov2" else (2, 2))
    expected = theirs.flatten(0, 1).numpy()
    np.testing.assert_allclose(ours.vectors, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", MORE)
def test_their_variations_are_read_too(name: str, tmp_path: Path) -> None:
    case = MORE[name]
    torch.manual_seed(0)
    model = case.model().eval()
    tower = vision_audio.read(saved(model, tmp_path, case.processor()))
    assert isinstance(tower, vision_audio.Tower)
    with torch.no_grad():
        for item in items(case):
            ours = tower.encoder(torch.from_numpy(item[None]))
            theirs = F.normalize(case.reference(model, item))
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=0, atol=1e-5)


def captions() -> Tokenizer:
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 2)]
    )
    return tokenizer


def test_clips_texts_are_pooled_where_they_end(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = clip().eval()
    folder = saved(model, tmp_path / "theirs", pixels())
    captions().save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>"}
    kind["processor_class"] = "CLIPProcessor"  # as that writes it
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))
    path = import_folder(folder, tmp_path / "mine.attar", side="text").bundle.path
    encoder = attar.load(path, threads=1)
    texts = ["a photo of two cats", "tree", "the tree under the cats a photo of two"]
    ids = [captions().encode(text).ids for text in texts]
    ids[2] = [*ids[2][:7], 2]  # cut to 8 tokens, and still ending
    with torch.no_grad():
        states = [model.get_text_features(torch.tensor([row])).pooler_output for row in ids]
    theirs = F.normalize(torch.cat(states)).numpy()

    together = encoder.embed(texts)
    np.testing.assert_allclose(together.vectors, theirs, rtol=0, atol=1e-5)
    assert together.truncated.tolist() == [False, False, True]
    alone = np.concatenate([encoder.embed([text]).vectors for text in texts])
    np.testing.assert_allclose(alone, together.vectors, rtol=0, atol=1e-6)


@pytest.mark.parametrize("resample", ["bilinear", "bicubic"])
def test_resized_pixels_are_pillows_to_one_level(resample: Any) -> None:
    draw = np.random.default_rng(3)
    step = Pixels(size=40, crop=(40, 40), resample=resample, mean=[0.0] * 3, std=[1 / 255] * 3)
    pillow = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}[resample]
    for height, width in ((90, 120), (301, 200), (25, 33), (1, 100), (300, 3), (1, 1)):
        image = draw.integers(0, 256, (height, width, 3), np.uint8)
        ours = step(torch.from_numpy(image[None]))[0].permute(1, 2, 0).numpy()
        short = min(height, width)
        to = 40 * width // short, 40 * height // short
        theirs = np.asarray(Image.fromarray(image).resize(to, pillow), np.float32)
        top, left = (theirs.shape[0] - 40) // 2, (theirs.shape[1] - 40) // 2
        distance = np.abs(ours - theirs[top : top + 40, left : left + 40])
        assert distance.max() <= 1.001
        assert distance.mean() <= 0.05


def peak(path: Path, *shape: int) -> int:
    """Give the bytes by which an item of a shape raises the peak of a process that ran another."""
    code = (
        "import resource, sys, numpy as np, attar; from attar import trial_inputs\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10\n"
        "encoder = attar.load(sys.argv[1], threads=1)\n"
        "encoder.infer([trial_inputs.first_that_runs(encoder)])\n"
        "before = peak(); item = np.zeros(eval(sys.argv[2]), encoder.manifest.inputs[0].dtype)\n"
        "encoder.embed([item]); print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(shape)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return int(done.stdout)


def test_images_are_bounded_and_so_is_the_memory_of_the_largest(tmp_path: Path) -> None:
    torch.manual_seed(0)
    folder = saved(vit(), tmp_path / "theirs", pixels())
    path = import_folder(folder, tmp_path / "mine.attar").bundle.path
    encoder = attar.load(path, threads=1)
    limits = encoder.manifest.limits
    assert limits is not None
    side = math.isqrt(vision_audio.MOST_PIXELS)
    assert trial_inputs.shape_of(encoder.manifest.inputs[0], limits, trial_inputs.ANY) == (
        side,
        side,
        3,
    )
    for shape, words in (
        ((1, vision_audio.MOST_RATIO + 1, 3), "101 times as long as wide"),
        ((1, 8000, 3), "8000 times as long as wide"),
        ((side + 1, side, 3), "numbers and the encoder takes"),
        ((2, vision_audio.MOST_SIDE + 1, 3), "has 8193 width"),
    ):
        with pytest.raises(ShapeError, match=f"item 1 .*{words}"):
            encoder.embed([np.zeros((9, 9, 3), np.uint8), np.zeros(shape, np.uint8)])
    image = side * side * 3
    for shape in (
        (side, side, 3),
        (1, vision_audio.MOST_RATIO, 3),
        (82, vision_audio.MOST_SIDE, 3),
    ):
        assert peak(path, *shape) < 4 * image


def test_sound_is_bounded_and_so_is_the_memory_of_the_longest(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = wav2vec2()
    folder = saved(model, tmp_path / "theirs", sound())
    made = import_folder(folder, tmp_path / "mine.attar", max_seconds=20)
    encoder = attar.load(made.bundle.path, threads=1)
    limits = made.bundle.manifest.limits
    assert limits is not None
    least, most = limits.axes["samples"].min, limits.axes["samples"].max
    assert (least, most) == (20, 20 * RATE)  # 10 + (3 - 1) * 5
    with pytest.raises(RuntimeError, match="Kernel size"):
        model.feature_extractor(torch.zeros(1, least - 1))
    one, frames = (model.feature_extractor(torch.zeros(1, n)).shape[-1] for n in (least, most))
    assert one == 1
    for samples, words in ((least - 1, "20 or more"), (most + 1, "32000 at most")):
        with pytest.raises(ShapeError, match=f"item 1 has {samples} samples .* {words}"):
            encoder.embed([np.zeros(n, np.float32) for n in (900, samples)])
    attention = LAYERS["num_attention_heads"] * frames**2 * 4
    assert peak(made.bundle.path, most) < 4 * attention
    with pytest.raises(InvalidInput, match=r"takes 0\.0125 s of sound at least; got 0\.01 s"):
        import_folder(folder, tmp_path / "short.attar", max_seconds=0.01)


def test_the_usual_convolutions_need_400_samples(tmp_path: Path) -> None:
    config = transformers.Wav2Vec2Config(**SIZES, conv_dim=[8] * 7).to_dict()
    assert vision_audio.field(config, tmp_path) == (400, 320)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


REFUSALS: list[tuple[str, dict[str, Any], str]] = [
    ("config.json", {"model_type": "swin"}, "model_type 'swin'"),
    ("config.json", {"auto_map": {"AutoModel": "theirs.Model"}}, "auto_map"),
    ("config.json", {"image_size": 64}, "image_size 64"),
    ("config.json", {"num_hidden_layers": 10_000}, "fewer weights than"),
    ("config.json", {"hidden_size": 18}, "does not fit config.json"),
    ("preprocessor_config.json", {"resample": 1}, "resample 1"),
    ("preprocessor_config.json", {"do_rescale": False}, "do_rescale False"),
    ("preprocessor_config.json", {"rescale_factor": 1 / 127.5}, "rescale_factor"),
    ("preprocessor_config.json", {"image_std": [0.5, 0, 0.5]}, "std must be positive"),
    ("preprocessor_config.json", {"crop_size": 99}, "larger than the resized image"),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(vit(), tmp_path_factory.mktemp("vit"), pixels())


@pytest.mark.parametrize(("file", "values", "message"), REFUSALS, ids=lambda value: str(value)[:40])
def test_what_is_not_supported_is_refused_by_name_and_nothing_is_written(
    plain: Path, tmp_path: Path, file: str, values: dict[str, Any], message: str
) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir()
    for path in plain.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    change(folder / file, **values)
    with pytest.raises(InvalidInput, match=message):
        vision_audio.read(folder)
    with pytest.raises(InvalidInput):
        import_folder(folder, tmp_path / "mine.attar")
    assert not (tmp_path / "mine.attar").exists()


def test_a_tower_is_chosen_where_there_are_two_and_nowhere_else(
    plain: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"one encoder, a vit \(--tower\); got text"):
        vision_audio.read(plain, "text")
    both = saved(clip(), tmp_path / "clip", pixels())
    with pytest.raises(InvalidInput, match=r"both towers; choose vision or text \(--tower\)"):
        vision_audio.read(both)


def test_a_tower_without_its_processor_is_refused(plain: Path, tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((plain / name).read_bytes())
    with pytest.raises(InvalidInput, match=r"has no preprocessor_config\.json"):
        vision_audio.read(tmp_path)
