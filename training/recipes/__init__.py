"""Recipes: one module for each paper's method, in a folder for each modality.

from attar.training import recipes

print(*recipes.catalogue())
byol = recipes.find("image/byol")
print(byol.paper, byol.settings, byol.published, recipes.claim_of("image/byol").statement)

A module has the values `SMALL`, the settings that run here, and `PAPER`, the paper's own; its
`recipe` has them as `settings` and `published`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..catalogue import catalogue, claim_of, find

__all__ = ["catalogue", "claim_of", "find"]


def __getattr__(name: str) -> object:
    """Import the catalogue when it is first used: it stands on the recipes."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module("..catalogue", __name__), name)
