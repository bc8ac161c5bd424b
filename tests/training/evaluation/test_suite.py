"""The suite tells slices, corruptions and copies apart, and each figure is what it says."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from attar.errors import InvalidInput
from attar.training.evaluation.copies import COPIES, copied
from attar.training.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupted
from attar.training.evaluation.suite import judge


def images(count: int, *, channels: int = 3, side: int = 16) -> NDArray[np.float32]:
    """Draw smooth images, all different."""
    draw = np.random.default_rng(1)
    coarse = draw.random((count, channels, 4, 4), np.float32)
    return np.kron(coarse, np.ones((1, 1, side // 4, side // 4), np.float32))


def flat(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Embed images as their pixels."""
    return batch.reshape(len(batch), -1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_is_stronger_at_each_severity_and_always_the_same(
    name: str, channels: int
) -> None:
    before = images(6, channels=channels)
    after = [corrupted(before, name, severity) for severity in SEVERITIES]
    assert all(now.shape == before.shape and now.dtype == np.float32 for now in after)
    assert all(now.min() >= 0 and now.max() <= 1 for now in after)
    damage = [float(np.abs(now - before).mean()) for now in after]
    assert damage[0] > 0 or name == "pixelate"  # which keeps blocks that are as large as its own
    assert damage[4] > damage[0]
    np.testing.assert_array_equal(corrupted(before, name, 3), after[2])


def test_corruptions_have_the_papers_moments() -> None:
    grey = np.full((40, 3, 64, 64), 0.5, np.float32)
    noise = corrupted(grey, "gaussian_noise", 1) - grey
    assert noise.std() == pytest.approx(0.08, rel=0.02)
    shot = corrupted(grey, "shot_noise", 1)
    assert shot.std() == pytest.approx((0.5 / 60) ** 0.5, rel=0.02)  # Poisson: variance = mean
    hit = corrupted(grey, "impulse_noise", 3) != 0.5
    assert hit.mean() == pytest.approx(0.09, rel=0.05)
    vivid = images(3, side=64)
    spreads = [part.std((2, 3)) for part in (corrupted(vivid, "contrast", 5), vivid)]
    np.testing.assert_allclose(spreads[0], spreads[1] * 0.05, rtol=1e-3)
    small = corrupted(np.full((40, 3, 32, 32), 0.5, np.float32), "gaussian_noise", 1) - 0.5
    assert small.std() == pytest.approx(0.04, rel=0.02)
    assert corrupted(grey, "brightness", 2).mean() == pytest.approx(0.7)


def test_an_unknown_corruption_or_severity_is_named() -> None:
    with pytest.raises(InvalidInput, match=r"a corruption is one of gaussian_.*'fog' at 1"):
        corrupted(images(1), "fog", 1)
    with pytest.raises(InvalidInput, match="'contrast' at 6"):
        corrupted(images(1), "contrast", 6)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_is_another_image_of_the_same_shape(kind: str, channels: int) -> None:
    before = images(3, channels=channels)
    after = copied(before, kind)
    assert after.shape == before.shape
    assert after.dtype == np.float32
    assert 0 <= after.min() <= after.max() <= 1
    assert not np.array_equal(after, before) or (kind, channels) == ("grey", 1)


def test_mirroring_is_exact_and_undone_by_itself() -> None:
    before = (images(2) * 255).round() / np.float32(255)
    np.testing.assert_array_equal(copied(before, "mirror"), before[..., ::-1])


def test_slices_corruptions_and_gaps_are_those_of_the_hits() -> None:
    test = np.zeros((12, 1, 8, 8), np.float32)
    test[:6, :, :4], test[6:, :, 4:] = 1, 1  # two classes, told apart by their halves
    labels = np.repeat([0, 1], 6).astype(np.int64)
    train, train_labels = flat(test), labels
    wrong = labels.copy()
    wrong[6:9] = 0  # half of the second class is classified as what it is not said to be
    facts = judge(
        flat,
        test,
        train=train,
        train_labels=train_labels,
        test_labels=wrong,
        class_names={0: "shirt", 1: "shoe"},
        groups=["old", "new"] * 6,
    )
    accuracy: dict[str, Any] = {row["name"]: row["mean"] for row in facts["slices"]["class"]}
    assert accuracy == {"shirt": 6 / 9, "shoe": 1.0}
    assert facts["accuracy"]["mean"] == 9 / 12
    gap = facts["gaps"]["class"]
    assert (gap["worst"], gap["best"]) == ("shirt", "shoe")
    assert gap["mean"] == pytest.approx(1 / 3)
    assert 0 <= gap["low"] < gap["mean"] < gap["high"]
    assert {row["name"] for row in facts["slices"]["group"]} == {"old", "new"}
    for rows in facts["corruptions"].values():
        for row in rows:
            loss = facts["accuracy"]["mean"] - row["accuracy"]["mean"]
            assert row["loss"]["mean"] == pytest.approx(loss)


def test_copies_of_different_images_are_found_and_a_blind_encoder_finds_none() -> None:
    test = images(8)
    seeing = judge(flat, test)
    blind = judge(lambda batch: np.ones((len(batch), 2), np.float32), test)
    assert seeing.keys() == {"images", "corruptions", "copies"}  # of images without labels
    assert seeing["copies"]["jpeg"]["recall_at_1"]["mean"] == 1
    assert blind["copies"]["jpeg"]["recall_at_1"]["mean"] == 0
    assert "accuracy" not in seeing["corruptions"]["contrast"][0]
    assert blind["corruptions"]["contrast"][0]["cosine"]["mean"] == pytest.approx(1)


def test_too_few_images_and_groups_of_another_number_are_named() -> None:
    with pytest.raises(InvalidInput, match="needs 3 test images or more; got 2"):
        judge(flat, images(2))
    with pytest.raises(InvalidInput, match="there are 1 groups for 4 test images"):
        judge(flat, images(4), groups=["one"])
