"""The catalogue finds every recipe, and its page says what they declare."""

import json
import re
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from attar.errors import NotFound
from attar.training import distributed
from attar.training.catalogue import catalogue, claim_of, find
from attar.training.datasets.digits import digits
from attar.training.datasets.tones import tones
from attar.training.groups import Groups
from attar.training.recipe import Family, Modality
from attar.training.resizing import resized
from benchmarks.support.short_runs import short_data

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks" / "results" / "recipes.json"


@pytest.mark.parametrize("name", catalogue())
def test_a_recipe_declares_its_paper_family_modality_claim_and_departures(name: str) -> None:
    recipe = find(name)
    assert recipe is catalogue()[name]
    # A method that was published as an article on the web alone has its address.
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|[a-z]+\.[a-z]+/\S+", recipe.paper)
    assert recipe.family in get_args(Family)
    assert recipe.modality in get_args(Modality)
    assert not claim_of(name).statement[0].isupper()  # it goes on after a name
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
        (name, r.paper, r.family, r.modality, claim_of(name).statement, list(r.departures))
        for name, r in catalogue().items()
    ]
    assert shown == there, "python -m benchmarks.recipes --only RECIPE --out its results"


def data_of(name: str) -> Any:
    """Give data for some steps of a recipe; of recordings, which take long to make, a few."""
    recipe, few = find(name), partial(tones, train=90, test=9)
    match recipe.modality:
        case "image":
            return digits() if recipe.read is None else claim_of(name).data()
        case "audio" if name == "audio/tera":
            return few()
        case "audio":
            return Groups(related=few(), target=few("reed"))
        case _:
            return short_data(recipe, claim_of(name))


@pytest.mark.parametrize("name", catalogue())
def test_two_processes_have_half_of_every_batch_each(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    recipe = find(name)
    data = data_of(name)
    settings = recipe.settings
    if recipe.modality == "text":  # of whose pairs there are few here
        settings = resized(settings, steps=None, seed=0, items=len(data.pairs.first) // 2 * 2)
    training = recipe.build(data, settings)
    whole = counts(training.batches(0))
    monkeypatch.setattr(distributed, "world_size", lambda: 2)
    for rank in (0, 1):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        assert [2 * count for count in counts(training.batches(0))] == whole


def counts(batch: object) -> list[int]:
    """Give how many rows each tensor of a batch has."""
    if isinstance(batch, torch.Tensor):
        return [len(batch)]
    assert isinstance(batch, tuple)
    return [count for part in batch for count in counts(part)]


def test_the_guide_has_every_method() -> None:
    guide = (ROOT / "docs" / "training.md").read_text("utf-8")
    modules = {path.stem for path in (ROOT / "training" / "methods").glob("[!_]*.py")}
    assert {name for name in modules if f"`{name}." not in guide} == set()
