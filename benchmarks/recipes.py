"""Check the claim of every recipe, seed by seed: what docs/recipes.md shows.

    python -m benchmarks.recipes --out benchmarks/results/recipes.json
    python -m benchmarks.recipes --only image/byol --seeds 0 1 2 3 4 --out ...

    python -m benchmarks.recipes --data SETS --only audio/tera --out ...

Rows are written one after another, so a run that is cut short keeps what it has; recipes that are
not run keep the row they had; `--only` alone runs none and lists them. A claim that does not hold
keeps its figures all the same, and each row is judged again by its figures: by the intervals of the
claim's effects. With `--data`, a folder of real data sets, the trial of each recipe that `REAL` has
data for runs on those instead, and the row keeps that next to its claim. `losses` are those of a
trial in few steps: tests/training/recipes/test_claims.py compares them with its own.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from attar.host import describe
from attar.training.catalogue import catalogue, claim_of
from attar.training.claim import SEEDS, Claim, Figures
from attar.training.claims.audio import continued, tera
from attar.training.claims.molecule import molformer
from attar.training.claims.series import eegformer
from attar.training.claims.table import t_jepa
from attar.training.datasets.linear_stars import linear_stars
from attar.training.probes.interval import interval
from attar.training.recipe import Recipe

from .support.short_runs import short_data, short_trial

MEASURED = "claim", "data"  # what figures are of; a row whose claim changed loses them
LETTER_TEST, SATELLITE_TEST = 4000, 2000  # the last rows, as UCI parts them

REAL: Mapping[str, Mapping[str, Callable[[Path], Any]]] = {
    "audio/tera": {
        "spoken digits, an unheard speaker": lambda sets: tera.digits_of(
            sets / "audio-fsdd", unheard="theo"
        )
    },
    "audio/continued": {
        "spoken digits, another speaker": lambda sets: continued.speakers(
            sets / "audio-fsdd", target="theo"
        )
    },
    "series/eegformer": {"NAB": lambda sets: eegformer.nab(sets / "tsad-nab" / "nab_real.npz")},
    "table/t_jepa": {
        "Letter": lambda sets: t_jepa.last_rows(
            sets / "tabular-mlbench" / "letter.npz", test=LETTER_TEST
        ),
        "Satellite": lambda sets: t_jepa.last_rows(
            sets / "tabular-mlbench" / "satellite.npz", test=SATELLITE_TEST
        ),
    },
    "molecule/molformer": {
        "HIV; BBBP and ESOL": lambda sets: molformer.molecule_net(sets / "molecules")
    },
    "multimodal/astro_m3": {
        "LINEAR's rows, curves and spectra simulated": lambda sets: linear_stars(
            sets / "astro-linear-variables", samples=96, bins=512
        )
    },
}
"""Recipes with real data: how a folder of sets, each in its own, is read for their trial."""


def about(name: str, recipe: Recipe[Any, Any], claim: Claim[Any]) -> dict[str, Any]:
    """Say of a recipe what it declares."""
    return {
        "recipe": name,
        "paper": recipe.paper,
        "family": recipe.family,
        "modality": recipe.modality,
        "claim": claim.statement,
        "data": claim.data.__name__.strip("_").replace("_", " "),
        "departures": list(recipe.departures),
    }


def checked(claim: Claim[Any], seeds: Sequence[int], data: Any = None) -> dict[str, Any]:
    """Run a claim, on its own or other data, and give what came of it."""
    began = time.perf_counter()
    verdict = claim.check(seeds, data)
    return {
        "seeds": list(seeds),
        **judged(claim, verdict.figures),
        "figures": summed(verdict.figures),
        "minutes": round((time.perf_counter() - began) / 60, 2),
    }


def judged(claim: Claim[Any], figures: Figures) -> dict[str, Any]:
    """Judge figures: whether the claim holds, and each effect with its 95 % interval over seeds."""
    effects = []
    for effect in claim.effects:
        over = effect.over(figures)
        effects.append(
            {
                "effect": effect.name,
                "difference": over.mean,
                "low": over.low,
                "high": over.high,
                "above": effect.above,
                "holds": effect.holds(figures),
            }
        )
    return {"holds": claim.holds(figures), "effects": effects}


def judged_again(claim: Claim[Any], row: dict[str, Any]) -> dict[str, Any]:
    """Judge the figures of a row that are kept, and of its real data; without figures, nothing."""
    if "figures" not in row:
        return {}
    figures = {name: tuple(figure["values"]) for name, figure in row["figures"].items()}
    return judged(claim, figures)


def first_losses(recipe: Recipe[Any, Any], claim: Claim[Any]) -> list[list[float]]:
    """Give the losses of a recipe's short trial, by which a test knows the code again."""
    _, losses = short_trial(claim, short_data(recipe, claim))
    return [[float(f"{loss:.6g}") for loss in run] for run in losses]


def summed(figures: Figures) -> dict[str, Any]:
    """Give each figure's mean with its 95 % interval over the seeds."""
    found = {}
    for name, values in figures.items():
        over = interval(values) if len(values) > 1 else None
        found[name] = {
            "mean": sum(values) / len(values),
            "low": over.low if over else None,
            "high": over.high if over else None,
            "values": list(values),
        }
    return found


def saved_rows(path: Path) -> Mapping[str, dict[str, Any]]:
    """Give the rows of an earlier run, by recipe."""
    if not path.exists():
        return {}
    return {row["recipe"]: row for row in json.loads(path.read_text())["rows"]}


def write(rows: Mapping[str, dict[str, Any]], path: Path) -> None:
    """Write all rows there are."""
    report = {
        "command": "python -m benchmarks.recipes --out OUT; for real sets, with --data SETS",
        "machine": {**describe(), "torch": torch.__version__},
        "rows": list(rows.values()),
    }
    path.write_text(json.dumps(report, indent=1) + "\n")


def main() -> None:
    """Run the chosen recipes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", nargs="*", choices=sorted(catalogue()), metavar="RECIPE")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS))
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    rows = {}
    earlier = saved_rows(arguments.out)
    for name, recipe in catalogue().items():
        declared = about(name, recipe, claim_of(name))
        row = earlier.get(name, {})
        same = all(row.get(field) == declared[field] for field in MEASURED)
        kept = row if same else {}
        rows[name] = kept | declared | judged_again(claim_of(name), kept)
        for real in rows[name].get("real", {}).values():
            real.update(judged_again(claim_of(name), real))
    write(rows, arguments.out)
    for name in rows if arguments.only is None else arguments.only:
        claim = claim_of(name)
        if arguments.data is None:
            losses = first_losses(catalogue()[name], claim)
            rows[name] |= checked(claim, arguments.seeds) | {"losses": losses}
            print(name, rows[name]["holds"], rows[name]["minutes"], "min", flush=True)
            write(rows, arguments.out)
            continue
        for words, real in REAL.get(name, {}).items():
            found = checked(claim, arguments.seeds, real(arguments.data))
            rows[name].setdefault("real", {})[words] = found
            print(name, words, found["holds"], found["minutes"], "min", flush=True)
            write(rows, arguments.out)


if __name__ == "__main__":
    main()
