"""An encoder of images or sound from a transformers folder becomes a bundle."""

from pathlib import Path

from attar.training.huggingface.vision_audio import Tower

from .bundling import Exported
from .random_inputs import noise
from .tensor import export_tensor


def write_tower(path: Path, tower: Tower, *, name: str, overwrite: bool = False) -> Exported:
    """Write `tower` to the bundle `path`, as the variant fp32; parity is checked on noise.

    Raises InvalidInput when the graph differs from the torch encoder, and AlreadyExists when `path`
    is taken and `overwrite` is false.
    """
    return export_tensor(
        path,
        tower.encoder,
        name=name,
        spec=tower.spec,
        limits=tower.limits,
        items=noise(tower.spec, tower.shapes),
        modality=tower.modality,
        lineage=tower.lineage,
        overwrite=overwrite,
    )
