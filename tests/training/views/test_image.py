"""Views of natural images, and puzzles, do what their parameters say."""

from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from attar.errors import InvalidInput, ShapeError
from attar.training.views.image import cropped, named_view, natural
from attar.training.views.puzzle import (
    Puzzle,
    colour_orders,
    quarter_turns,
)

still = partial(natural, area=(1.0, 1.0), flip=0.0, jitter=0.0, grey=0.0, blur=0.0)
# Each change alone, in 30 % of the images.
CHANGES = {
    "flipped": still(12, flip=0.3),
    "jittered": still(12, jitter=0.3),
    "grey": still(12, grey=0.3),
    "blurred": still(12, blur=0.3),
    "solarised": still(12, solarise=0.3),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int = 8, side: int = 12) -> Tensor:
    return torch.rand(n, 3, side, side, generator=seeded(7))


def test_a_view_that_changes_nothing_is_the_image() -> None:
    view = still(12)(images(), seeded(0))
    torch.testing.assert_close(view.data, images(), atol=1e-5, rtol=0)
    assert not any(view.params[change].any() for change in CHANGES)
    assert view.params["crop"].tolist() == [[0, 0, 11, 11]] * 8
    assert view.params["colour"].tolist() == [[1, 1, 1, 0]] * 8


def test_a_crop_is_the_box_that_it_says_resized() -> None:
    view = still(16, area=(0.2, 0.9))(images(32, 24), seeded(0))
    boxes = view.params["crop"].long()
    assert (boxes >= 0).all()
    assert (boxes <= 23).all()
    assert len(set(map(tuple, boxes.tolist()))) > 20
    for image, box, seen in zip(images(32, 24), boxes.tolist(), view.data, strict=True):
        left, top, right, bottom = box
        part = image[None, :, top : bottom + 1, left : right + 1]
        expected = F.interpolate(part, (16, 16), mode="bilinear", align_corners=True)[0]
        torch.testing.assert_close(seen, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_comes_with_the_set_probability_and_is_reported(change: str) -> None:
    view = CHANGES[change](images(600), seeded(0))
    changed = (view.data - images(600)).abs().flatten(1).amax(1) > 1e-3
    reported = view.params[change]
    assert 130 < reported.sum() < 230  # 4.4 deviations from 180
    assert not changed[~reported].any()
    # Some images are only a little blurred.
    assert changed[reported].float().mean() > (0.8 if change == "blurred" else 0.99)


def test_changes_are_what_their_names_say() -> None:
    luminance = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    for view, expected in (
        (still(12, flip=1.0), images().flip(3)),
        (still(12, grey=1.0), (images() * luminance).sum(1, keepdim=True).expand(-1, 3, -1, -1)),
        (still(12, solarise=1.0), images().where(images() < 0.5, 1 - images())),
    ):
        torch.testing.assert_close(view(images(), seeded(0)).data, expected, atol=1e-3, rtol=0)


def test_colours_stay_within_the_requested_range() -> None:
    view = natural(12, jitter=0.5, colour=(0.4, 0.3, 0.2, 0.1))(images(300), seeded(0))
    colour, jittered = view.params["colour"], view.params["jittered"]
    apart = (colour - torch.tensor([1.0, 1.0, 1.0, 0.0])).abs()
    assert not apart[~jittered].any()
    assert (apart[jittered] <= torch.tensor([0.4, 0.3, 0.2, 0.1])).all()
    assert (apart[jittered].amax(0) > torch.tensor([0.36, 0.27, 0.18, 0.09])).all()


def test_brightness_is_the_factor_that_it_says() -> None:
    dim = images() / 2
    view = still(12, jitter=1.0, colour=(0.4, 0.0, 0.0, 0.0))(dim, seeded(0))
    expected = dim * view.params["colour"][:, 0, None, None, None]
    torch.testing.assert_close(view.data, expected, atol=1e-5, rtol=0)


def test_natural_views_are_images_of_the_requested_side() -> None:
    data = natural(20, solarise=0.3)(images(32, 48), seeded(0)).data
    assert data.shape == (32, 3, 20, 20)
    assert -1e-5 <= float(data.min()) <= float(data.max()) <= 1 + 1e-5


def test_natural_views_refuse_what_they_cannot_do() -> None:
    with pytest.raises(InvalidInput, match=r"share of blurred images must be in \[0, 1\]; got 1.5"):
        natural(12, blur=1.5)
    with pytest.raises(InvalidInput, match=r"turn of hue must be in \[0, 0.5\]; got 0.6"):
        natural(12, colour=(0.4, 0.4, 0.2, 0.6))
    with pytest.raises(ShapeError, match=r"\(n, 3, h, w\); got \(2, 1, 8, 8\)"):
        natural(8)(torch.zeros(2, 1, 8, 8), seeded(0))


PUZZLES = {
    "turns": quarter_turns,
    "colours": colour_orders,
}


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_crops_keep_the_colours_of_images_with_any_channels(channels: int) -> None:
    flat = torch.linspace(0, 1, 5 * channels).view(5, channels, 1, 1).expand(-1, -1, 12, 12)
    for view in (named_view("crop", 8), cropped(named_view("crop", 8), 8, area=(0.1, 0.3))):
        torch.testing.assert_close(view(flat, seeded(0)).data, flat[:, :, :8, :8])


def test_a_cropped_view_sees_the_share_of_the_area_that_it_says() -> None:
    view = cropped(still(6), 6, area=(0.25, 0.25))(images(), seeded(3))
    assert view.data.shape == (8, 3, 6, 6)
    left, top, right, bottom = view.params["crop"].unbind(1)
    area = (right - left + 1) * (bottom - top + 1)
    torch.testing.assert_close(area, torch.full((8,), 36.0), atol=9.0, rtol=0)


each = pytest.mark.parametrize("puzzle", PUZZLES.values(), ids=PUZZLES)


@each
def test_an_answer_tells_the_change(puzzle: Puzzle) -> None:
    view = puzzle(images(64), seeded(0))
    every = puzzle.all_classes(images(64))
    assert every.params["label"].tolist() == list(range(puzzle.classes)) * 64
    copies = every.data.view(64, puzzle.classes, 3, 12, 12)
    assert torch.equal(copies[torch.arange(64), view.params["label"]], view.data)


@each
def test_answer_zero_changes_nothing_and_all_answers_differ(puzzle: Puzzle) -> None:
    copies = puzzle.all_classes(images(1)).data
    assert torch.equal(copies[0], images(1)[0])
    assert len(copies) == len({tuple(copy.flatten().tolist()) for copy in copies})


@each
def test_a_puzzle_only_moves_what_is_there(puzzle: Puzzle) -> None:
    before, after = images(32).flatten(1), puzzle(images(32), seeded(0)).data.flatten(1)
    assert torch.equal(before.sort(1).values, after.sort(1).values)


@each
def test_every_answer_is_as_likely(puzzle: Puzzle) -> None:
    n = 400 * puzzle.classes
    labels = puzzle(torch.zeros(n, 3, 6, 6), seeded(0)).params["label"]
    counts = labels.bincount(minlength=puzzle.classes)
    assert 300 < counts.min() <= counts.max() < 500  # 5 deviations from 400


def test_turns_and_colours_are_what_numpy_makes() -> None:
    image = images(1)[0].numpy()
    turned = quarter_turns.all_classes(images(1)).data.numpy()
    assert all(
        np.array_equal(turned[turn], np.rot90(image, turn, axes=(1, 2))) for turn in range(4)
    )
    coloured = colour_orders.all_classes(images(1)).data.numpy()
    for seen, order in zip(coloured, permutations(range(3)), strict=True):
        assert np.array_equal(seen, image[list(order)])


def test_puzzles_refuse_what_they_cannot_do() -> None:
    with pytest.raises(ShapeError, match="only square images can be turned"):
        quarter_turns(torch.zeros(2, 3, 4, 5), seeded(0))
    with pytest.raises(ShapeError, match="three colours"):
        colour_orders(torch.zeros(2, 1, 4, 4), seeded(0))
