"""Variable stars: a seeded simulator of light curves, spectra and catalogue rows of one sky.

Nothing here was observed. A star has a kind, a period, an amplitude, a temperature, a metallicity,
a distance and a place in the Galaxy, drawn from ranges that are those of its kind to a reader's
eye, and each modality is a noisy look at some of these: a light curve knows period and shape, a
spectrum temperature and metals, a catalogue row luminosity, colours and place. The kinds are named
as in the General Catalogue of Variable Stars (Samus et al. 2017, Astron. Rep. 61, 80), and the
modalities have the form of AstroM3's (Rizhko and Bloom 2024, arXiv:2411.08842, section 3).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

from ..data.objects import Objects
from ..data.source import Labels
from ..data.split import held_out

Floats: TypeAlias = NDArray[np.float64]
Held: TypeAlias = NDArray[np.bool_]
Range: TypeAlias = tuple[float, float]
Curve: TypeAlias = Callable[[Floats, Floats, Generator], Floats]
"""Time and period in days, (n, samples) and (n, 1), to how much fainter, 1 an amplitude."""

MODALITIES = PHOTOMETRY, SPECTRA, METADATA = "photometry", "spectra", "metadata"
SAMPLES = 200  # of a light curve, AstroM3's
BINS = 2575  # of a spectrum, AstroM3's 2 Å
WAVELENGTHS = (3850.0, 9000.0)  # Å
SURVEY = 1500.0  # days
BRIGHT, FAINT = 11.0, 16.5  # V of the sample
ZERO = 14.0  # the V of a unit flux
RED = 3.1  # extinction in V of a unit reddening


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """What stars of one kind have in common; ranges are drawn from evenly."""

    curve: Curve
    log_period: Range
    amplitude: Range  # V, from brightest to faintest
    temperature: Range  # K
    luminosity: Callable[[Floats, Floats, Floats], Floats]
    """Absolute V, of log10 of the period in days, temperature in K and [Fe/H]."""
    metals: float = -0.2  # [Fe/H], on average
    tilt: float = 0.0  # how far a longer period makes a cooler star; below 0, a hotter one
    height: float = 300.0  # above the Galactic plane, pc
    speed: float = 40.0  # across the sky, km/s
    balmer: float = 1.0  # depth of hydrogen's lines; below 0 they shine
    carbon: float = 0.0  # depth of the Swan bands
    blur: float = 1.0  # width of lines, by rotation
    dust: float = 0.0  # infrared excess, mag


@dataclass(frozen=True, slots=True, kw_only=True)
class Stars:
    """What some stars are; each is (n,)."""

    kinds: tuple[Kind, ...]
    kind: Labels  # its place in `kinds`
    log_period: Floats  # of days
    amplitude: Floats  # V
    temperature: Floats  # K
    metallicity: Floats  # [Fe/H]
    luminosity: Floats  # absolute V
    distance: Floats  # pc
    reddening: Floats  # E(B - V)
    latitude: Floats  # Galactic, rad
    longitude: Floats

    @property
    def magnitude(self) -> Floats:
        """Give the apparent V at the brightest."""
        return np.asarray(self.luminosity + 5 * np.log10(self.distance / 10) + RED * self.reddening)


def _pulse(time: Floats, period: Floats, draw: Generator, *, rise: Range) -> Floats:
    """Brighten in `rise` of a period and fade in the rest."""
    up = draw.uniform(*rise, (len(time), 1))
    phase = _phase(time, period, draw)
    bent = np.where(phase < up, phase / up, 1 + (phase - up) / (1 - up)) / 2
    return (1 + np.cos(2 * np.pi * bent)) / 2


def _contact(time: Floats, period: Floats, draw: Generator) -> Floats:
    """Two stars that touch: always changing, two nearly equal minima."""
    phase = _phase(time, period, draw)
    second = draw.uniform(0.8, 1, (len(time), 1))
    return (1 + np.cos(4 * np.pi * phase)) / 2 * np.where(abs(phase - 0.5) < 0.25, second, 1)


def _eclipses(time: Floats, period: Floats, draw: Generator) -> Floats:
    """Two stars apart: constant but for two eclipses."""
    phase = _phase(time, period, draw)
    width = draw.uniform(0.02, 0.06, (len(time), 1))
    second = draw.uniform(0.1, 1, (len(time), 1))
    first = np.exp(-((np.minimum(phase, 1 - phase) / width) ** 2) / 2)
    return np.asarray(first + second * np.exp(-(((phase - 0.5) / width) ** 2) / 2))


def _wander(time: Floats, period: Floats, draw: Generator) -> Floats:
    """A damped random walk that forgets in a quarter of the `period`, and has none."""
    order = np.argsort(time, axis=1)
    correlation = np.exp(-4 * np.diff(np.take_along_axis(time, order, 1), axis=1) / period)
    steps = draw.standard_normal(time.shape)
    walk = steps.copy()
    for i in range(1, time.shape[1]):
        correlation_here = correlation[:, i - 1]
        walk[:, i] = (
            correlation_here * walk[:, i - 1] + np.sqrt(1 - correlation_here**2) * steps[:, i]
        )
    back = np.empty_like(walk)
    np.put_along_axis(back, order, walk, 1)
    return 0.5 + back / 4


def _outbursts(time: Floats, period: Floats, draw: Generator) -> Floats:
    """Faint but for outbursts, a tenth of the time."""
    late = _phase(time, period, draw)
    return np.asarray(1 - np.exp(-((late / 0.1) ** 2)) + 0.05 * draw.standard_normal(time.shape))


def _fades(time: Floats, period: Floats, draw: Generator) -> Floats:
    """Bright but for one deep and sudden fade, and a slow return."""
    since = time - draw.uniform(0.1, 0.6, (len(time), 1)) * SURVEY
    sudden = 1 / (1 + np.exp(-np.clip(since / 5, -50, 50)))
    back = np.exp(-np.clip(since, 0, None) / (2 * period))
    return np.asarray(sudden * back + 0.03 * draw.standard_normal(time.shape))


def _phase(time: Floats, period: Floats, draw: Generator) -> Floats:
    """Give the phase in [0, 1), from an epoch of no meaning."""
    return (time / period + draw.random((len(time), 1))) % 1


def _dwarf(_period: Floats, temperature: Floats, _metals: Floats) -> Floats:
    return 4.8 - 13 * np.log10(temperature / 5772)


KINDS: Mapping[str, Kind] = {
    "EA": Kind(
        curve=_eclipses,
        log_period=(-0.1, 1.2),
        amplitude=(0.3, 1.5),
        temperature=(5000, 12000),
        luminosity=_dwarf,
    ),
    "EW": Kind(
        curve=_contact,
        log_period=(-0.62, -0.25),
        amplitude=(0.2, 0.8),
        temperature=(4600, 6600),
        tilt=-0.8,
        luminosity=lambda p, _t, _m: 3.9 - 12 * (p + 0.4),
        blur=2.5,
    ),
    "RRAB": Kind(
        curve=partial(_pulse, rise=(0.12, 0.22)),
        log_period=(-0.38, -0.1),
        amplitude=(0.4, 1.3),
        temperature=(6000, 7000),
        tilt=0.6,
        luminosity=lambda _p, _t, m: 0.9 + 0.21 * m,
        metals=-1.5,
        height=5000,
        speed=220,
    ),
    "RRC": Kind(
        curve=partial(_pulse, rise=(0.38, 0.48)),
        log_period=(-0.62, -0.4),
        amplitude=(0.25, 0.55),
        temperature=(6800, 7500),
        tilt=0.6,
        luminosity=lambda _p, _t, m: 0.9 + 0.21 * m,
        metals=-1.5,
        height=5000,
        speed=220,
    ),
    "HADS": Kind(
        curve=partial(_pulse, rise=(0.2, 0.32)),
        log_period=(-1.25, -0.75),
        amplitude=(0.2, 0.7),
        temperature=(7000, 8200),
        tilt=0.6,
        luminosity=lambda p, _t, _m: -1.3 - 2.9 * p,
        height=400,
    ),
    "DCEP": Kind(
        curve=partial(_pulse, rise=(0.2, 0.4)),
        log_period=(0.4, 1.5),
        amplitude=(0.4, 1.0),
        temperature=(5000, 6200),
        tilt=0.8,
        luminosity=lambda p, _t, _m: -4.05 - 2.43 * (p - 1),
        height=80,
        speed=20,
    ),
    "M": Kind(
        curve=partial(_pulse, rise=(0.38, 0.5)),
        log_period=(2.1, 2.7),
        amplitude=(2.5, 6),
        temperature=(2700, 3300),
        tilt=0.6,
        luminosity=lambda p, _t, _m: -0.5 + 2 * (p - 2.4),
        balmer=-0.4,
        dust=0.5,
    ),
    "L": Kind(
        curve=_wander,
        log_period=(1.4, 2.3),
        amplitude=(0.2, 1.0),
        temperature=(3300, 4200),
        luminosity=lambda _p, t, _m: -1 + (t - 3750) / 900,
    ),
}
"""Detached and contact binaries, RR Lyrae of both kinds, high-amplitude δ Scuti, classical
Cepheids, Mira stars and slow irregular ones."""

NOVEL: Mapping[str, Kind] = {
    "UG": Kind(
        curve=_outbursts,
        log_period=(1.3, 2.2),
        amplitude=(2, 5),
        temperature=(12000, 25000),
        luminosity=lambda p, _t, _m: np.full_like(p, 5.0),
        balmer=-1.5,
    ),
    "RCB": Kind(
        curve=_fades,
        log_period=(1.5, 2.3),
        amplitude=(2, 6),
        temperature=(5500, 7500),
        luminosity=lambda p, _t, _m: np.full_like(p, -4.0),
        balmer=0.0,
        carbon=0.5,
        height=700,
        speed=120,
        dust=0.9,
    ),
}
"""Dwarf novae and R Coronae Borealis stars: of no kind that is trained on."""


def variable_stars(
    *, each: int = 240, samples: int = SAMPLES, bins: int = BINS, seed: int = 0
) -> Objects:
    """Simulate `each` stars of every kind, a third of them held out, and a third as many novel.

    Labels are places in `KINDS`. A light curve is (5, samples) and ordered by phase: phase in
    [0, 1), flux less its mean and its error in units of the flux's mean absolute deviation, then
    log10 of that deviation and of the period in days, alike at all samples. A spectrum is (3, bins)
    from 3850 to 9000 Å: flux and error likewise, and the log deviation. A catalogue row is (10,),
    standardised by the training part: absolute magnitude from a noisy parallax, V, B - V, J - K,
    W1 - W2, sin b, |sin b|, cos l, log10 of proper motion and of the parallax over its error.
    """
    draw = np.random.default_rng(seed)
    labelled = draw_stars(tuple(KINDS.values()), each=each, draw=draw)
    novel = draw_stars(tuple(NOVEL.values()), each=each // 3, draw=draw)
    test = held_out(labelled.kind, share=1 / 3, seed=seed)
    parts = [observed(stars, samples, bins, draw) for stars in (labelled, novel)]
    return objects(*parts, labels=labelled.kind, test=test)


def observed(stars: Stars, samples: int, bins: int, draw: Generator) -> dict[str, Tensor]:
    """Look at stars in every modality; catalogue rows are as measured."""
    return {
        PHOTOMETRY: light_curves(stars, samples, draw),
        SPECTRA: spectra(stars, bins, draw),
        METADATA: catalogue_rows(stars, draw),
    }


def objects(
    labelled: Mapping[str, Tensor], novel: Mapping[str, Tensor], *, labels: Labels, test: Held
) -> Objects:
    """Part known stars by `test` (n,), and standardise catalogue rows by those that train."""
    train, held = torch.from_numpy(~test), torch.from_numpy(test)
    rows = labelled[METADATA][train]
    mean, deviation = rows.mean(0), rows.std(0)
    labelled, novel = (
        {**part, METADATA: (part[METADATA] - mean) / deviation} for part in (labelled, novel)
    )
    return Objects(
        train={name: tensor[train] for name, tensor in labelled.items()},
        train_labels=labels[~test],
        test={name: tensor[held] for name, tensor in labelled.items()},
        test_labels=labels[test],
        novel=novel,
    )


def draw_stars(kinds: tuple[Kind, ...], *, each: int, draw: Generator) -> Stars:
    """Draw `each` stars of every kind, at distances that a survey of some depth sees."""
    kind = np.repeat(np.arange(len(kinds)), each)
    quantile = draw.random(len(kind))
    return stars_of(
        kinds,
        kind=kind,
        log_period=_within(kinds, "log_period", kind, quantile),
        amplitude=_within(kinds, "amplitude", kind, draw.random(len(kind))),
        temperature=_within(kinds, "temperature", kind, _tilted(kinds, kind, quantile, draw)),
        magnitude=_magnitudes(len(kind), draw),
        draw=draw,
    )


def _magnitudes(count: int, draw: Generator) -> Floats:
    """Draw apparent V between the survey's limits, 2.5 times as many stars a magnitude fainter."""
    least = 10 ** (0.4 * (BRIGHT - FAINT))
    return np.asarray(FAINT + np.log10(draw.uniform(least, 1, count)) / 0.4)


