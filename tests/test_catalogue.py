"""The catalogue finds every recipe, and its page says what they declare."""

import json
import re
from pathlib import Path
from typing import get_args

import pytest

from attar.errors import NotFound
from attar.training.catalogue import catalogue, find
from attar.training.recipe import Family, Modality

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "recipes.json"


@pytest.mark.parametrize("name", catalogue())
def test_a_recipe_declares_its_paper_family_modality_claim_and_departures(name: str) -> None:
    recipe = find(name)
    assert recipe is catalogue()[name]
    assert re.search(r"arXiv:\d{4}\.\d{4,5}", recipe.paper)
    assert recipe.family in get_args(Family)
    assert recipe.modality in get_args(Modality)
    assert not recipe.claim.statement[0].isupper()  # it goes on after a name
    assert recipe.departures


def test_every_module_of_recipes_with_a_recipe_is_found() -> None:
    folder = ROOT / "training" / "recipes"
    declared = {
        f"{path.parent.name}/{path.stem}"
        for path in folder.glob("*/*.py")
        if re.search(r"^recipe = Recipe\(", path.read_text("utf-8"), re.MULTILINE)
    }
    assert declared == set(catalogue())


@pytest.mark.parametrize(
    "name", ["image/nothing", "byol", "nowhere/byol", "image/run", "", "a/b/c"]
)
def test_a_name_that_is_no_recipes_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(NotFound, match=r"there is no recipe .*image/byol.*text/simclr"):
        find(name)


def test_the_page_is_of_the_recipes_there_are() -> None:
    rows = json.loads(RESULTS.read_text("utf-8"))["rows"]
    shown = [
        (r["recipe"], r["paper"], r["family"], r["modality"], r["claim"], r["departures"])
        for r in rows
    ]
    there = [
        (name, r.paper, r.family, r.modality, r.claim.statement, list(r.departures))
        for name, r in catalogue().items()
    ]
    assert shown == there, "python benchmarks/recipes.py --only RECIPE --out its results"


def test_the_guide_has_every_method() -> None:
    guide = (ROOT / "docs" / "training.md").read_text("utf-8")
    modules = {path.stem for path in (ROOT / "training" / "methods").glob("[!_]*.py")}
    assert {name for name in modules if f"`{name}." not in guide} == set()
