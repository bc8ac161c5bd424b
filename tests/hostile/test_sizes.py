"""The smallest runs end well, or in one line that says how much is needed."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from attar.training.catalogue import catalogue
from benchmarks.hostile.sizes import CASES, DATA, LEAST, RUNS, SMALL, Case

from ..support.commands import Attar

RECIPES = catalogue()


def settings(value: Any, prefix: str = "") -> set[str]:
    """Give the names of all settings, those of groups with a dot."""
    names: set[str] = set()
    for field in fields(value):
        inner = getattr(value, field.name)
        group = is_dataclass(inner)
        names |= settings(inner, f"{prefix}{field.name}.") if group else {prefix + field.name}
    return names


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_runs_on_the_fewest_items_or_says_how_many_it_needs(
    attar_: Attar, name: str, tmp_path: Path
) -> None:
    recipe = RECIPES[name]
    known = settings(recipe.settings)
    quick = [f"--set={key}={value}" for key, value in SMALL.items() if key in known and value]
    if name in ("image/ibot", "image/mae", "image/sit"):
        quick.remove("--set=encoder=tiny")  # they hide patches
    for items, batch in RUNS:
        folder = tmp_path / f"{items}-{batch}"
        folder.mkdir()
        data = DATA.get(name, DATA[recipe.modality])(folder, items)
        own = [] if batch is None else [f"--set=batch_size={batch}"]
        ran = attar_(
            *("pretrain", name, "--data", data, "--out", folder / "out", "--steps", 1),
            *(*quick, *own),
        )
        said = f"{name} on {items} items, batches of {batch}: {ran}"
        assert "Traceback" not in ran.err, said
        if items >= max(LEAST.get(name, 2), batch or 0):
            assert ran.status == 0, said
        else:
            assert (ran.status, ran.err.count("\n")) == (2, 1), said
            assert ran.err.startswith("attar: "), said
            assert not (folder / "out").exists(), said


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_command_ends_well_on_tiny_data_or_says_what_it_needs(
    attar_: Attar, case: Case, tmp_path: Path
) -> None:
    ran = attar_(*case.make(tmp_path))

    assert "Traceback" not in ran.err
    assert ran.status == (2 if case.needs else 0), ran
    assert [words for words in case.needs if words not in ran.err] == [], ran.err
