"""The audio recipes: batches are decided by their step, and runs log their probes."""

import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import attar
from attar.errors import InvalidInput
from attar.export import export
from attar.training import evaluate, pretrain
from attar.training.checkpoints.encoder_folder import TensorModel, load, save
from attar.training.data.audio import waveforms
from attar.training.data.source import Source, embed
from attar.training.datasets.tones import CLASSES, FALL, RATE, RISE, tones
from attar.training.encoders.log_mel import LogMel, LogMelConfig, mel_filters
from attar.training.encoders.spectrogram import SpectrogramEncoder
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
    frames = LogMel(LogMelConfig())(data.train[torch.arange(90)][:, 0])
    pitch = frames.argmax(1).float()  # (90, frames), the loudest band
    moved = pitch[:, 18:24].mean(1) - pitch[:, 4:10].mean(1)
    assert data.train_labels is not None
    assert moved[data.train_labels == RISE].mean() > 1
    assert moved[data.train_labels == FALL].mean() < -1


def test_every_band_of_a_spectrogram_has_mean_0_and_variance_1(data: Source) -> None:
    run = tera.build(data, tera.Settings())
    frames = run.views(run.batches(0)[:2], 0).clean
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
    items = waveforms(data, hertz=RATE).train
    again = load(tmp_path)
    assert isinstance(again, TensorModel)
    np.testing.assert_array_equal(embed(again.encoder, items), embed(encoder, items))


SMALL = [f"transformer.{size}" for size in ("width=8", "heads=2", "hidden=8", "depth=1")]


def write_wav(path: Path, clip: Tensor, *, rate: int = RATE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((clip * 2**15).to(torch.int16).numpy().tobytes())


@pytest.mark.parametrize("name", ["audio/tera", "audio/continued"])
def test_a_bundle_takes_waveforms_as_they_were_recorded(
    data: Source, tmp_path: Path, name: str
) -> None:
    recordings, run, bundle = (tmp_path / part for part in ("wav", "run", "sound.attar"))
    groups = ("related", "target") if name == "audio/continued" else ("a", "b")
    clips = data.train[torch.arange(8)][:, 0]
    for number, clip in enumerate(clips):
        write_wav(recordings / groups[number % 2] / f"{number}.wav", clip)
    further = ["further_steps=1"] if name == "audio/continued" else []
    pretrain(name, run, data=str(recordings), changes=[*SMALL, *further], steps=1)
    export(run, bundle, data=None if name == "audio/continued" else str(recordings))
    encoder = attar.load(bundle, variant="fp32", threads=1)
    (spec,) = encoder.manifest.inputs
    assert (spec.name, spec.shape) == ("waveform", ("batch", "samples"))
    assert spec.extra == {"sampling_rate": RATE}
    found = encoder.embed([*clips[:2].numpy(), clips[2, :3000].numpy()]).vectors
    # The reference: torch's own transform, and the encoder of spectrograms of before.
    model = load(run)
    assert isinstance(model, TensorModel)
    trained = model.encoder
    assert isinstance(trained, SpectrogramEncoder)
    bare = SpectrogramEncoder(replace(trained.shape, frames=None)).eval()
    bare.load_state_dict(trained.state_dict())
    filters = mel_filters(RATE, 512, 40)
    for vector, clip in zip(found, [clips[0], clips[1], clips[2, :3000]], strict=True):
        window = torch.hann_window(512)
        spectrum = torch.stft(clip, 512, 256, window=window, center=False, return_complex=True)
        frames = (filters @ spectrum.abs().square()).clamp(min=1e-6).log()
        scaled = (frames - frames.mean(1, keepdim=True)) / frames.std(1, keepdim=True, correction=0)
        with torch.no_grad():
            expected = bare(scaled[None])[0].numpy()
        np.testing.assert_allclose(vector, expected, atol=1e-3)
    if name == "audio/tera":
        assert evaluate(run, recordings).keys() >= {"rankme"}


def test_recordings_of_another_rate_are_refused_with_both_ways_out(tmp_path: Path) -> None:
    for number in range(2):
        write_wav(tmp_path / "wav" / f"{number}.wav", torch.zeros(16000), rate=16000)
    run = tmp_path / "run"
    with pytest.raises(InvalidInput, match=r"at 16,000 Hz.*rate=8000, or train with frames.hertz"):
        pretrain("audio/tera", run, data=str(tmp_path / "wav"), steps=1)
    reading = ("rate=8000", "length=500")
    with pytest.raises(InvalidInput, match=r"needs 768 samples or more, .*got 500"):
        pretrain("audio/tera", run, data=str(tmp_path / "wav"), reading=reading, steps=1)
