"""Modules imported afresh with their annotated shapes enforced, and put back afterwards."""

import importlib
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType

from jaxtyping import install_import_hook


@contextmanager
def checked(names: Sequence[str]) -> Iterator[dict[str, ModuleType]]:
    """Give copies of the modules `names`, by name, whose functions refuse what breaks annotations.

    Each is put back in both places where an import looks, sys.modules and its package, for a class
    of a copy is not the class that other tests know.
    """
    kept = {name: importlib.import_module(name) for name in names}
    for name in names:
        del sys.modules[name]
    try:
        with install_import_hook(names, "beartype.beartype"):
            yield {name: importlib.import_module(name) for name in names}
    finally:
        for name, module in kept.items():
            package, _, attribute = name.rpartition(".")
            sys.modules[name] = module
            setattr(sys.modules[package], attribute, module)
