"""attar's native operators for ONNX Runtime: one shared library, and where it lies.

Nothing of it runs in Python: `attar.load` gives the library to ONNX Runtime when a variant's graph
calls its operators.
"""

from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

__all__ = ["LIBRARY", "__version__"]

__version__ = version("attar-native")

_spec = find_spec("attar_native.operators")
if _spec is None or _spec.origin is None:
    raise ImportError("attar-native was installed without its library; install it again")

LIBRARY = Path(_spec.origin)
"""What `onnxruntime.SessionOptions.register_custom_ops_library` takes."""
