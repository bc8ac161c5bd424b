"""MAE rebuilds masked patches, of which the encoder sees nothing."""

import pytest
import torch
from torch import Tensor

from attar.training.encoders.transformer import TransformerConfig
from attar.training.encoders.vit import VitConfig, VitEncoder
from attar.training.methods.masked_autoencoder import EPSILON, MaskedAutoencoder, MaskedPatches

SIDE, PATCH, CHANNELS, IMAGES = 8, 2, 3, 5
PATCHES = (SIDE // PATCH) ** 2
BLOCKS = TransformerConfig(width=8, depth=1, heads=2, hidden=12, norm="pre", norm_eps=1e-5)
SHAPE = VitConfig(channels=CHANNELS, side=SIDE, patch=PATCH, transformer=BLOCKS)


def images() -> Tensor:
    return torch.rand(IMAGES, CHANNELS, SIDE, SIDE, generator=torch.Generator().manual_seed(3))


def batch(pixels: Tensor, mask: float = 0.75) -> MaskedPatches:
    draw = torch.Generator().manual_seed(0)
    return MaskedPatches.of(pixels, draw, patches=PATCHES, mask=mask)


def method(*, normalised: bool = True) -> MaskedAutoencoder:
    torch.manual_seed(1)
    return MaskedAutoencoder(VitEncoder(SHAPE), BLOCKS, normalised=normalised)


def patch_of(image: Tensor, number: int) -> Tensor:
    """Cut one patch out by its place in reading order."""
    down, across = divmod(number, SIDE // PATCH)
    rows = slice(down * PATCH, (down + 1) * PATCH)
    return image[:, rows, across * PATCH : (across + 1) * PATCH]


def test_three_quarters_of_the_patches_are_masked_and_each_patch_is_in_one_set() -> None:
    drawn = batch(images())
    assert drawn.masked.shape == (IMAGES, 12)
    together = torch.cat([drawn.visible, drawn.masked], 1).sort(dim=1).values
    assert torch.equal(together, torch.arange(PATCHES).expand(IMAGES, -1))


@pytest.mark.parametrize("normalised", [True, False])
def test_the_loss_is_the_mean_squared_error_of_masked_pixels(normalised: bool) -> None:
    mae, drawn = method(normalised=normalised), batch(images())
    errors = []
    for image, visible, masked in zip(*drawn, strict=True):
        tokens = mae.encoder.tokens(image[None])[:, visible]
        states = mae.encoder.states(tokens)
        rebuilt = mae.decoder(states, visible[None], masked[None])[0]
        for guess, number in zip(rebuilt, masked.tolist(), strict=True):
            goal = patch_of(image, number).flatten()
            if normalised:
                goal = (goal - goal.mean()) / (goal.var() + EPSILON) ** 0.5
            errors.append((guess - goal) ** 2)
    expected = torch.stack(errors).mean()
    loss, _ = mae.loss(drawn, 0)
    torch.testing.assert_close(loss, expected)
    weight = mae.encoder.patches.weight
    (given,), (wanted,) = (torch.autograd.grad(value, weight) for value in (loss, expected))
    torch.testing.assert_close(given, wanted)


def test_what_is_rebuilt_does_not_depend_on_the_masked_pixels() -> None:
    mae, pixels = method(), images()
    drawn = batch(pixels)
    changed = pixels.clone()
    for image, masked in zip(changed, drawn.masked.tolist(), strict=True):
        for number in masked:
            patch_of(image, number).fill_(0.5)
    first, second = (
        mae.decoder(
            mae.encoder.states(
                mae.encoder.tokens(x).gather(1, drawn.visible[..., None].expand(-1, -1, 8))
            ),
            drawn.visible,
            drawn.masked,
        )
        for x in (pixels, changed)
    )
    assert torch.equal(first, second)


def test_brightness_and_contrast_of_a_masked_patch_do_not_change_a_normalised_goal() -> None:
    mae, pixels = method(), images()
    drawn = batch(pixels)
    torch.testing.assert_close(
        mae.goals(0.3 + 0.5 * pixels, drawn.masked),
        mae.goals(pixels, drawn.masked),
        atol=1e-3,
        rtol=1e-3,
    )
