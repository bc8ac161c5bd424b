"""The simulated stars: what they promise, and that every modality sees the same ones."""

import csv
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from attar.errors import NotFound
from attar.training.data.objects import Modalities, Objects
from attar.training.datasets.linear_stars import linear_stars
from attar.training.datasets.stars import (
    KINDS,
    METADATA,
    NOVEL,
    PHOTOMETRY,
    SPECTRA,
    WAVELENGTHS,
    draw_stars,
    spectra,
    variable_stars,
)
from attar.training.probes.linear import linear_accuracy

EACH, SAMPLES, BINS = 60, 48, 256
NAMES = (PHOTOMETRY, SPECTRA, METADATA)


@pytest.fixture(scope="module")
def sky() -> Objects:
    return variable_stars(each=EACH, samples=SAMPLES, bins=BINS)


def test_one_seed_gives_one_sky_and_another_another(sky: Objects) -> None:
    again, other = (variable_stars(each=EACH, samples=SAMPLES, bins=BINS, seed=s) for s in (0, 1))
    for name in NAMES:
        assert torch.equal(tensor(sky.train, name), tensor(again.train, name))
        assert not torch.equal(tensor(sky.train, name), tensor(other.train, name))


def test_a_third_of_every_kind_is_held_out_and_novel_stars_are_of_no_kind(sky: Objects) -> None:
    assert np.bincount(sky.train_labels).tolist() == [EACH * 2 // 3] * len(KINDS)
    assert np.bincount(sky.test_labels).tolist() == [EACH // 3] * len(KINDS)
    assert len(sky.novel[METADATA]) == EACH // 3 * len(NOVEL)
    assert not KINDS.keys() & NOVEL.keys()
    shapes = {name: tuple(tensor(sky.test, name).shape[1:]) for name in NAMES}
    assert shapes == {PHOTOMETRY: (5, SAMPLES), SPECTRA: (3, BINS), METADATA: (10,)}
    both = torch.cat([tensor(sky.train, METADATA), tensor(sky.test, METADATA)])
    assert len(torch.unique(both, dim=0)) == len(both)


def test_curves_are_ordered_by_phase_and_scaled_by_their_own_deviation(sky: Objects) -> None:
    curves, light = tensor(sky.train, PHOTOMETRY), tensor(sky.train, SPECTRA)
    phase = curves[:, 0]
    assert phase.min() >= 0
    assert phase.max() < 1
    assert (phase.diff(dim=1) >= 0).all()
    for flux in (curves[:, 1], light[:, 0]):
        torch.testing.assert_close(flux.abs().mean(1), torch.ones(len(flux)))
        torch.testing.assert_close(flux.mean(1), torch.zeros(len(flux)), atol=1e-4, rtol=0)
    for alike in (curves[:, 3], curves[:, 4], light[:, 2]):
        assert torch.equal(alike, alike[:, :1].expand_as(alike))
    for error in (curves[:, 2], light[:, 1]):
        assert (error > 0).all()


def test_rows_are_standardised_by_those_that_train(sky: Objects) -> None:
    train, test = tensor(sky.train, METADATA), tensor(sky.test, METADATA)
    torch.testing.assert_close(train.mean(0), torch.zeros(10), atol=1e-5, rtol=0)
    torch.testing.assert_close(train.std(0), torch.ones(10))
    assert (test.mean(0).abs() < 0.3).all()
    assert not torch.allclose(test.std(0), torch.ones(10), atol=1e-5)


def test_modalities_see_the_same_stars(sky: Objects) -> None:
    """Brightness is in all, temperature in spectrum and colours, and rows are in one order."""
    curves, light, rows = (tensor(sky.test, name) for name in NAMES)
    noise = (curves[:, 2] * 10 ** curves[:, 3]).mean(1).log10()
    magnitude, colour = rows[:, 1], rows[:, 2]
    blue = light[:, 0, : BINS // 4].mean(1) - light[:, 0, -BINS // 4 :].mean(1)
    assert correlation(light[:, 2, 0], magnitude) < -0.6
    assert correlation(noise, magnitude) < -0.7  # in flux: what is bright is uncertain by more
    assert correlation(blue, colour) < -0.7
    mixed = torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))
    assert abs(correlation(blue, colour[mixed])) < 0.3


def test_no_modality_alone_tells_kinds_as_well_as_all(sky: Objects) -> None:
    def accuracy(names: tuple[str, ...]) -> float:
        train, test = (
            torch.cat([tensor(part, name).flatten(1) for name in names], 1).numpy()
            for part in (sky.train, sky.test)
        )
        return linear_accuracy(train, sky.train_labels, test, sky.test_labels)

    alone = [accuracy((name,)) for name in NAMES]
    assert max(alone) < accuracy(NAMES)
    assert min(alone) > 3 / len(KINDS)


def test_a_contact_binary_has_two_minima_a_period_and_a_cepheid_one() -> None:
    phases = {}
    for name in ("EW", "DCEP"):
        period = np.full((1, 1), 10.0)
        time = np.linspace(0, 10, 400, endpoint=False)[None]
        fainter = KINDS[name].curve(time, period, np.random.default_rng(0))[0]
        rising = np.diff(fainter, append=fainter[0]) > 0
        phases[name] = int((rising & ~np.roll(rising, -1)).sum())
    assert phases == {"EW": 2, "DCEP": 1}


@pytest.mark.parametrize(
    ("name", "line", "shines"), [("HADS", 6563, False), ("UG", 6563, True), ("M", 4102, True)]
)
def test_hydrogen_darkens_hot_stars_and_shines_in_dwarf_novae(
    name: str, line: float, *, shines: bool
) -> None:
    draw = np.random.default_rng(0)
    stars = draw_stars(({**KINDS, **NOVEL}[name],), each=200, draw=draw)
    flux = spectra(stars, 2575, draw)[:, 0].mean(0)
    wave = torch.linspace(*WAVELENGTHS, 2575)
    nearby = flux[((wave - line).abs() > 40) & ((wave - line).abs() < 60)].mean()
    assert bool(flux[(wave - line).abs() < 5].mean() > nearby) is shines


def test_real_rows_come_with_curves_of_their_own_period(tmp_path: Path) -> None:
    table = linear_table(tmp_path)
    sky = linear_stars(tmp_path, samples=32, bins=256)
    kept = [row for row in table if float(row["Ampl"]) > 0]
    known = [row for row in kept if row["LCtype"] != "6"]
    train = [row for row in known if row["is_test"] == "False"]
    assert sky.train_labels.tolist() == [int(row["LCtype"]) for row in train]
    assert len(sky.test_labels) == len(known) - len(train)
    assert len(sky.novel[METADATA]) == len(kept) - len(known)
    period = tensor(sky.train, PHOTOMETRY)[:, 4, 0]
    torch.testing.assert_close(period, torch.tensor([float(row["logP"]) for row in train]))
    real = torch.tensor([float(row["ug"]) for row in train])
    torch.testing.assert_close(tensor(sky.train, METADATA)[:, 2], (real - real.mean()) / real.std())


def test_a_table_without_a_column_is_refused(tmp_path: Path) -> None:
    linear_table(tmp_path, without="gi")
    with pytest.raises(NotFound, match="no column 'gi'"):
        linear_stars(tmp_path)


def linear_table(folder: Path, *, without: str = "") -> list[dict[str, str]]:
    """Write a table such as LINEAR's, a fifth of each type, and one amplitude that is none."""
    draw = np.random.default_rng(0)
    rows = []
    for number in range(60):
        values = dict(zip(("ug", "gi", "iK", "JK", "skew", "kurt"), draw.random(6), strict=True))
        rows.append(
            {
                **{name: f"{value:.3f}" for name, value in values.items()},
                "logP": f"{draw.uniform(-1, 1):.4f}",
                "Ampl": "-99.99" if number == 7 else f"{draw.uniform(0.2, 1):.3f}",
                "magMed": f"{draw.uniform(14, 17):.2f}",
                "LCtype": str((1, 2, 4, 5, 6)[number % 5]),
                "is_test": str(number % 3 == 0),
            }
        )
    columns = [name for name in rows[0] if name != without]
    with gzip.open(folder / "linear.csv.gz", "wt", newline="") as file:
        writer = csv.DictWriter(file, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    return rows


def tensor(part: Modalities, name: str) -> Tensor:
    """Give a modality whole."""
    return part[name][torch.arange(len(part[name]))]


def correlation(one: Tensor, other: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one, other]))[0, 1])
