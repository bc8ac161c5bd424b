"""Bundles of a watched repository."""

import shutil
from dataclasses import replace
from pathlib import Path

from attar.bundle import Bundle

from .bundles import text_files, text_manifest


def write(
    path: Path, *, version: str = "1", seed: int = 0, name: str = "tiny", half: bool = False
) -> Path:
    """Write a bundle of that version, or copy half of one, its last file cut."""
    manifest = text_manifest(name=name, variants=("fp32", "int8"))
    files = text_files(manifest, seed=seed)
    built = Bundle.write(
        path.with_name(f".{path.name}"), replace(manifest, version=version), files, replace=True
    ).path
    if path.exists():
        shutil.rmtree(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    built.rename(path)
    if half:
        graph = path / "variants" / "fp32.onnx"
        graph.write_bytes(graph.read_bytes()[:100])
    return path
