"""The audio recipes: batches are decided by their step, and runs log their probes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from attar.training.checkpoints.encoder_folder import TensorModel, load, save
from attar.training.data.source import Source, embed
from attar.training.data.spectrograms import Frames, spectrograms
from attar.training.datasets.tones import CLASSES, FALL, RISE, tones
from attar.training.loop import fit
from attar.training.recipes.audio import tera


@pytest.fixture(scope="module")
def data() -> Source:
    return tones(train=90, test=45)


def test_tones_are_decided_by_their_seed_and_hold_every_figure_in_both_parts(data: Source) -> None:
    again, other = tones(train=90, test=45), tones(train=90, test=45, seed=1)
    rows = torch.arange(90)
    assert torch.equal(data.train[rows], again.train[rows])
    assert not torch.equal(data.train[rows], other.train[rows])
    assert data.train[rows].shape == (90, 1, 8000)
    assert data.train[rows].abs().max() <= 1
    assert data.train_labels is not None
    assert data.test_labels is not None
    assert set(data.train_labels) == set(data.test_labels) == set(range(CLASSES))


def test_a_rising_glide_ends_higher_than_it_began_and_a_falling_one_lower(data: Source) -> None:
    seen = spectrograms(data, Frames(), plain=True)
    pitch = seen.train[torch.arange(90)].argmax(1).float()  # (90, frames), the loudest band
    moved = pitch[:, 18:24].mean(1) - pitch[:, 4:10].mean(1)
    assert data.train_labels is not None
    assert moved[data.train_labels == RISE].mean() > 1
    assert moved[data.train_labels == FALL].mean() < -1


def test_every_band_of_a_spectrogram_has_mean_0_and_variance_1(data: Source) -> None:
    frames = spectrograms(data, Frames()).train[torch.tensor([3, 5])]
    assert frames.shape == (2, 40, 30)
    torch.testing.assert_close(frames.mean(2), torch.zeros(2, 40), atol=1e-4, rtol=0)
    torch.testing.assert_close(frames.square().mean(2), torch.ones(2, 40), atol=1e-3, rtol=0)


def test_a_batch_depends_on_the_step_and_nothing_else(data: Source) -> None:
    one, other = (tera.build(data, tera.Settings()) for _ in range(2))
    other.views(other.batches(0), 0)
    torch.rand(3)
    given, again, later = (
        run.views(run.batches(step), step) for run, step in ((one, 5), (other, 5), (one, 6))
    )
    assert all(torch.equal(a, b) for a, b in zip(given, again, strict=True))
    assert not torch.equal(given.altered, later.altered)
    changed = given.altered != given.clean
    noisy = changed.all(2).all(1)  # magnitude changes whole spectrograms
    assert not (changed & ~given.hidden)[~noisy].any()


def test_a_short_run_logs_its_probes_and_its_encoder_is_saved(data: Source, tmp_path: Path) -> None:
    settings = replace(tera.Settings(), steps=3, warmup=1)
    training = tera.build(data, settings)
    history = fit(training, accelerator="cpu", progress=False)
    assert [made for made, _ in history.series("linear")] == [0, 3]
    assert set(history.rows[-1]) == {"step", "rankme", "knn", "linear", "scarce"}
    encoder = training.method.encoder.eval()
    save(TensorModel(encoder=encoder), tmp_path)  # type: ignore[arg-type]
    items = spectrograms(data, settings.frames).train
    again = load(tmp_path)
    assert isinstance(again, TensorModel)
    np.testing.assert_array_equal(embed(again.encoder, items), embed(encoder, items))