def stars_of(
    kinds: tuple[Kind, ...],
    *,
    kind: Labels,
    log_period: Floats,
    amplitude: Floats,
    temperature: Floats,
    magnitude: Floats,
    draw: Generator,
) -> Stars:
    """Draw what is left to know of stars, so that they are about as bright as `magnitude` (V)."""
    metallicity = _by_star(kinds, kind, "metals") + 0.3 * draw.standard_normal(len(kind))
    luminosity = 0.2 * draw.standard_normal(len(kind))
    for number, each in enumerate(kinds):
        of = kind == number
        luminosity[of] += each.luminosity(log_period[of], temperature[of], metallicity[of])
    distance = 10 ** ((magnitude - luminosity + 5) / 5)
    height = _by_star(kinds, kind, "height") * draw.laplace(size=len(kind))
    latitude = np.arcsin(np.clip(height / distance, -0.99, 0.99))
    # Dust lies within 100 pc of the plane, 0.3 mag of reddening a kiloparsec.
    path = np.minimum(distance, 100 / np.maximum(abs(np.sin(latitude)), 0.01)) / 1000
    reddening = np.minimum(0.3 * path * np.exp(0.3 * draw.standard_normal(len(kind))), 1)
    return Stars(
        kinds=kinds,
        kind=kind,
        log_period=log_period,
        amplitude=amplitude,
        temperature=temperature,
        metallicity=metallicity,
        luminosity=luminosity,
        distance=distance,
        reddening=reddening,
        latitude=latitude,
        longitude=draw.uniform(0, 2 * np.pi, len(kind)),
    )


