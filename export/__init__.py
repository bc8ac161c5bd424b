"""Export: an encoder becomes one bundle of measured and gated variants.

from attar.export import export

export("run", "photographs.attar")
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .exporting import export
    from .gates import Gate, Gates
    from .importing import import_folder
    from .rungs import ladder
    from .tensor import export_tensor
    from .text import export_text

__all__ = ["Gate", "Gates", "export", "export_tensor", "export_text", "import_folder", "ladder"]

_MODULES = {
    "Gate": "gates",
    "Gates": "gates",
    "export": "exporting",
    "export_tensor": "tensor",
    "export_text": "text",
    "import_folder": "importing",
    "ladder": "rungs",
}


def __getattr__(name: str) -> object:
    """Import a module when its name is used: each imports other libraries."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)
