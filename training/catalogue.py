"""The catalogue: every recipe there is and its claim, found by importing the modules."""

from collections.abc import Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

from attar.errors import NotFound

from . import claims, recipes
from .claim import Claim
from .recipe import Recipe


def catalogue() -> dict[str, Recipe[Any, Any]]:
    """Give each recipe by its name, its folder and module: image/byol, text/simclr."""
    return dict(sorted(_recipes()))


def find(name: str) -> Recipe[Any, Any]:
    """Give a recipe by its name; raises NotFound, which lists all recipes."""
    folder, _, module = name.partition("/")
    if folder.isidentifier() and module.isidentifier():
        try:
            recipe = getattr(import_module(f"{recipes.__name__}.{folder}.{module}"), "recipe", None)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith(recipes.__name__):
                raise  # a package that the recipe needs
        else:
            if isinstance(recipe, Recipe):
                return recipe
    raise NotFound(f"there is no recipe {name!r}; there are {', '.join(catalogue())}")


def claim_of(name: str) -> Claim[Any]:
    """Give the claim of a recipe by the recipe's name; raises NotFound as `find` does."""
    find(name)
    folder, _, module = name.partition("/")
    claim: Claim[Any] = import_module(f"{claims.__name__}.{folder}.{module}").claim
    return claim


def _recipes() -> Iterator[tuple[str, Recipe[Any, Any]]]:
    for folder in iter_modules(recipes.__path__):
        package = import_module(f"{recipes.__name__}.{folder.name}")
        for module in iter_modules(package.__path__):
            recipe = getattr(import_module(f"{package.__name__}.{module.name}"), "recipe", None)
            if isinstance(recipe, Recipe):
                yield f"{folder.name}/{module.name}", recipe
