"""A joint space on disk: each encoder is a model that can be saved and exported alone."""

from collections.abc import Mapping
from hashlib import sha256

from ..encoders.joint_space import JointSpace
from .encoder_folder import TensorModel


def models(
    space: JointSpace, lineage: Mapping[str, object] | None = None
) -> dict[str, TensorModel]:
    """Give the model of each modality, by its name.

    To `lineage` is added "space": the `id` that all encoders of this space have in common, which is
    a hash of all their weights, the `modalities` of the space, and the `modality` of this model.
    """
    digest = sha256()
    for name, tensor in space.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().numpy().tobytes())
    facts = {"id": f"sha256:{digest.hexdigest()}", "modalities": list(space.names)}
    return {
        name: TensorModel(
            encoder=space.encoder(name),
            lineage={**(lineage or {}), "space": {**facts, "modality": name}},
        )
        for name in space.names
    }
