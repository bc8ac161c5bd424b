"""Token vectors take the road of embeddings: a graph's second output, held to the torch encoder."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

import attar
from attar.encodings import Encoding, decode
from attar.errors import InvalidInput, NotSupported
from attar.export.bundling import Exported
from attar.export.gates import GATES, failures
from attar.export.graph import to_onnx
from attar.export.measure import Measured, TokenParity
from attar.export.tensor import export_tensor
from attar.export.text import export_text
from attar.manifest import Latency
from attar.training.checkpoints.encoder_folder import TextModel
from attar.training.encoders.conv import SmallConv, SmallConvConfig
from attar.training.encoders.encoder import TensorEncoder
from attar.training.encoders.resnet import ResNet, ResNetConfig
from attar.training.encoders.scattering import ScatteringConfig, ScatteringEncoder
from attar.training.encoders.static import StaticConfig, StaticEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder

from ..support.students import corpus, tokenizer, trained

SMALL = TransformerConfig(width=16, depth=2, heads=2, hidden=32)
ENCODERS: dict[str, TensorEncoder] = {
    "vit": VitEncoder(VitConfig(side=12, patch=3, transformer=SMALL)),
    "vit with a class token": VitEncoder(
        VitConfig(side=12, patch=4, transformer=SMALL, pooling="cls", dim=8)
    ),
    "resnet": ResNet(ResNetConfig(side=13, blocks=(1, 1), width=8, dim=8)),
    "resnet with a deep stem": ResNet(ResNetConfig(side=66, blocks=(1,), width=8)),
    "small": SmallConv(SmallConvConfig(channels=3, side=9, width=8)),
    "scattering": ScatteringEncoder(ScatteringConfig(side=12, width=8, blocks=0, grid=3)),
}


def images(encoder: TensorEncoder, count: int = 6) -> NDArray[np.float32]:
    draw = np.random.default_rng(0)
    return draw.random((count, *encoder.examples[0]), np.float32)


def image_bundle(path: Path, encoder: TensorEncoder, *, tokens: bool = True) -> Exported:
    items = images(encoder, 40)
    return export_tensor(
        path, encoder, name="regions", spec=encoder.input, items=items, tokens=tokens
    )


def text_bundle(path: Path, variants: tuple[str, ...] = ()) -> Exported:
    texts = [pair.body for pair in corpus().train[:40]]
    return export_text(
        path,
        trained(),
        name="words",
        texts=texts,
        probe=None,
        metric=None,
        variants=variants,
        tokens=True,
    )


@pytest.fixture(scope="module")
def vit(tmp_path_factory: pytest.TempPathFactory) -> attar.Encoder:
    path = tmp_path_factory.mktemp("vit") / "vit.attar"
    return attar.load(image_bundle(path, ENCODERS["vit"]).bundle, threads=1)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> attar.Encoder:
    path = tmp_path_factory.mktemp("texts") / "texts.attar"
    exported = text_bundle(path, ("int8", "fp32_fused", "int8_weights"))
    assert not exported.refused, exported.refused
    return attar.load(exported.bundle, variant="fp32", threads=1)


@pytest.mark.parametrize("name", ENCODERS)
def test_tokens_fill_the_encoders_grid_and_change_nothing_of_its_embeddings(name: str) -> None:
    encoder = ENCODERS[name].eval()
    batch = torch.from_numpy(images(encoder))
    with torch.no_grad():
        embeddings, tokens = encoder.with_tokens(batch)

        assert torch.equal(embeddings, encoder(batch))
    assert encoder.grid is not None
    assert tokens.shape[:2] == (len(batch), encoder.grid[0] * encoder.grid[1])


@pytest.mark.parametrize("name", ["vit", "resnet", "resnet with a deep stem", "small"])
def test_the_mean_of_the_tokens_is_the_embedding_where_that_is_a_mean(name: str) -> None:
    encoder = ENCODERS[name].eval()
    batch = torch.from_numpy(images(encoder))
    with torch.no_grad():
        embeddings, tokens = encoder.with_tokens(batch)

    torch.testing.assert_close(F.normalize(tokens.mean(1), dim=-1), embeddings)


def test_a_loaded_bundle_gives_torchs_tokens(vit: attar.Encoder) -> None:
    encoder = ENCODERS["vit"].eval()
    items = images(encoder)
    with torch.no_grad():
        embeddings, tokens = encoder.with_tokens(torch.from_numpy(items))

    given = vit.embed_tokens(items)

    assert given.grid == (4, 4)
    assert given.lengths.tolist() == [16] * len(items)
    expected = F.normalize(tokens, dim=-1).flatten(0, 1).numpy()
    np.testing.assert_allclose(given.vectors, expected, atol=2e-5)
    np.testing.assert_allclose(vit.embed(items).vectors, embeddings.numpy(), atol=2e-5)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 2), (4, 4)])
def test_a_coarser_grid_is_the_mean_of_its_cells_at_unit_length(
    vit: attar.Encoder, grid: tuple[int, int]
) -> None:
    items = images(ENCODERS["vit"])
    with torch.no_grad():
        _, tokens = ENCODERS["vit"].eval().with_tokens(torch.from_numpy(items))
    maps = tokens.transpose(1, 2).reshape(len(items), -1, 4, 4)
    expected = F.normalize(F.adaptive_avg_pool2d(maps, grid).flatten(2).transpose(1, 2), dim=-1)

    given = vit.embed_tokens(items, pooling="grid", grid=grid)

    assert given.grid == grid
    for i in range(len(items)):
        np.testing.assert_allclose(given[i], expected[i].numpy(), atol=2e-5)


def test_a_texts_tokens_do_not_depend_on_its_batch(texts: attar.Encoder) -> None:
    items = [pair.body for pair in corpus().train[:8]]

    together = texts.embed_tokens(items)

    assert together.grid is None
    assert together.lengths.tolist() == texts.embed(items).tokens.tolist()
    for i, item in enumerate(items):
        np.testing.assert_allclose(together[i], texts.embed_tokens([item])[0], atol=2e-5)


def test_a_texts_tokens_are_its_last_hidden_states(texts: attar.Encoder) -> None:
    text = corpus().train[0].body
    (row,) = texts.prepare([text])
    ids, mask = (torch.tensor(array)[None] for array in row.arrays)
    encoder = trained().encoder.eval()
    with torch.no_grad():
        states = encoder.transformer(encoder.tokens(ids), mask.bool())

    expected = F.normalize(encoder.project(encoder.head.dense(states)), dim=-1)
    np.testing.assert_allclose(
        texts.embed_tokens([text])[0], expected[0].detach().numpy(), atol=2e-5
    )


@pytest.mark.parametrize(
    ("encoding", "dtype", "width", "error"),
    [("f16", "float16", 16, 1e-3), ("int8", "int8", 16, 0.02), ("binary", "uint8", 2, None)],
)
def test_tokens_have_every_encoding(
    vit: attar.Encoder, encoding: Encoding, dtype: str, width: int, error: float
) -> None:
    items = images(ENCODERS["vit"])
    exact = vit.embed_tokens(items).vectors

    given = vit.embed_tokens(items, encoding=encoding).vectors

    assert given.dtype == dtype
    assert given.shape == (len(exact), width)
    if error is not None:
        assert vit.manifest.tokens is not None
        decoded = decode(given, encoding, vit.manifest.tokens.ranges)
        np.testing.assert_allclose(decoded, exact, atol=error)


def test_a_bundle_without_tokens_keeps_its_bytes_and_says_how_to_get_them(tmp_path: Path) -> None:
    encoder = ENCODERS["vit"]
    exported = image_bundle(tmp_path / "x.attar", encoder, tokens=False)
    document = json.loads((exported.bundle.path / "manifest.json").read_text("utf-8"))
    graph = exported.bundle.read("variants/fp32.onnx")

    assert "tokens" not in document
    assert document["schema_version"] == "1.3"
    example = (torch.from_numpy(images(encoder, 2)),)
    assert graph == to_onnx(encoder, example, (encoder.input,), output="embedding")
    loaded = attar.load(exported.bundle, threads=1)
    with pytest.raises(NotSupported, match=r"regions has no token vectors; .* \(--tokens\)"):
        loaded.embed_tokens(images(encoder))


def test_an_encoder_without_tokens_is_refused_by_name_before_anything_is_written(
    tmp_path: Path,
) -> None:
    static = StaticEncoder(StaticConfig(vocabulary=300, dim=8))
    flat = SmallConv(SmallConvConfig(side=8, pooling="flat", dim=8))
    path = tmp_path / "x.attar"

    with pytest.raises(NotSupported, match="StaticEncoder has no token vectors"):
        export_text(
            path,
            TextModel(encoder=static, tokenizer=tokenizer()),
            name="x",
            texts=["a", "b"],
            probe=None,
            metric=None,
            tokens=True,
        )
    with pytest.raises(NotSupported, match="SmallConv has no token vectors"):
        image_bundle(path, flat)
    assert not path.exists()


def test_every_variant_has_tokens_that_hold_its_gate(texts: attar.Encoder) -> None:
    text = [corpus().train[0].body]
    exact = texts.embed_tokens(text).vectors

    for variant in texts.manifest.variants:
        vectors = attar.load(texts.bundle, variant=variant.name).embed_tokens(text).vectors
        assert (vectors * exact).sum(1).min() > 0.97
        assert variant.parity["token_cosine_worst"] > 0.97


def test_a_variant_of_other_tokens_fails_its_gate() -> None:
    parity = TokenParity(cosine_mean=0.9999, cosine_worst=0.9)
    latency = Latency(p50_ms=1, threads=1, batch=1, length=1, host="")
    measured = Measured(
        cosine_mean=1,
        cosine_worst=1,
        tolerance=1e-6,
        probe={},
        latency=latency,
        latency_all_threads=latency,
        peak_mb=None,
        tokens=parity,
    )

    (reason,) = failures(measured, GATES.int8, metric=None, reference=measured)
    assert reason == "tokens' worst cosine 0.90000 is below 0.98"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "slots"}, "pooling must be one of none, grid"),
        ({"pooling": "grid"}, r"from \(1, 1\) to \(4, 4\); got None"),
        ({"pooling": "grid", "grid": (5, 1)}, r"from \(1, 1\) to \(4, 4\); got \(5, 1\)"),
        ({"pooling": "grid", "grid": (0, 1)}, r"got \(0, 1\)"),
        ({"pooling": "grid", "grid": (2.0, 2)}, r"got \(2.0, 2\)"),
        ({"grid": (2, 2)}, "pass pooling='grid'"),
        ({"encoding": "f8"}, "encoding must be one of"),
    ],
)
def test_a_wrong_choice_is_refused_with_the_right_ones(
    vit: attar.Encoder, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        vit.embed_tokens(images(ENCODERS["vit"]), **options)  # type: ignore[arg-type]


def test_a_text_has_no_grid(texts: attar.Encoder) -> None:
    with pytest.raises(InvalidInput, match="takes texts, whose tokens lie in no grid"):
        texts.embed_tokens(["ba"], pooling="grid", grid=(1, 1))
