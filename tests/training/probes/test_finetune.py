"""Fine-tuning learns the listed labels, from what pretraining left, and changes nothing given."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attar.errors import InvalidInput
from attar.training.data.source import Source
from attar.training.datasets.digits import digits
from attar.training.encoders.mlp import mlp
from attar.training.probes.few_shot import few_rows
from attar.training.probes.finetune import fine_tune, first_layers, predictions
from attar.training.views.view import View


def source(seed: int = 0) -> Source:
    """Give two classes that one feature tells apart, with labels -1 and 7."""
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(200, 5, generator=draw)
    labels = np.where(x[:, 2].numpy() > 0, 7, -1).astype(np.int64)
    return Source(train=x[:120], train_labels=labels[:120], test=x[120:], test_labels=labels[120:])


def encoder(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(5, 16), nn.BatchNorm1d(16), nn.ReLU())


ROWS = np.arange(60)


def test_listed_labels_are_learnt_and_others_never_seen() -> None:
    data = source()
    assert data.train_labels is not None
    tuned = fine_tune(encoder(), data, ROWS, steps=60, rate=1e-2, accelerator="cpu")
    assert tuned.classes == (-1, 7)
    assert tuned.accuracy > 0.9
    shown = np.where(np.arange(120) < 60, data.train_labels, 6 - data.train_labels)
    hidden = Source(
        train=data.train, train_labels=shown, test=data.test, test_labels=data.test_labels
    )
    again = fine_tune(encoder(), hidden, ROWS, steps=60, rate=1e-2, accelerator="cpu")
    for one, other in zip(
        tuned.classifier.parameters(), again.classifier.parameters(), strict=True
    ):
        assert torch.equal(one, other)


def test_accuracy_is_that_of_the_classifier_it_gives() -> None:
    data = source()
    assert data.test is not None
    tuned = fine_tune(encoder(), data, ROWS, steps=5, accelerator="cpu")
    assert not tuned.classifier.training
    labels = np.array(tuned.classes)[predictions(tuned.classifier, data.test)]
    assert tuned.accuracy == float((labels == data.test_labels).mean())


def test_what_is_given_stays_as_it_was() -> None:
    body, projector = encoder(), mlp(16, 8, 4)
    before = deepcopy((body.state_dict(), projector.state_dict()))
    random = torch.get_rng_state()
    fine_tune(body, source(), ROWS, projector=projector, steps=3, accelerator="cpu")
    assert torch.equal(torch.get_rng_state(), random)
    for state, module in zip(before, (body, projector), strict=True):
        for name, tensor in module.state_dict().items():
            assert torch.equal(tensor, state[name])


def test_the_projectors_first_layer_stays_between_encoder_and_head() -> None:
    projector = mlp(16, 8, 4)
    kept = first_layers(projector, 1)
    assert [type(part) for part in kept.children()] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]
    x = torch.randn(4, 16)
    assert torch.equal(first_layers(projector, 0)(x), x)
    assert torch.equal(first_layers(None, 1)(x), x)
    projector.eval()
    assert torch.equal(first_layers(projector, 2)(x), projector(x))
    tuned = fine_tune(encoder(), source(), ROWS, projector=projector, steps=2, accelerator="cpu")
    assert tuned.classifier.head.in_features == 8
    plain = fine_tune(encoder(), source(), ROWS, steps=2, accelerator="cpu")
    assert plain.classifier.head.in_features == 16
    with pytest.raises(InvalidInput, match=r"layers must be in \[0, 2\].*got 3"):
        first_layers(projector, 3)


def test_before_the_first_step_no_class_is_preferred() -> None:
    tuned = fine_tune(encoder(), source(), ROWS, steps=1, rate=0.0, accelerator="cpu")
    assert torch.equal(tuned.classifier(torch.randn(3, 5)), torch.zeros(3, 2))


def test_a_view_changes_what_is_learnt_and_the_seed_decides_it() -> None:
    def noisy(items: Tensor, generator: torch.Generator) -> View[Tensor]:
        return View(items + 3 * torch.randn(items.shape, generator=generator), {})

    def weight(**choices: object) -> Tensor:
        tuned = fine_tune(encoder(), source(), ROWS, steps=3, accelerator="cpu", **choices)  # type: ignore[arg-type]  # each is one of its own
        return tuned.classifier.head.weight.detach()

    assert torch.equal(weight(view=noisy), weight(view=noisy))
    assert not torch.equal(weight(view=noisy), weight())
    assert not torch.equal(weight(seed=1), weight())


def test_digits_are_classified_after_five_labels_a_class() -> None:
    data = digits()
    assert data.train_labels is not None
    body = nn.Sequential(nn.Flatten(), encoder_of_digits())
    rows = few_rows(data.train_labels, 5, seed=0)
    tuned = fine_tune(body, data, rows, steps=40, rate=3e-3, accelerator="cpu")
    assert tuned.accuracy > 0.6


def encoder_of_digits() -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64), nn.ReLU())


def test_what_cannot_be_tuned_is_named() -> None:
    data = source()
    with pytest.raises(InvalidInput, match="needs labels of the training and the test part"):
        fine_tune(encoder(), Source(train=data.train), ROWS)
    for bad in ([0, 0, 1], [0, 120], [-1], [], [0.5], [[0]]):
        with pytest.raises(InvalidInput, match=r"rows must be different rows of \[0, 120\)"):
            fine_tune(encoder(), data, bad)
    assert data.train_labels is not None
    classes = np.unique(data.train_labels)
    rows = np.flatnonzero(data.train_labels != classes[-1])[:60]
    with pytest.raises(InvalidInput, match=f"has no item of 1 classes, {classes[-1]} for one"):
        fine_tune(encoder(), data, rows)
