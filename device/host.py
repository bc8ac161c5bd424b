"""What machine a number was measured on, without saying whose it is."""

import os
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import tokenizers

_TELLING = ("avx", "fma", "f16c", "amx", "sse4", "asimd", "sve", "i8mm", "bf16", "dotprod")
"""Beginnings of the flags that decide how fast a graph runs; the rest is left out of a report."""

_DOT_PRODUCTS = {
    "vnni": {"avx512_vnni", "avx_vnni"},
    "i8mm": {"i8mm"},
    "dotprod": {"asimddp"},
}
"""What a machine's dot product of bytes is called, and the flags that Linux has for it."""


def describe() -> dict[str, object]:
    """Name the CPU, its telling flags, cores, system and versions; no host name, user or path."""
    return {
        "cpu": _cpu_model(),
        "cpu_flags": sorted(flag for flag in cpu_flags() if flag.startswith(_TELLING)),
        "instruction_set": instruction_set(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnxruntime": onnxruntime.__version__,
        "tokenizers": tokenizers.__version__,
    }


def instruction_set() -> str:
    """Name what decides how fast integers are multiplied here, and how they round: `x86_64-vnni`.

    That is the machine and its dot product of bytes: vnni on x86; i8mm, or else dotprod, on ARM.
    Where the system tells no flags, the machine alone.
    """
    machine = platform.machine()
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(machine, machine)
    flags = cpu_flags()
    for name, known in _DOT_PRODUCTS.items():
        if flags & known:
            return f"{machine}-{name}"
    return machine


@cache
def cpu_flags() -> frozenset[str]:
    """Give the CPU's feature flags as Linux names them; empty where Linux does not tell."""
    for key, value in _cpuinfo():
        if key in ("flags", "Features"):  # x86, ARM
            return frozenset(value.split())
    return frozenset()


def _cpu_model() -> str:
    for key, value in _cpuinfo():
        if key == "model name":
            return value
    return platform.processor() or platform.machine()


def _cpuinfo() -> Iterator[tuple[str, str]]:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return
    for line in text.splitlines():
        key, _, value = line.partition(":")
        yield key.strip(), value.strip()
