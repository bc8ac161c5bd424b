"""The embedding space of what is kept: the model that it needs or may be searched by, or a refusal.

A space is searched by its own queries, and by those of an encoder whose served bundle declares it
in `compatible_with`. It is written to, and heads are used, by its own encoder only.
"""

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Never, TypeAlias

from attar.errors import AttarError, NotFound, SpaceMismatch
from attar.runtime import Encoder
from attar.values import Classifier, Detector, Indexed

from ..engine.models import Model, Models

if TYPE_CHECKING:
    from ..collections.store import Description
    from .anomaly import Anomaly
    from .classification import Classification
    from .collections import Collections

log = logging.getLogger("attar.server")

Kind: TypeAlias = Literal["collection", "detector", "classifier"]

LOOK_S: Final = 1.0
_NAMED: Final = 10  # of those in one line
_ANEW: Final = {
    "collection": "make a new collection and embed again",
    "detector": "fit the head again",
    "classifier": "fit the head again",
}
_UNDECLARED: Final = (
    "whose served bundles do not declare that space in compatible_with; embed the queries by the "
    "collection's model, or serve a bundle that was exported with --compatible-with"
)


@dataclass(frozen=True, slots=True)
class SpaceMember:
    """A collection or a head, by its name, and the model and the space that it was made for."""

    kind: Kind
    name: str
    model: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def model_for(models: Models, member: SpaceMember) -> Model:
    """Give the newest version of its model that embeds into its space.

    Raises NotFound where no model has that name, SpaceMismatch where none embeds into the space.
    """
    versions = [model for model in models if model.name == member.model]
    for model in reversed(versions):
        if model.encoder.fingerprint == member.fingerprint:
            return model
    if not versions:
        known = ", ".join(dict.fromkeys(model.name for model in models)) or "none"
        raise NotFound(
            f"{member} needs model {member.model!r}, in the space {member.fingerprint}, and this "
            f"server has {known}; serve that bundle again, or {_ANEW[member.kind]}"
        )
    newest = versions[-1]
    raise SpaceMismatch(
        f"{member} is in the space {member.fingerprint}, and model {newest.name} now embeds into "
        f"{newest.encoder.fingerprint}; serve the former bundle, or {_ANEW[member.kind]}"
    )


def query_model_for(models: Models, member: SpaceMember, name: str) -> Model:
    """Give the newest version of the model `name` whose queries may search a member's space.

    A version that embeds into the space itself comes first. Raises NotFound where no model has that
    name, SpaceMismatch where no version may search the space.
    """
    newest = models[name]
    versions = [model for model in models if model.name == newest.name]
    allowed = [model for model in reversed(versions) if _may_search(model.encoder, member)]
    if not allowed:
        raise SpaceMismatch(
            f"{member} is in the space {member.fingerprint}, and model {newest.name} embeds into "
            f"{newest.encoder.fingerprint}, {_UNDECLARED}"
        )
    return max(allowed, key=lambda model: model.encoder.fingerprint == member.fingerprint)


def query_encoder_for(models: Models, member: SpaceMember, fingerprint: str) -> Encoder:
    """Give a served encoder of the space `fingerprint` whose queries may search a member's space.

    Raises SpaceMismatch where no served bundle of that space declares the member's.
    """
    for model in models:
        if model.encoder.fingerprint == fingerprint and _may_search(model.encoder, member):
            return model.encoder
    raise SpaceMismatch(
        f"{member} is in the space {member.fingerprint}, and the vectors are of {fingerprint}, "
        f"{_UNDECLARED}"
    )


def _may_search(encoder: Encoder, member: SpaceMember) -> bool:
    declared = {entry.fingerprint for entry in encoder.manifest.compatible_with}
    return member.fingerprint in {encoder.fingerprint, *declared}


class Orphans:
    """What is kept and has no model of its space on this server."""

    def __init__(
        self,
        models: Models,
        *,
        collections: "Collections",
        anomaly: "Anomaly",
        classification: "Classification",
    ) -> None:
        """Look at nothing yet."""
        self._models = models
        self._collections = collections
        self._anomaly = anomaly
        self._classification = classification
        self._logged: dict[SpaceMember, AttarError] = {}

    async def find(self) -> dict[SpaceMember, AttarError]:
        """Give each with the error that its use ends in; without collections that do not answer."""
        members: list[SpaceMember] = []
        try:
            members += [
                _of("collection", collection)
                for collection in await self._collections.descriptions()
            ]
        except AttarError as error:
            log.warning("collections cannot be held to the models: %s", error)
        members += [_of("detector", detector) for detector in await self._anomaly.list()]
        members += [
            _of("classifier", classifier) for classifier in await self._classification.list()
        ]
        orphans: dict[SpaceMember, AttarError] = {}
        for member in members:
            try:
                model_for(self._models, member)
            except AttarError as error:
                orphans[member] = error
        return orphans

    async def listed(self) -> list[Indexed]:
        """One line of the index for each model and space that is missed."""
        missed: dict[tuple[str, str], list[SpaceMember]] = {}
        for orphan in await self.find():
            missed.setdefault((orphan.model, orphan.fingerprint), []).append(orphan)
        lines = []
        for (model, fingerprint), several in missed.items():
            more = f" and {len(several) - _NAMED} more" if len(several) > _NAMED else ""
            names = ", ".join(map(str, several[:_NAMED]))
            reason = f"not served in the space {fingerprint}, needed by {names}{more}"
            lines.append(Indexed(name=model, version="", state="UNAVAILABLE", reason=reason))
        return lines

    async def look(self) -> None:
        """Log what has lost its model since the last look, and what has one again."""
        orphans = await self.find()
        for member, error in orphans.items():
            if member not in self._logged:
                log.warning("without its model: %s", error)
        for member in self._logged:
            if member not in orphans:
                log.info("%s has its model again, or was deleted", member)
        self._logged = orphans

    async def keep(self) -> Never:
        """Look whenever other spaces are served than before."""
        before: set[tuple[str, str]] | None = None
        while True:
            spaces = {(model.name, model.encoder.fingerprint) for model in self._models}
            if spaces != before:
                before = spaces
                try:
                    await self.look()
                except Exception:
                    log.exception("what is kept cannot be held to the models")
            await asyncio.sleep(LOOK_S)


def _of(kind: Kind, info: "Description | Detector | Classifier") -> SpaceMember:
    return SpaceMember(kind, info.name, info.model, info.fingerprint)