def _within(kinds: Sequence[Kind], name: str, kind: Labels, quantile: Floats) -> Floats:
    """Give the numbers at a `quantile` in [0, 1] of each star's kind's range."""
    low, high = _by_star(kinds, kind, name).T
    return np.asarray(low + quantile * (high - low))


def _tilted(kinds: Sequence[Kind], kind: Labels, quantile: Floats, draw: Generator) -> Floats:
    """Give places in the range of temperatures that hang on the place in that of periods."""
    tilt = _by_star(kinds, kind, "tilt")
    bound = np.where(tilt < 0, quantile, 1 - quantile)
    return np.asarray(abs(tilt) * bound + (1 - abs(tilt)) * draw.random(len(kind)))


def light_curves(stars: Stars, samples: int, draw: Generator) -> Tensor:
    """Observe (n, 5, samples) light curves, folded on the period; see `variable_stars`."""
    count = len(stars.kind)
    # One visit a night, in seasons of eight months, at no regular hour.
    season = draw.integers(0, round(SURVEY / 365), (count, samples)) * 365.25
    time = np.floor(season + draw.uniform(0, 240, (count, samples)))
    time += draw.normal(0.5, 0.1, (count, samples))
    period = 10 ** stars.log_period[:, None]
    fainter = np.empty_like(time)
    for number, kind in enumerate(stars.kinds):
        of = stars.kind == number
        fainter[of] = kind.curve(time[of], period[of], draw)
    magnitude = stars.magnitude[:, None] + stars.amplitude[:, None] * fainter
    flux = 10 ** (-0.4 * (magnitude - ZERO))
    error = flux * np.hypot(0.01, 0.02 * 10 ** (0.3 * (magnitude - ZERO)))
    flux += error * draw.standard_normal(flux.shape)
    phase = (time / period) % 1
    order = phase.argsort(axis=1)
    phase, flux, error = (np.take_along_axis(each, order, 1) for each in (phase, flux, error))
    flux, error, log_deviation = _scaled(flux, error)
    log_period = np.broadcast_to(stars.log_period[:, None], flux.shape)
    return _tensor(phase, flux, error, log_deviation, log_period)


