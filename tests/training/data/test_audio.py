"""Recordings become clips of one rate and one length, whatever they were recorded at."""

from pathlib import Path

import numpy as np
import pytest
import torch

from attar.errors import InvalidInput
from attar.training.data.audio import WavFiles, audio_folder, lengths
from attar.training.datasets.spoken_digits import spoken_digits

from ...support.recordings import CLIPS, FULL, META, pack, save, tone


@pytest.mark.parametrize("size", FULL)
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_of_every_width_are_read(tmp_path: Path, size: int, channels: int) -> None:
    save(tmp_path / "a.wav", tone(8000, 64), size=size, channels=channels)
    clip = audio_folder(tmp_path, length=64).items[torch.tensor([0])][0, 0]
    assert torch.allclose(clip.double(), torch.tensor(tone(8000, 64)), atol=1 / FULL[size])


def test_a_folder_for_each_class_gives_clips_and_classes(tmp_path: Path) -> None:
    for name in ("two/a.wav", "one/a.wav", "one/b.WAV"):
        save(tmp_path / name, tone(8000, 8))
    part = audio_folder(tmp_path)
    clips, classes = part.items, part.labels
    assert classes is not None
    assert classes.tolist() == ["one", "one", "two"]
    assert clips[torch.arange(3)].shape == (3, 1, 8000)  # a second
    assert clips[torch.arange(3)][..., 8:].abs().max() == 0


def test_a_short_recording_is_followed_by_zeros_and_a_long_one_gives_its_middle(
    tmp_path: Path,
) -> None:
    ramp = np.arange(100) / 128
    save(tmp_path / "a.wav", ramp[:3])
    save(tmp_path / "b.wav", ramp)
    clips = audio_folder(tmp_path, length=5).items
    rows = torch.arange(2)
    assert torch.equal(clips[rows][0, 0] * 128, torch.tensor([0.0, 1, 2, 0, 0]))
    assert torch.equal(clips[rows][1, 0] * 128, torch.tensor([47.0, 48, 49, 50, 51]))
    assert lengths(clips[rows]).tolist() == [3, 5]
    assert lengths(torch.zeros(1, 1, 5)).tolist() == [0]


@pytest.mark.parametrize("rate", [4000, 11025, 16000])
def test_a_tone_keeps_its_pitch_at_another_rate(tmp_path: Path, rate: int) -> None:
    save(tmp_path / "a.wav", tone(rate, rate), rate=rate)
    clip = audio_folder(tmp_path, rate=8000, length=8000).items[torch.tensor([0])][0, 0]
    inner = slice(1000, 7000)  # the filter rings at the ends
    assert torch.allclose(clip[inner], torch.tensor(tone(8000, 8000)[inner]).float(), atol=0.02)


def test_the_first_recordings_rate_is_everyones(tmp_path: Path) -> None:
    save(tmp_path / "a.wav", tone(4000, 400), rate=4000)
    save(tmp_path / "b.wav", tone(16000, 1600), rate=16000)
    clips = audio_folder(tmp_path).items
    assert isinstance(clips, WavFiles)
    assert (clips.rate, clips.length) == (4000, 4000)
    assert clips[torch.arange(2)][..., 400:].abs().max() == 0
    first, second = clips[torch.arange(2)][:, 0, 50:350]
    assert torch.allclose(first, second, atol=0.02)


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"has no recordings \(.wav, .wave\)"):
        audio_folder(tmp_path)
    save(tmp_path / "a.wav", tone(8000, 8))
    with pytest.raises(InvalidInput, match=r"at least 1, and .*; got 8000 Hz, 0 samples"):
        audio_folder(tmp_path, length=0)
    (tmp_path / "b.wav").write_bytes(b"RIFF and nothing more")
    with pytest.raises(InvalidInput, match=r"b.wav cannot be read as a wav file of PCM samples"):
        audio_folder(tmp_path).items[torch.arange(2)]
    save(tmp_path / "b.wav", tone(8000, 0))
    with pytest.raises(InvalidInput, match=r"b.wav holds no samples"):
        audio_folder(tmp_path).items[torch.arange(2)]


# Spoken digits


def test_packed_digits_unpack_to_their_samples(tmp_path: Path) -> None:
    pack(tmp_path, CLIPS, **META)
    made = spoken_digits(tmp_path, length=3)
    assert made.test is not None
    train = made.train[torch.arange(3)] * 2**15
    assert train[:, 0].tolist() == [[0, 32767, -32768], [7, 8, 0], [300, -300, 300]]
    assert (made.test[torch.tensor([0])] * 2**15).tolist() == [[[-1, 0, 0]]]
    assert made.train_labels is not None
    assert made.train_labels.tolist() == [3, 3, 1]


def test_speakers_are_kept_apart(tmp_path: Path) -> None:
    pack(tmp_path, CLIPS, **META)
    made = spoken_digits(tmp_path, length=3, test_speakers=["ann"])
    assert made.train_labels is not None
    assert made.test_labels is not None
    assert (made.train_labels.tolist(), made.test_labels.tolist()) == ([1, 1], [3, 3])
    alone = spoken_digits(tmp_path, length=3, speakers=["cat"])
    assert (len(alone.train), alone.test) == (1, None)
    for train, test in ((["ann"], ["ann"]), (["dan"], None), ([], None), (None, ["dan"])):
        with pytest.raises(InvalidInput, match="some of ann, ben, cat, each in one part"):
            spoken_digits(tmp_path, speakers=train, test_speakers=test)


def test_a_damaged_set_of_digits_is_refused(tmp_path: Path) -> None:
    pack(tmp_path, CLIPS, **META)
    pack(tmp_path, CLIPS, digit=[1])
    with pytest.raises(InvalidInput, match="has no array 'speaker'"):
        spoken_digits(tmp_path)
    pack(tmp_path, CLIPS[:2], **META)
    with pytest.raises(InvalidInput, match="must have 5 samples of 4 recordings"):
        spoken_digits(tmp_path)
    (tmp_path / "audio.xz").write_bytes(b"no xz")
    with pytest.raises(InvalidInput, match=r"audio.xz cannot be decompressed"):
        spoken_digits(tmp_path)
