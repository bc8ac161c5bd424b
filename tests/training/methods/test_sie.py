"""SIE splits an embedding in what views keep and what follows the transformation between them."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.training.encoders.conv import SmallConv, SmallConvConfig
from attar.training.methods.sie import Part, Sie, SieBatch, transformation
from attar.training.objectives.sie import sie
from attar.training.predictors import HyperPredictor
from attar.training.views.image import distortion, natural
from attar.training.views.view import View

IMAGES, SIDE = 6, 8


def images(channels: int = 1) -> Tensor:
    draw = torch.Generator().manual_seed(3)
    return torch.rand(IMAGES, channels, SIDE, SIDE, generator=draw)


def batch() -> SieBatch:
    move = distortion()
    return SieBatch.two(move, move)(images(), torch.Generator().manual_seed(1))


def method(part: Part = "all", *, dim: int | None = None, **options: Any) -> Sie:
    torch.manual_seed(1)
    encoder = SmallConv(SmallConvConfig(side=SIDE, width=3, dim=dim, normalized=False)).eval()
    return Sie(encoder, lambda dims: nn.Linear(dims, 4), HyperPredictor(4, 6), part=part, **options)


def test_the_loss_compares_one_part_and_predicts_the_other() -> None:
    own, drawn = method(equivariant=2), batch()
    embeddings = [own.encoder(view) for view in (drawn.first, drawn.second)]
    kept = [own.invariant(embedding[:, :4]) for embedding in embeddings]
    moved = [own.equivariant(embedding[:, 4:]) for embedding in embeddings]
    predicted = own.predictor(moved[0], drawn.transformation)
    first, second = (torch.cat(parts, 1) for parts in zip(kept, moved, strict=True))
    torch.testing.assert_close(own.loss(drawn, 0)[0], sie(first, second, predicted))


def test_a_hyper_predictor_is_linear_in_the_item_and_in_the_transformation() -> None:
    torch.manual_seed(0)
    predictor, x, z = HyperPredictor(4, 3), torch.randn(5, 4), torch.randn(5, 3)
    matrices = predictor.matrices.weight.view(4, 4, 3)
    expected = torch.stack([(matrices @ how) @ item for item, how in zip(x, z, strict=True)])
    torch.testing.assert_close(predictor(x, z), expected)
    torch.testing.assert_close(predictor(2 * x, -z), -2 * expected)


def test_the_transformation_turns_the_first_view_into_the_second() -> None:
    move, data = distortion(erase=0, noise=0), images()
    one, other = (move(data, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    numbers = transformation(one, other).view(-1, 2, 3)
    pixels = torch.tensor([[1.0, 2.0, 1.0], [5.0, 3.0, 1.0]]).double().T
    there = one.params["affine"].double() @ pixels
    numbers[:, :, 2] *= SIDE
    wanted = (other.params["affine"].double() @ pixels)[:, :2]
    torch.testing.assert_close(numbers @ there, wanted, rtol=1e-5, atol=1e-5)
    still = transformation(one, one)
    identity = torch.tensor([1.0, 0, 0, 0, 1, 0]).double().expand(IMAGES, -1)
    torch.testing.assert_close(still, identity, rtol=0, atol=1e-6)


@pytest.mark.parametrize(("channels", "count"), [(1, 5), (3, 9)])
def test_between_crops_it_is_the_box_of_one_in_the_other(channels: int, count: int) -> None:
    data = images(channels)
    crop = natural(SIDE, flip=0, jitter=0, grey=0, blur=0)
    one = crop(data, torch.Generator().manual_seed(0))
    box = torch.tensor([[0.0, 0, 4, 4]]).expand(IMAGES, -1)
    one = View(one.data, {**one.params, "crop": box})
    other = replace(one, params={**one.params, "crop": box + 2, "flipped": ~one.params["flipped"]})
    numbers = transformation(one, other)
    assert numbers.shape == (IMAGES, count)
    assert numbers[0, :5].tolist() == [0.5, 0.5, 1.5, 1.5, 1]
    assert not numbers[:, 5:].any()


@pytest.mark.parametrize(
    ("part", "columns"), [("invariant", slice(3)), ("equivariant", slice(3, 6))]
)
def test_a_part_is_exported_by_an_encoder_that_can_be_made_again(
    part: Part, columns: slice
) -> None:
    own = method(part)
    exported = own.exported
    assert isinstance(exported, SmallConv)
    torch.testing.assert_close(exported(images()), own.encoder(images())[:, columns])
    again = SmallConv(exported.shape).eval()
    again.load_state_dict(exported.state_dict())
    torch.testing.assert_close(again(images()), exported(images()))
    with torch.no_grad():  # it follows the encoder that learns
        next(own.encoder.parameters()).add_(1.0)
    torch.testing.assert_close(own.exported(images()), own.encoder(images())[:, columns])
    torch.testing.assert_close(exported(images()), own.encoder(images())[:, columns])


def test_parts_that_there_are_not_are_refused() -> None:
    for equivariant in (0, 6):
        with pytest.raises(InvalidInput, match=rf"must be in \[1, 5\], .*; got {equivariant}"):
            method(equivariant=equivariant)
    with pytest.raises(InvalidInput, match="leave dim out"):
        method("invariant", dim=4)