def spectra(stars: Stars, bins: int, draw: Generator) -> Tensor:
    """Observe (n, 3, bins) spectra; see `variable_stars`.

    A black body, reddened, through lines whose depths are those of its temperature and metals in
    their gross features: hydrogen's deepest at 9000 K, metals below 6500 K, TiO below 3700 K.
    """
    wave = np.linspace(*WAVELENGTHS, bins)
    hot, metals = stars.temperature[:, None], stars.metallicity[:, None]
    flux = _black_body(wave, hot) / _black_body(np.array([5500.0]), hot)
    flux *= 10 ** (-0.4 * RED * stars.reddening[:, None] * (5500 / wave) ** 1.3)
    # A fibre loses an unknown part of a star's light, so a spectrum hardly knows how bright it is.
    lost = 0.5 * abs(draw.standard_normal(hot.shape))
    flux *= 10 ** (-0.4 * (stars.magnitude[:, None] - RED * stars.reddening[:, None] - ZERO + lost))
    blur = 8 * _of_kind(stars, "blur")
    ionised = np.exp(-((np.log10(hot / 9000) / 0.15) ** 2))
    # Hydrogen shines at any temperature.
    balmer = _of_kind(stars, "balmer") * np.where(_of_kind(stars, "balmer") > 0, ionised, 1)
    cool = {at: 1 / (1 + np.exp((hot - at) / 400)) for at in (3700, 5000, 5800, 6500, 7500)}
    depths = {
        **dict.fromkeys((6563.0, 4861.0, 4340.0, 4102.0), 0.6 * balmer),
        **dict.fromkeys((3934.0, 3969.0), 0.7 * cool[7500] * 10 ** (0.2 * metals)),
        **dict.fromkeys((8498.0, 8542.0, 8662.0), 0.4 * cool[6500] * 10 ** (0.2 * metals)),
        **dict.fromkeys((4384.0, 5270.0, 5328.0), 0.3 * cool[7500] * 10 ** (0.4 * metals)),
        5175.0: 0.5 * cool[5800] * 10 ** (0.3 * metals),
        5893.0: 0.6 * cool[5000],
    }
    for line, depth in depths.items():
        flux *= 1 - np.clip(depth, None, 0.9) * np.exp(-(((wave - line) / blur) ** 2) / 2)
    for head in (5448, 6159, 7054, 7589, 8432):  # TiO fades to the red of each
        flux *= 1 - 0.6 * cool[3700] * (wave >= head) * np.exp(-(wave - head).clip(0) / 150)
    for head in (4737, 5165, 5636):  # C2 to the blue
        band = (wave <= head) * np.exp(-(head - wave).clip(0) / 100)
        flux *= 1 - _of_kind(stars, "carbon") * band
    # 20 times the noise at V = 14, at each bin of a spectrum that has 2575.
    noise = np.sqrt(flux * flux.mean(1, keepdims=True)) / (20 * np.sqrt(BINS / bins))
    noise *= 10 ** (0.2 * (stars.magnitude[:, None] - ZERO))
    return _tensor(*_scaled(flux + noise * draw.standard_normal(flux.shape), noise))


