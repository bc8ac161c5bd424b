"""Encoders over tokens can hide tokens and leave tokens out, and know where each one stands."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from attar.errors import InvalidInput
from attar.training.checkpoints.encoder_folder import attention_kinds
from attar.training.encoders.series import SeriesConfig, SeriesEncoder
from attar.training.encoders.spectrogram import SpectrogramConfig, SpectrogramEncoder
from attar.training.encoders.table import TableConfig, TableEncoder
from attar.training.encoders.tokens import Hidden, TokenEncoder, take
from attar.training.encoders.transformer import Attention, TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder, resized_positions
from attar.training.hashing import Hashing, binarize
from benchmarks.support.encoders import ATTENTIONS

BLOCKS = TransformerConfig(width=16, depth=2, heads=2, hidden=24, norm="pre", norm_eps=1e-5)
ADAPTERS = ("vit", "vit-cls", "series", "spectrogram", "table", "table-mean", "table-flatten")
TOKENS = 16


def encoder_of(name: str, attention: Attention = ATTENTIONS["softmax"]) -> TokenEncoder:
    """Give an encoder whose examples have 16 tokens."""
    torch.manual_seed(0)
    table = TableConfig(numeric=13, categories=(2, 3, 4), transformer=BLOCKS)
    vit = VitConfig(side=8, patch=2, channels=2, transformer=BLOCKS)
    made: dict[str, TokenEncoder] = {
        "vit": VitEncoder(vit, attention=attention),
        "vit-cls": VitEncoder(replace(vit, pooling="cls"), attention=attention),
        "series": SeriesEncoder(
            SeriesConfig(window=6, hop=4, transformer=BLOCKS), attention=attention
        ),
        "spectrogram": SpectrogramEncoder(
            SpectrogramConfig(mels=5, transformer=BLOCKS), attention=attention
        ),
        "table": TableEncoder(table, attention=attention),
        "table-mean": TableEncoder(replace(table, pooling="mean"), attention=attention),
        "table-flatten": TableEncoder(
            replace(table, pooling="flatten", first=False), attention=attention
        ),
    }
    return made[name].eval()


def batch(name: str, rows: int = 3) -> Tensor:
    shapes = {"vit": (2, 8, 8), "series": (1, 64), "spectrogram": (5, 16), "table": (16,)}
    draw = torch.Generator().manual_seed(1)
    return torch.randn(rows, *shapes[name.partition("-")[0]], generator=draw)


@pytest.mark.parametrize("name", ADAPTERS)
def test_an_embedding_is_tokens_then_states_then_pooling(name: str) -> None:
    encoder, x = encoder_of(name), batch(name)
    tokens = encoder.tokens(x)
    assert tokens.shape == (3, TOKENS, 16)
    states = encoder.states(tokens)
    assert encoder.own(states).shape == (3, TOKENS, 16)
    assert torch.equal(encoder.embed(states), encoder(x))


@pytest.mark.parametrize("name", ADAPTERS)
def test_a_hidden_token_holds_its_place_and_nothing_else(name: str) -> None:
    encoder, x = encoder_of(name), batch(name)
    places = torch.zeros(3, TOKENS, dtype=torch.bool)
    places[0, 2:5] = places[2, 7] = True
    hidden = Hidden(places, torch.randn(16))
    tokens, plain = encoder.tokens(x, hidden), encoder.tokens(x)
    torch.testing.assert_close(tokens[~places], plain[~places])
    torch.testing.assert_close(tokens[places], encoder.tokens(batch(name).neg(), hidden)[places])
    assert (tokens[0, 2] - tokens[0, 3]).abs().max() > 1e-3
    assert torch.equal(
        tokens[2, 7], encoder.add_positions(hidden.token.expand(1, TOKENS, 16))[0, 7]
    )


@pytest.mark.parametrize("name", ADAPTERS)
def test_the_token_that_stands_in_learns(name: str) -> None:
    encoder, x = encoder_of(name), batch(name)
    token = torch.zeros(16, requires_grad=True)
    places = torch.zeros(3, TOKENS, dtype=torch.bool)
    places[:, 4] = True
    states = encoder.own(encoder.states(encoder.tokens(x, Hidden(places, token))))
    # One coordinate: of what leaves a layer norm, the sum never changes.
    (gradient,) = torch.autograd.grad(states[:, 4, 0].sum(), token)
    assert gradient.abs().sum() > 0


@pytest.mark.parametrize("name", ADAPTERS)
@pytest.mark.parametrize("attention", ["softmax", "binarized"])
def test_some_tokens_alone_are_all_tokens_under_a_mask(name: str, attention: str) -> None:
    encoder, x = encoder_of(name, ATTENTIONS[attention]), batch(name)
    places = torch.stack([torch.randperm(TOKENS)[:6].sort().values for _ in range(3)])
    mask = torch.zeros(3, TOKENS, dtype=torch.bool).scatter_(1, places, value=True)
    tokens = encoder.tokens(x)
    alone = encoder.states(take(tokens, places))
    masked = encoder.states(tokens, mask)
    torch.testing.assert_close(encoder.own(alone), take(encoder.own(masked), places))
    if encoder.pooling == "flatten":  # which has a place for every token
        joined = encoder.embed(masked, mask).view(3, TOKENS, -1)
        assert torch.equal(joined.norm(dim=2) > 0, mask)
    else:
        torch.testing.assert_close(encoder.embed(alone), encoder.embed(masked, mask))


@pytest.mark.parametrize("name", ADAPTERS)
def test_every_adapter_can_be_binarized(name: str) -> None:
    encoder, x = encoder_of(name), batch(name, rows=8)
    draw = torch.Generator().manual_seed(0)
    binarize(encoder, (x,), layers=(0, 1), hashing=Hashing(bits=4, anchors=8), generator=draw)
    assert attention_kinds(encoder) == "binarized"
    assert encoder(x).isfinite().all()


@pytest.mark.parametrize("name", ["vit", "vit-cls", "series", "spectrogram"])
def test_where_a_token_stands_counts(name: str) -> None:
    encoder, x = encoder_of(name), batch(name)
    flipped = x.flip(-1)
    assert (encoder(x) - encoder(flipped)).abs().max() > 1e-3


def test_patches_are_in_reading_order_and_see_their_pixels_alone() -> None:
    encoder = encoder_of("vit")
    image = torch.zeros(1, 2, 8, 8, requires_grad=True)
    (seen,) = torch.autograd.grad(encoder.tokens(image)[0, 6].sum(), image)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:4, 4:6] = True  # the third patch of the second row
    assert (seen[0][:, inside] != 0).all()
    assert (seen[0][:, ~inside] == 0).all()


def test_a_frame_is_a_token_that_sees_its_frame_alone() -> None:
    encoder = encoder_of("spectrogram")
    frames = torch.randn(1, 5, 16, requires_grad=True)
    (seen,) = torch.autograd.grad(encoder.tokens(frames)[0, 3].square().sum(), frames)
    assert (seen[0, :, 3] != 0).any()
    assert (seen[0, :, :3] == 0).all()
    assert (seen[0, :, 4:] == 0).all()


def test_a_number_is_weighed_and_a_code_looked_up() -> None:
    encoder = encoder_of("table")
    assert isinstance(encoder, TableEncoder)
    parts = encoder.features
    assert parts.codes is not None
    row = torch.randn(2, 16)
    row[:, 13:] = torch.tensor([[0.0, 2.0, 3.0], [1.0, 0.0, 1.0]])
    tokens = encoder.tokens(row)
    torch.testing.assert_close(tokens[:, 4], row[:, 4, None] * parts.weight[4] + parts.bias[4])
    # Three tables one after another, of 2 + 1, 3 + 1 and 4 + 1 rows.
    places = [0, 3 + 2, 7 + 3]
    torch.testing.assert_close(tokens[0, 13:], parts.codes.weight[places] + parts.bias[13:])


@pytest.mark.parametrize("code", [-1.0, 3.0, 1e9])
def test_a_code_that_was_never_seen_is_unknown_and_harms_nobody(code: float) -> None:
    encoder = encoder_of("table")
    row = torch.zeros(2, 16)
    row[0, 14] = code
    tokens = encoder.tokens(row)
    assert isinstance(encoder, TableEncoder)
    assert encoder.features.codes is not None
    torch.testing.assert_close(
        tokens[0, 14], encoder.features.codes.weight[3 + 3] + encoder.features.bias[14]
    )
    torch.testing.assert_close(encoder(row)[1:], encoder(row[1:]))


def test_features_of_a_table_have_no_order() -> None:
    """Columns that trade places, with their weights, give the same embedding."""
    encoder = encoder_of("table-mean")
    assert isinstance(encoder, TableEncoder)
    row = batch("table")
    before = encoder(row)
    order = [1, 0, *range(2, 13)]
    with torch.no_grad():
        for weight in (encoder.features.weight, encoder.features.bias):
            weight[:13] = weight[order]
    row[:, :13] = row[:, order]
    torch.testing.assert_close(encoder(row), before)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"pooling": "max"}, "pooling must be one of 'mean', 'cls', 'flatten'; got 'max'"),
        ({"first": False}, "pooling 'cls' is the state of the first token"),
        ({"numeric": 0, "categories": ()}, "features must be at least 1"),
        ({"numeric": -1, "categories": (2, 2)}, "numeric must be at least 0"),
        ({"categories": (2, 0)}, "every category have a value"),
        ({"dim": 0}, "dim must be at least 1"),
    ],
)
def test_a_table_without_sizes_is_refused(wrong: dict[str, object], message: str) -> None:
    shape = TableConfig(numeric=2, categories=(2,), transformer=BLOCKS)
    with pytest.raises(InvalidInput, match=message):
        replace(shape, **wrong)  # type: ignore[arg-type]  # that is what is refused


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"patch": 3}, "side must be a multiple of patch"),
        ({"patch": 0}, "patch must be at least 1"),
        ({"pooling": "last"}, "got 'last'"),
    ],
)
def test_an_image_that_patches_do_not_fill_is_refused(
    wrong: dict[str, object], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        replace(VitConfig(side=8, patch=4, transformer=BLOCKS), **wrong)  # type: ignore[arg-type]


def test_a_spectrogram_without_bins_is_refused() -> None:
    with pytest.raises(InvalidInput, match="mels must be at least 1"):
        SpectrogramConfig(mels=0, transformer=BLOCKS)


def test_a_transformer_of_images_takes_other_sides_by_interpolated_positions() -> None:
    vit = VitEncoder(VitConfig(side=8, patch=2, channels=2, transformer=BLOCKS)).eval()
    assert vit(torch.rand(3, 2, 4, 4)).shape == (3, vit.dim)

    grid = torch.arange(4.0)
    plane = (grid[:, None] + 10 * grid).reshape(16, 1)  # linear in the place, which bicubic keeps
    middle = resized_positions(plane, 2).view(2, 2)
    torch.testing.assert_close(middle[1] - middle[0], torch.full((2,), 2.0), atol=0.3, rtol=0)
    torch.testing.assert_close(middle[:, 1] - middle[:, 0], torch.full((2,), 20.0), atol=3, rtol=0)
    torch.testing.assert_close(resized_positions(plane, 4), plane)
