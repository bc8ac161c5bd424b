"""Every recipe has the paper's settings and small ones, and its departures are their difference."""

import ast
import re
from dataclasses import dataclass, fields, is_dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from attar.training import recipes
from attar.training.catalogue import catalogue, claim_of
from attar.training.claim import Claim
from attar.training.loop import Training, fit
from attar.training.optimisers import Lars
from attar.training.recipe import changed
from attar.training.recipes.image import byol

from ...support.images import load

IMPORTS = ast.Import, ast.ImportFrom
MOST_LINES = 70
FOLDER = Path(recipes.__file__).parent
MODULES = sorted(
    p.relative_to(FOLDER).as_posix() for p in FOLDER.glob("*/*.py") if p.stat().st_size
)


@pytest.mark.parametrize("name", MODULES)
def test_a_recipe_is_read_on_one_screen(name: str) -> None:
    """Its file has 70 lines or fewer; a module that recipes share has 70 after its imports."""
    text = (FOLDER / name).read_text("utf-8")
    imports = [node for node in ast.parse(text).body if isinstance(node, IMPORTS)]
    first = 0 if "\nclass Settings(" in text else imports[-1].end_lineno or 0
    assert len(text.splitlines()) - first <= MOST_LINES


@pytest.mark.parametrize("name", catalogue())
def test_a_recipe_has_the_papers_settings_and_small_ones(name: str) -> None:
    module = import_module(f"{recipes.__name__}.{name.replace('/', '.')}")
    recipe = catalogue()[name]
    assert (recipe.settings, recipe.published) == (module.SMALL, module.PAPER)
    assert type(module.SMALL) is type(module.PAPER) is module.Settings
    assert module.Settings() == module.SMALL


@pytest.mark.parametrize("name", catalogue())
def test_departures_are_computed_but_for_those_that_are_no_settings(name: str) -> None:
    recipe = catalogue()[name]
    here, there = flat(recipe.settings), flat(recipe.published)
    computed = recipe.departures[len(recipe.differences) :]
    assert [sentence.split(" is ")[0] for sentence in computed] == [
        setting for setting in here if here[setting] != there[setting]
    ]
    # A number that differs is a setting, and not a sentence that somebody keeps true by hand.
    numbers = [text for text in recipe.differences if re.search(r"(?<![\w-])\d", text)]
    assert numbers == []


@pytest.mark.parametrize("name", catalogue())
def test_a_recipe_has_a_claim(name: str) -> None:
    assert isinstance(claim_of(name), Claim)


def test_a_departure_names_both_values() -> None:
    @dataclass(frozen=True)
    class Inner:
        depth: int = 2

    @dataclass(frozen=True)
    class Outer:
        rate: float = 2e-3
        widths: tuple[int, ...] = (1, 2)
        inner: Inner = Inner()

    assert list(changed(Outer(), Outer(rate=4.8, widths=(3,), inner=Inner(12)))) == [
        "rate is 0.002, in the paper 4.8",
        "widths is (1, 2), in the paper (3)",
        "inner.depth is 2, in the paper 12",
    ]
    assert list(changed(Outer(), Outer())) == []


def test_a_run_with_the_papers_optimiser_is_taken_up_with_the_same_bits(tmp_path: Path) -> None:
    data = load().source
    settings = replace(byol.SMALL, steps=4, warmup=1, rate=byol.PAPER.rate, optimizer="lars")
    whole, first, second = (replace(byol.build(data, settings), probe=None) for _ in range(3))
    assert isinstance(whole.optimiser, Lars)
    start = weights(whole)
    fit(whole, accelerator="cpu", progress=False)
    fit(replace(first, steps=2), out=tmp_path, accelerator="cpu", progress=False)
    fit(second, out=tmp_path, accelerator="cpu", progress=False)
    assert not torch.allclose(weights(whole), start)
    assert torch.equal(weights(whole), weights(second))


def weights(training: Training[Any]) -> torch.Tensor:
    """Give all of an encoder's weights in a row."""
    return torch.cat([w.detach().flatten() for w in training.method.encoder.parameters()])


def flat(settings: Any, group: str = "") -> dict[str, Any]:
    """Give all settings by name, those of groups with a dot."""
    values: dict[str, Any] = {}
    for field in fields(settings):
        value = getattr(settings, field.name)
        name = f"{group}{field.name}"
        values |= flat(value, f"{name}.") if is_dataclass(value) else {name: value}
    return values
