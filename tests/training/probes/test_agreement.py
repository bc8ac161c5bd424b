"""Two encoders agree as far as they compare the same texts alike."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from attar.errors import ShapeError
from attar.training.probes.agreement import agreement

BEFORE, NOISE = np.random.default_rng(0).normal(size=(2, 12, 5))


def test_an_encoder_agrees_with_itself_and_with_its_rotation_in_spearman_alone() -> None:
    rotation = np.linalg.qr(NOISE[:5])[0]
    itself, turned = agreement(BEFORE, 3 * BEFORE), agreement(BEFORE, BEFORE @ rotation)
    assert itself.cosine == pytest.approx(1)
    assert itself.spearman == pytest.approx(1)
    assert turned.spearman == pytest.approx(1)
    assert turned.cosine < 0.9


def test_agreement_is_scipys_spearman_over_pairs_of_different_texts() -> None:
    after = BEFORE + NOISE
    pairs = [(i, j) for i in range(12) for j in range(i)]
    similarities = [
        [np.dot(z[i], z[j]) / np.linalg.norm(z[i]) / np.linalg.norm(z[j]) for i, j in pairs]
        for z in (BEFORE, after)
    ]
    expected = spearmanr(*similarities).statistic
    assert agreement(BEFORE, after).spearman == pytest.approx(expected, abs=1e-4)


def test_a_collapsed_encoder_does_not_agree() -> None:
    collapsed = np.ones_like(BEFORE)
    assert agreement(BEFORE, collapsed).spearman == 0
    assert agreement(collapsed, collapsed).spearman == 1


def test_two_texts_have_one_pair_and_no_order() -> None:
    for after in (BEFORE[:2], BEFORE[:, :3]):
        with pytest.raises(ShapeError, match=r"must share one \(n, d\) shape, n at least 3"):
            agreement(BEFORE[: len(after)], after)
