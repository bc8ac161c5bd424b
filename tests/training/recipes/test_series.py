"""The series recipe: codes of its segments, and what is surprising among them."""

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import attar
from attar.errors import InvalidInput
from attar.export import export
from attar.heads import CodeSurprise
from attar.training import pretrain
from attar.training.checkpoints.encoder_folder import TensorModel, load, save
from attar.training.claims.series.eegformer import nab
from attar.training.data.normal import normal_items
from attar.training.data.source import Source, embed
from attar.training.datasets.eeg import eeg
from attar.training.encoders.series import SeriesEncoder
from attar.training.loop import fit
from attar.training.methods.vector_quantised import VectorQuantised, perplexity
from attar.training.probes.code_surprise import surprises
from attar.training.reading import read
from attar.training.recipes.series import eegformer
from attar.training.targets import Codebook

SETTINGS = eegformer.Settings(steps=3, warmup=1, batch_size=16, size=8)


@pytest.fixture(scope="module")
def data() -> Source:
    return eeg(train=40, test=20)


def test_eeg_is_decided_by_its_seed_and_only_labelled_segments_have_a_burst(data: Source) -> None:
    rows = torch.arange(40)
    assert torch.equal(data.train[rows], eeg(train=40, test=20).train[rows])
    assert not torch.equal(data.train[rows], eeg(train=40, test=20, seed=1).train[rows])
    assert data.train[rows].shape == (40, 1, 512)
    assert data.train_labels is not None
    assert data.train_labels.sum() == 8
    highest = data.train[rows].amax((1, 2)).numpy()
    assert highest[data.train_labels == 1].min() > np.median(highest[data.train_labels == 0])


def test_a_batch_depends_on_the_step_and_nothing_else(data: Source) -> None:
    one, other = (eegformer.build(data, SETTINGS) for _ in range(2))
    other.views(other.batches(0), 0)
    torch.rand(3)
    given, again, later = (
        run.views(run.batches(step), step) for run, step in ((one, 5), (other, 5), (one, 6))
    )
    assert torch.equal(given, again)
    assert not torch.equal(given, later)


