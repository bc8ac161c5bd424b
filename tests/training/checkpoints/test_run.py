"""A checkpoint that was written under old names of modules goes on under the new ones."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from attar.training.checkpoints.run import RENAMED, Record, load_checkpoint, save_checkpoint
from attar.training.encoders.table import TableConfig, TableEncoder
from attar.training.encoders.transformer import TransformerConfig
from attar.training.method import Method
from attar.training.methods.latent_features import LatentFeatures
from attar.training.methods.momentum import MomentumContrast
from attar.training.methods.pretext_task import PretextTask
from attar.training.predictors import TransformerPredictor
from attar.training.schedules import constant
from attar.training.targets import Queue


def momentum() -> MomentumContrast:
    return MomentumContrast(
        nn.Linear(3, 4), nn.Linear(4, 2), queue=Queue(8, 2), momentum=constant(0.9), temperature=0.2
    )


def pretext() -> PretextTask:
    return PretextTask(
        nn.Linear(3, 4), nn.Linear(4, 2), dim=4, classes=2, temperature=0.5, weight=1.0
    )


def latent() -> LatentFeatures:
    blocks = TransformerConfig(width=8, depth=1, heads=2, hidden=8)
    encoder = TableEncoder(TableConfig(numeric=3, transformer=blocks))
    predictor = TransformerPredictor(8, 3, blocks)
    return LatentFeatures(encoder, predictor, momentum=constant(0.9))


@pytest.mark.parametrize(
    "build", [momentum, pretext, latent], ids=["momentum", "pretext_task", "latent_features"]
)
def test_a_checkpoint_with_the_old_names_of_modules_loads(build: object, tmp_path: Path) -> None:
    assert callable(build)
    method, path = build(), tmp_path / "checkpoint.safetensors"
    assert isinstance(method, Method)
    optimiser = torch.optim.SGD(method.parameters(), lr=0.1)
    save_checkpoint(path, method=method, optimiser=optimiser, record=Record(seed=0, step=2))
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        metadata = file.metadata()
    for old, new in RENAMED.items():
        tensors = {
            name.replace(f"method.{new}", f"method.{old}"): tensor
            for name, tensor in tensors.items()
        }
    save_file(tensors, path, metadata)
    assert any(name.startswith(("method.slow.", "method.answer.")) for name in tensors)

    torch.manual_seed(1)
    other = build()
    record = load_checkpoint(
        path,
        method=other,
        optimiser=torch.optim.SGD(other.parameters(), lr=0.1),
        seed=0,
        lineage={},
        steps=4,
    )
    assert record.step == 2
    for name, tensor in method.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], tensor)
