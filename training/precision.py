"""The precision that trains fastest on this machine."""

import torch

from attar.host import cpu_flags

from .loop import Precision

FAST_BF16 = {"amx_bf16", "avx512_bf16", "bf16"}  # units that multiply bfloat16 in hardware


def best_precision() -> Precision:
    """Give bf16-mixed where the device multiplies bfloat16 in hardware, else 32-true.

    Elsewhere bfloat16 is emulated and slower than float32. Weights and objectives stay in float32
    either way.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if FAST_BF16 & cpu_flags() else "32-true"
