"""The plan of a distillation: how a student is trained, and what is done after the last step."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .. import run_folder
from ..loop import Training
from ..resizing import resized


@dataclass(frozen=True, slots=True)
class DistillationPlan:
    """How a student is trained: recipe, sources and settings, and what composes the run.

    `full_settings` are those of a run of the usual length. `prompts` are what the student puts
    before texts, by role, and `dims` the smaller widths that it is trained for, rising. `facts` are
    those that the lineage has of this student alone. `finish` is called after the last step, before
    the student is saved, and may refuse it.
    """

    recipe: str
    sources: str
    full_settings: Any
    compose: Callable[[], Training[Any]]
    prompts: Mapping[str, str]
    dims: tuple[int, ...] = ()
    facts: Mapping[str, object] = field(default_factory=dict)
    probe_every: int = 0  # steps
    finish: Callable[[], None] = lambda: None


def sized(recipe: Any, items: int, *, steps: int | None, seed: int) -> tuple[Any, Any]:
    """Give the settings of a run of the usual length, and of this one's."""
    full_settings, settings = (
        resized(recipe, steps=number, seed=seed, items=items) for number in (None, steps)
    )
    run_folder.say_small(settings, items=items, usual=recipe.batch_size)
    return full_settings, settings