def catalogue_rows(stars: Stars, draw: Generator) -> Tensor:
    """Give (n, 10) rows of a catalogue, as measured; see `variable_stars`."""
    noise = draw.standard_normal((6, len(stars.kind)))
    parallax = 1000 / stars.distance + 0.03 * noise[0]  # mas
    seen = stars.magnitude + 0.02 * noise[1]
    absolute = seen + 5 * np.log10(np.maximum(parallax, 0.02) / 100)
    dust = _of_kind(stars, "dust")[:, 0]
    motion = _of_kind(stars, "speed")[:, 0] / (4.74 * stars.distance / 1000)  # mas a year
    motion *= np.exp(0.4 * noise[5])
    rows = (
        absolute,
        seen,
        7090 / stars.temperature - 0.71 + stars.reddening + 0.03 * noise[2],
        3700 / stars.temperature - 0.27 + dust / 2 + 0.48 * stars.reddening + 0.03 * noise[3],
        200 / stars.temperature + dust + 0.05 * noise[4],
        np.sin(stars.latitude),
        abs(np.sin(stars.latitude)),
        np.cos(stars.longitude),
        np.log10(motion),
        np.log10(np.maximum(parallax, 0.02) / 0.03),
    )
    return torch.from_numpy(np.stack(rows, 1).astype(np.float32))


def _by_star(kinds: Sequence[Kind], kind: Labels, name: str) -> Floats:
    """Give each star what its kind has by that name, a number or a range."""
    return np.array([getattr(each, name) for each in kinds], np.float64)[kind]


def _of_kind(stars: Stars, name: str) -> Floats:
    """Give each star (n, 1) the number of that name of its kind."""
    return _by_star(stars.kinds, stars.kind, name)[:, None]


def _black_body(wave: Floats, temperature: Floats) -> Floats:
    """Give Planck's law but for its constant, of wavelengths in Å."""
    return np.asarray((wave / 5500) ** -5 / np.expm1(1.4388e8 / (wave * temperature)))


def _scaled(flux: Floats, error: Floats) -> tuple[Floats, Floats, Floats]:
    """Give flux and error in the flux's mean absolute deviation, and its log10, everywhere."""
    centred = flux - flux.mean(1, keepdims=True)
    deviation = abs(centred).mean(1, keepdims=True)
    log = np.broadcast_to(np.log10(deviation), flux.shape)
    return centred / deviation, error / deviation, log


def _tensor(*channels: Floats) -> Tensor:
    return torch.from_numpy(np.stack(channels, 1).astype(np.float32))