def test_a_short_run_logs_its_probes_and_its_encoder_is_saved(data: Source, tmp_path: Path) -> None:
    training = eegformer.build(data, SETTINGS)
    history = fit(training, log_every=1, accelerator="cpu", progress=False)
    assert [made for made, _ in history.series("auroc")] == [0, 3]
    assert set(history.rows[-1]) == {"step", "rankme", "perplexity", "auroc"}
    assert len(history.series("rebuilt")) == 3
    method = cast("VectorQuantised", training.method.eval())
    numbers = method.codes_of(data.train)
    assert numbers.shape == (40, 512 // SETTINGS.hop)
    assert 0 <= numbers.min() <= numbers.max() < 8
    save(TensorModel(encoder=method.encoder), tmp_path)
    again = load(tmp_path)
    assert isinstance(again, TensorModel)
    np.testing.assert_array_equal(
        embed(again.encoder, data.train), embed(method.encoder, data.train)
    )


def test_without_labels_all_segments_are_normal(data: Source) -> None:
    assert len(normal_items(replace(data, train_labels=None))) == 40
    assert len(normal_items(data)) == 32


def test_a_token_is_rebuilt_as_the_samples_that_it_sees() -> None:
    training = eegformer.build(eeg(train=16, test=2), SETTINGS)
    method = cast("VectorQuantised", training.method)
    series = torch.arange(1.0, 513.0).view(1, 1, 512)
    windows = method.windows(series)
    assert windows.shape == (1, 16, 64)
    scaled = (series - series.mean()) / series.std(correction=0)
    torch.testing.assert_close(windows[0, 1], scaled[0, 0, 32:96])
    assert torch.equal(windows[0, 15, 32:], torch.zeros(32))


@pytest.fixture(scope="module")
def exported(data: Source, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pretrain on a file of segments and export: a folder with eeg.npz, run and eeg.attar."""
    folder = tmp_path_factory.mktemp("eeg")
    assert data.train_labels is not None
    segments = data.train[torch.arange(40)].numpy()
    np.savez(folder / "eeg.npz", x_train=segments, y_train=data.train_labels)
    small = (*(f"transformer.{size}=8" for size in ("width", "hidden")), "size=8", "batch_size=16")
    pretrain(
        "series/eegformer", folder / "run", data=str(folder / "eeg.npz"), steps=2, changes=small
    )
    export(folder / "run", folder / "eeg.attar")
    return folder


def test_what_is_exported_takes_a_raw_series_in_any_unit(exported: Path, data: Source) -> None:
    assert data.test is not None
    raw = data.test[torch.arange(6)].numpy()
    encoder = attar.load(exported / "eeg.attar", variant="fp32", threads=1)
    embeddings = encoder.embed(raw).vectors
    assert np.ptp(embeddings, axis=0).max() > 1e-3
    np.testing.assert_allclose(encoder.embed(1000 * raw + 70).vectors, embeddings, atol=1e-3)


def test_what_is_trained_sees_the_series_as_the_graph_does(data: Source) -> None:
    method = cast("VectorQuantised", eegformer.build(data, SETTINGS).method)
    series = data.train[torch.arange(6)]
    assert torch.equal(method.codes(series), method.codes(1000 * series + 70))
    torch.testing.assert_close(
        method.loss(series, 0)[0], method.loss(1000 * series + 70, 0)[0], atol=1e-3, rtol=1e-3
    )


def test_the_codebook_and_the_n_grams_are_in_the_bundle_and_score_as_the_probe_does(
    exported: Path,
) -> None:
    head = attar.load(exported / "eeg.attar", variant="fp32", threads=1).heads["surprise"]
    assert isinstance(head, CodeSurprise)
    model, known = load(exported / "run"), read(str(exported / "eeg.npz"))
    assert isinstance(model, TensorModel)
    encoder = cast("SeriesEncoder", model.encoder)
    settings = replace(SETTINGS, transformer=encoder.shape.transformer)
    method = cast("VectorQuantised", eegformer.build(known, settings).method).eval()
    method.encoder.load_state_dict(encoder.state_dict())
    method.codebook.vectors.data = torch.from_numpy(head.vectors)
    assert known.test is not None
    items = known.test[torch.arange(len(known.test))]
    with torch.no_grad():
        states = encoder.own(encoder.states(encoder.tokens(items))).numpy()
    scores = head.score(states, fingerprint=head.fingerprint)
    np.testing.assert_allclose(scores, surprises(method, known), atol=1e-9)
    assert CodeSurprise.from_bytes(head.to_bytes()).to_bytes() == head.to_bytes()


def test_codes_are_the_nearest_vectors_and_idle_ones_become_states() -> None:
    torch.manual_seed(0)
    codebook = Codebook(3, 2, max_idle=1)
    codebook.vectors.data.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0], [90.0, 90.0]]))
    codebook.idle.zero_()
    states = torch.tensor([[0.4, 0.0], [3.0, 0.0]])
    assert codebook.codes(states).tolist() == [0, 1]
    assert codebook.codes(states.view(1, 2, 2)).tolist() == [[0, 1]]
    codebook.restart(states, codebook.codes(states))
    assert codebook.vectors[2].tolist() == [90, 90]  # one step is within its patience
    codebook.restart(states, codebook.codes(states))
    assert codebook.vectors[2].tolist() in states.tolist()
    assert codebook.vectors[:2].tolist() == [[0, 0], [4, 0]]
    assert codebook.idle.tolist() == [0, 0, 0]


def test_the_gradient_of_what_is_rebuilt_reaches_the_encoder(data: Source) -> None:
    method = eegformer.build(data, SETTINGS).method
    assert isinstance(method, VectorQuantised)
    method.commitment = 0.0
    loss, _ = method.loss(data.train[torch.arange(4)], 0)
    (gradient,) = torch.autograd.grad(loss, method.encoder.windows.weight)
    assert gradient.abs().sum() > 0


def test_perplexity_counts_codes_in_use() -> None:
    assert perplexity(torch.tensor([2, 2, 2]), 4).item() == pytest.approx(1)
    assert perplexity(torch.tensor([[0, 1], [2, 3]]), 4).item() == pytest.approx(4)


def stored(path: Path, name: str, values: NDArray[np.float64], labels: NDArray[np.int64]) -> None:
    arrays: dict[str, Any] = {f"{name}|value": values, f"{name}|label": labels}
    np.savez(path, **arrays)


def test_nab_is_read_as_streams_whose_beginning_is_normal(tmp_path: Path) -> None:
    values = np.arange(4000.0)
    labels = np.zeros(4000, np.int64)
    labels[2000:2100] = 1
    stored(tmp_path / "nab.npz", "a__b", values, labels)
    (name,), (source,) = zip(*nab(tmp_path / "nab.npz").items(), strict=True)
    assert name == "a__b"
    train = source.train[torch.arange(len(source.train))]
    assert (train.amin(), train.amax()) == (0, 32 * 14 + 127)
    assert train.amax() < 600
    assert source.test is not None
    test = source.test[torch.arange(len(source.test))]
    assert source.test_labels is not None
    inside = (test.amax((1, 2)) >= 2000) & (test.amin((1, 2)) < 2100)
    assert inside.tolist() == (source.test_labels == 1).tolist()


def test_a_series_too_short_for_a_segment_is_refused(tmp_path: Path) -> None:
    stored(tmp_path / "nab.npz", "a", np.zeros(400), np.zeros(400, np.int64))
    with pytest.raises(InvalidInput, match="a has 60 samples in its first 15 %; length is 128"):
        nab(tmp_path / "nab.npz")
