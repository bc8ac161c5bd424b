"""Training: encoders from data without labels.

from attar.training import load_checkpoint, pretrain

pretrain("image/simclr", "run", data="photographs")
encoder = load_checkpoint("run").encoder
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import recipes
    from .distilling import distill
    from .pretrained import load_checkpoint
    from .pretraining import pretrain
    from .probes.suite import evaluate

__all__ = ["distill", "evaluate", "load_checkpoint", "pretrain", "recipes"]

_MODULES = {
    "distill": "distilling",
    "evaluate": "probes.suite",
    "load_checkpoint": "pretrained",
    "pretrain": "pretraining",
}


def __getattr__(name: str) -> object:
    """Import a front door's module when it is used: each brings libraries of its own."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
