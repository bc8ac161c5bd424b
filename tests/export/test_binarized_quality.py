"""Binarized attention is nearly as good as softmax once it is fine-tuned, and useless before."""

import copy

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torch.nn import functional as F

from attar.training.binarizing import Conversion, convert
from attar.training.encoders.series import SeriesConfig, SeriesEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.loop import Training, fit
from attar.training.method import Method, Metrics
from attar.training.objectives.distillation import embedding_match
from attar.training.sampler import Sampler
from attar.training.schedules import warmup_cosine

CLASSES, KNOWN = 10, 1200  # the last 597 digits are by other writers, and test
WITHIN = 0.1  # of softmax's accuracy: binarized attention once it is fine-tuned, a short while


class Follow(Method[tuple[Tensor, Tensor]]):
    def __init__(self, encoder: SeriesEncoder) -> None:
        super().__init__()
        self.encoder = encoder

    def loss(self, batch: tuple[Tensor, Tensor], step: int) -> tuple[Tensor, Metrics]:
        series, goals = batch
        return embedding_match(self.encoder(series), goals), {}


def follow(encoder: SeriesEncoder, pixels: Tensor, goals: Tensor, *, steps: int) -> None:
    """Train an encoder in place to give `goals` of `pixels`."""
    sampler = Sampler(items=len(pixels), batch_size=50, seed=0)
    method = Follow(encoder)
    training = Training(
        method=method,
        batches=lambda step: (pixels[sampler(step)], goals[sampler(step)]),
        optimiser=torch.optim.AdamW(method.parameters()),
        rate=warmup_cosine(5e-3, 10, steps),
        steps=steps,
        seed=0,
    )
    fit(training, progress=False)
    encoder.eval()


@pytest.mark.slow
def test_fine_tuning_brings_binarized_attention_back_to_softmax_on_digits_of_64_tokens() -> None:
    values, numbers = load_digits(return_X_y=True)
    pixels = torch.from_numpy(values / 16).float()[:, None]  # (n, 1, 64)
    labels = torch.from_numpy(numbers)
    transformer = TransformerConfig(
        width=32, depth=2, heads=2, hidden=64, norm="pre", norm_eps=1e-5
    )
    torch.manual_seed(0)
    # A token a pixel, which sees the seven after it: 64 tokens.
    softmax = SeriesEncoder(SeriesConfig(window=8, hop=1, transformer=transformer, dim=CLASSES))
    follow(softmax, pixels[:KNOWN], torch.eye(CLASSES)[labels[:KNOWN]], steps=250)
    with torch.no_grad():
        goals = softmax(pixels)
    settings = Conversion(layers=(0, 1))
    hashed = convert(softmax, (pixels[:32],), settings).encoder
    tuned = copy.deepcopy(hashed)
    follow(tuned, pixels[:KNOWN], goals[:KNOWN], steps=150)  # no label: softmax is the teacher

    @torch.no_grad()
    def accuracy(encoder: SeriesEncoder) -> float:
        return float((encoder(pixels[KNOWN:]).argmax(1) == labels[KNOWN:]).float().mean())

    @torch.no_grad()
    def likeness(encoder: SeriesEncoder) -> float:
        return float(F.cosine_similarity(encoder(pixels[KNOWN:]), goals[KNOWN:]).mean())

    right, before, after = accuracy(softmax), accuracy(hashed), accuracy(tuned)
    assert right > 0.7
    assert right - before > 0.4  # soft by design: without fine-tuning it is no use
    assert right - after < WITHIN
    # It is fine-tuning that does it: with random hash functions it comes as far in so small a net.
    assert likeness(hashed) < 0.5
    assert likeness(tuned) > 0.8
