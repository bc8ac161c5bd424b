"""Training: encoders from data without labels.

from attar.training import evaluate, load_checkpoint, pretrain

run = pretrain("image/simclr", "run", data="photographs")
print(evaluate(run, "labelled_photographs"))
encoder = load_checkpoint(run).encoder
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import recipes
    from .adapting import adapt
    from .distilling import distill
    from .evaluating import evaluate, evaluate_suite
    from .pretrained import load_checkpoint
    from .pretraining import pretrain
    from .sweeping import sweep

__all__ = [
    "adapt",
    "distill",
    "evaluate",
    "evaluate_suite",
    "load_checkpoint",
    "pretrain",
    "recipes",
    "sweep",
]

_MODULES = {
    "adapt": "adapting",
    "distill": "distilling",
    "evaluate": "evaluating",
    "evaluate_suite": "evaluating",
    "load_checkpoint": "pretrained",
    "pretrain": "pretraining",
    "sweep": "sweeping",
}


def __getattr__(name: str) -> object:
    """Import the module of a public name when it is first used: each imports large libraries."""
    if name == "recipes":
        return import_module(f".{name}", __name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
