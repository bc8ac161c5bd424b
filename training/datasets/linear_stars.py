"""LINEAR's periodic variable stars: real catalogue rows with simulated curves and spectra.

Palaversa et al. 2013, arXiv:1308.0357; the table is astroML's, with a column `is_test`.
"""

from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ..data.columns import table_splits
from ..data.objects import Objects
from ..data.source import Labels
from ..data.split import DataSplit
from .stars import (
    BINS,
    KINDS,
    METADATA,
    PHOTOMETRY,
    SAMPLES,
    SPECTRA,
    Held,
    Stars,
    light_curves,
    objects,
    spectra,
    stars_of,
)

TABLE = "linear.csv.gz"
TYPES = {1: "RRAB", 2: "RRC", 4: "EA", 5: "EW", 6: "HADS"}
NOVEL = 6  # 82 stars, too few for a class
COLUMNS = ("logP", "Ampl", "magMed", "gi", "ug", "iK", "JK", "skew", "kurt")
METADATA_FROM = 2  # columns from here on are the catalogue's row


def linear_stars(
    folder: Path, *, samples: int = SAMPLES, bins: int = BINS, seed: int = 0
) -> Objects:
    """Give the catalogue rows of 6,000 real stars, each with a simulated curve and spectrum.

    A row is (7,): magnitude, four colours, skewness and the arcsinh of kurtosis, standardised by
    the training part. Curve and spectrum are as `stars.variable_stars` gives them, of a star with
    the real type, period, amplitude, magnitude and a temperature from the real g - i: they say
    nothing about the sky. Labels are LINEAR's types 1, 2, 4 and 5 (RR Lyrae of either kind, Algols,
    contact binaries); those of type 6, δ Scuti, are the novel ones. The split is the table's.

    Raises InvalidInput for a damaged table, and NotFound for one that lacks a column.
    """
    draw = np.random.default_rng(seed)
    train, test = table_splits(folder / TABLE, columns=COLUMNS, label="LCtype", part="is_test")
    values, labels, held = _joined(train, test)
    real = values[:, 1] > 0  # an amplitude of -99.99 is none
    values, labels, held = values[real], labels[real], held[real]
    is_known = labels != NOVEL
    parts = []
    for of in (is_known, ~is_known):
        stars = _stars(values[of], labels[of], draw)
        row = values[of, METADATA_FROM:]
        row[:, -1] = torch.asinh(row[:, -1])
        parts.append(
            {
                PHOTOMETRY: light_curves(stars, samples, draw),
                SPECTRA: spectra(stars, bins, draw),
                METADATA: row,
            }
        )
    return objects(parts[0], parts[1], labels=labels[is_known], test=held[is_known])


def _joined(train: DataSplit, test: DataSplit | None) -> tuple[Tensor, Labels, Held]:
    """Give the rows of both parts, their types, and which are held out."""
    parts = [part for part in (train, test) if part is not None]
    values = torch.cat([part.items[torch.arange(len(part.items))] for part in parts])
    labels = np.concatenate([part.labels for part in parts if part.labels is not None])
    return values, labels, np.arange(len(labels)) >= len(train.items)


def _stars(values: Tensor, labels: Labels, draw: Generator) -> Stars:
    """Draw what the catalogue does not say of stars."""
    log_period, amplitude, magnitude, colour = values[:, :4].double().numpy().T
    types = [number for number in TYPES if number in labels]
    return stars_of(
        tuple(KINDS[TYPES[number]] for number in types),
        kind=np.searchsorted(types, labels),
        log_period=log_period,
        amplitude=amplitude,
        # The Sun's 5772 K at g - i = 0.6, and 4400 K at 1.5.
        temperature=7400 / (1 + 0.45 * np.clip(colour, -0.5, 3)),
        magnitude=magnitude,
        draw=draw,
    )
