"""The embedding space of what is kept: the model that it needs, or the refusal."""

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Never, TypeAlias

from attar.errors import AttarError, NotFound, SpaceMismatch

from ..engine.models import Listed, Model, Models

if TYPE_CHECKING:
    from attar.values import Classifier, Detector

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


@dataclass(frozen=True, slots=True)
class SpaceMember:
    """A collection or a head, by its name, and the model and the space that it was made for."""

    kind: Kind
    name: str
    model: str
    fingerprint: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


def model_for(models: Models, kept: SpaceMember) -> Model:
    """Give the newest version of its model that embeds into its space.

    Raises NotFound where no model has that name, SpaceMismatch where none embeds into the space.
    """
    versions = [model for model in models if model.name == kept.model]
    for model in reversed(versions):
        if model.encoder.fingerprint == kept.fingerprint:
            return model
    if not versions:
        known = ", ".join(dict.fromkeys(model.name for model in models)) or "none"
        raise NotFound(
            f"{kept} needs model {kept.model!r}, in the space {kept.fingerprint}, and this server "
            f"has {known}; serve that bundle again, or {_ANEW[kept.kind]}"
        )
    newest = versions[-1]
    raise SpaceMismatch(
        f"{kept} is in the space {kept.fingerprint}, and model {newest.name} now embeds into "
        f"{newest.encoder.fingerprint}; serve the former bundle, or {_ANEW[kept.kind]}"
    )


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
        kept: list[SpaceMember] = []
        try:
            kept += [_of("collection", one) for one in await self._collections.descriptions()]
        except AttarError as error:
            log.warning("collections cannot be held to the models: %s", error)
        kept += [_of("detector", one) for one in await self._anomaly.list()]
        kept += [_of("classifier", one) for one in await self._classification.list()]
        orphans: dict[SpaceMember, AttarError] = {}
        for one in kept:
            try:
                model_for(self._models, one)
            except AttarError as error:
                orphans[one] = error
        return orphans

    async def listed(self) -> list[Listed]:
        """One line of the index for each model and space that is missed."""
        missed: dict[tuple[str, str], list[SpaceMember]] = {}
        for one in await self.find():
            missed.setdefault((one.model, one.fingerprint), []).append(one)
        lines = []
        for (model, fingerprint), several in missed.items():
            more = f" and {len(several) - _NAMED} more" if len(several) > _NAMED else ""
            names = ", ".join(map(str, several[:_NAMED]))
            reason = f"not served in the space {fingerprint}, needed by {names}{more}"
            lines.append(Listed(name=model, version="", state="UNAVAILABLE", reason=reason))
        return lines

    async def look(self) -> None:
        """Log what has lost its model since the last look, and what has one again."""
        orphans = await self.find()
        for kept, error in orphans.items():
            if kept not in self._logged:
                log.warning("without its model: %s", error)
        for kept in self._logged:
            if kept not in orphans:
                log.info("%s has its model again, or was deleted", kept)
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


def _of(kind: Kind, one: "Description | Detector | Classifier") -> SpaceMember:
    return SpaceMember(kind, one.name, one.model, one.fingerprint)
