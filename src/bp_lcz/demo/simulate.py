"""Demo data: simulated Sentinel-1/-2 patches of the 17 local climate zones, in the files of So2Sat LCZ42.

No pixel is measured and no place is real. Each patch is a ground scene (`bp_lcz.demo.form`) seen by a simulated
Sentinel-2 (`bp_lcz.demo.optical`) and Sentinel-1 (`bp_lcz.demo.radar`). Cities differ in light, haze, season, soil,
roofs, streets and calibration, so held-out cities are harder than known ones, as in So2Sat.

docs/simulation.md measures how difficult and how realistic the demo data are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from tqdm import tqdm

from bp_lcz.bands import SEN1_BANDS, SEN2_BANDS, Channels
from bp_lcz.demo.form import MARGIN_PIXELS, PIXEL, SUBPIXELS_PER_PIXEL, Style, build_scene
from bp_lcz.demo.optical import (
    MATERIALS,
    Season,
    Sky,
    city_spectra,
    sentinel2,
    surface_reflectance,
)
from bp_lcz.demo.radar import Radar, covariance, sentinel1, speckle
from bp_lcz.errors import UserError, is_disk_full, one_line
from bp_lcz.files import staged_folder
from bp_lcz.params import SPLITS
from bp_lcz.scheme import CLASS_COUNT, CODES
from bp_lcz.so2sat.releases import V2_CLASS_COUNTS
from bp_lcz.so2sat.writer import new_patches

# Classes with which an expert would confuse each class, likeliest first. So2Sat's labels have an expert confidence of
# 85 %, and 8-5, 5-2 and 1-3 are among the confusions that Zhu et al. (2020) name.
NEIGHBOURS = {
    "1": ("2", "3", "4"), "2": ("5", "1", "3"), "3": ("2", "1", "6"), "4": ("5", "1", "2"), "5": ("2", "8", "4"),
    "6": ("9", "3", "5"), "7": ("3", "6"), "8": ("5", "10", "2"), "9": ("6", "B", "D"), "10": ("8", "E", "5"),
    "A": ("B",), "B": ("A", "C", "9"), "C": ("D", "F", "B"), "D": ("C", "F"), "E": ("F", "8", "C"),
    "F": ("D", "C", "E"), "G": ("D", "F"),
}  # fmt: skip
BATCH = 32
SEN1_INTENSITIES = tuple(band for band in SEN1_BANDS if band.endswith("_intensity"))
ROOM = 400.0  # metres from a patch's corner to the next one's: 80 m stay free between footprints

PatchImages = tuple[Float[np.ndarray, "patch 32 32 8"], Float[np.ndarray, "patch 32 32 10"]]


@dataclass(frozen=True)
class City:
    """Everything that patches of a city share."""

    name: str
    style: Style
    season: Season
    sky: Sky
    radar: Radar
    shade: Float[np.ndarray, " material"]  # factor on the reflectance of each material
    epsg: int
    easting: float
    northing: float


def draw_city(seed: int, split: int, number: int, name: str) -> City:
    """The city `number` of a split. It does not depend on the number of cities."""
    rng = _generator(seed, split, 1, number)
    dryness = float(rng.beta(1.2, 2.2))
    roof = {m: float(np.exp(rng.normal(0, 0.7))) for m in MATERIALS if m.endswith("roof") or m == "concrete"}
    ground = {m: float(np.exp(rng.normal(0, 0.4))) for m in MATERIALS}
    ground["soil"] *= 0.5 + 1.5 * dryness
    ground["grass"] *= 1.3 - 0.8 * dryness
    soil = rng.dirichlet((1.5, 0.6 + dryness, 0.9))
    return City(
        name=name,
        style=Style(
            sun_elevation=float(rng.uniform(36, 70)),
            sun_azimuth=float(rng.uniform(120, 175)),
            heading=float(rng.uniform(0, np.pi / 2)),
            scale=float(np.exp(rng.normal(0, 0.12))),
            height=float(np.exp(rng.normal(0, 0.12))),
            trees=float(np.exp(rng.normal(-0.2 * dryness, 0.2))),
            roofs=roof,
            ground=ground,
            variant=float(rng.random()),
        ),
        season=Season(
            dryness=dryness,
            leafless=float(max(0.0, rng.normal(0.02, 0.15))),
            conifer=float(rng.beta(0.7, 1.0)),
            turbidity=float(rng.beta(0.9, 1.4)),
            soil=(float(soil[0]), float(soil[1]), float(soil[2])),
            rock_pale=float(rng.uniform(0.2, 1)),
            vigour=float(rng.beta(2.0, 1.2)),
        ),
        sky=Sky(
            aerosol=float(np.clip(rng.gamma(2.2, 0.08), 0.03, 0.6)),
            angstrom=float(rng.uniform(0.9, 1.6)),
            sun_factor=float(rng.normal(0.91, 0.10)),
        ),
        radar=Radar(
            gain=float(10 ** (rng.normal(1.5, 1.2) / 10)),
            look=float(rng.choice([80.0, 280.0]) + rng.normal(0, 4)),
            wind=float(np.exp(rng.normal(0, 0.6))),
            wet=float(np.exp(rng.normal(0, 0.25))),
        ),
        shade=np.exp(rng.normal(0, 0.15, len(MATERIALS))),
        epsg=int(rng.choice([32600, 32700]) + rng.integers(1, 61)),
        easting=float(rng.integers(30, 60) * 10_000),
        northing=float(rng.integers(200, 600) * 10_000),
    )


def _generator(seed: int, *key: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key)))


def class_sequence(seed: int, split: int, count: int, frequencies: str) -> Int[np.ndarray, " patch"]:
    """Classes of the first `count` patches: first all 17, then always the class that is furthest below its share.

    A longer sequence begins with the shorter one.
    """
    counts = np.ones(CLASS_COUNT) if frequencies == "uniform" else np.array(V2_CLASS_COUNTS["training"])
    share = counts / counts.sum()
    rng = _generator(seed, split, 0)
    sequence = np.empty(count, dtype=np.int64)
    given = np.zeros(CLASS_COUNT)
    start = rng.permutation(CLASS_COUNT)
    for i in range(count):
        # Jitter below one patch keeps the order irregular.
        lag = (i + 1) * share - given + rng.uniform(0, 0.5, CLASS_COUNT)
        sequence[i] = start[i] if i < CLASS_COUNT else int(lag.argmax())
        given[sequence[i]] += 1
    return sequence


def city_sequence(seed: int, split: int, count: int, cities: int) -> Int[np.ndarray, " patch"]:
    """City of each of the first `count` patches. Each round has one patch of every city, in a new random order."""
    rounds = -(-count // cities)
    return np.concatenate([_generator(seed, split, 3, r).permutation(cities) for r in range(rounds)])[:count]


def noisy_label(intended: int, noise: float, rng: np.random.Generator) -> int:
    """The label of an expert: with probability `noise` a neighbour of the intended class, else that class."""
    if rng.random() >= noise:
        return intended
    near = NEIGHBOURS[CODES[intended]]
    weights = 0.5 ** np.arange(len(near))
    return CODES.index(near[rng.choice(len(near), p=weights / weights.sum())])


def render(codes: list[str], cities: list[City], rngs: list[np.random.Generator]) -> PatchImages:
    """Both sensors' views of patches of the given classes, each drawn from its own generator."""
    optical, radar_vh, radar_vv = [], [], []
    for code, city, rng in zip(codes, cities, rngs, strict=True):
        scene = build_scene(code, city.style, rng)
        spectra = city.shade[:, None] * city_spectra(_local_season(city.season, rng))
        # Materials differ from patch to patch: overall brightness and a tilt along the spectrum.
        level, tilt = rng.normal(0, 0.14, len(spectra)), rng.normal(0, 0.07, len(spectra))
        spectra *= np.exp(level[:, None] + tilt[:, None] * np.linspace(-1, 1, len(SEN2_BANDS)))
        surface = surface_reflectance(scene.material, scene.brightness, scene.lit, spectra, SUBPIXELS_PER_PIXEL)
        optical.append(sentinel2(surface, _local_sky(city.sky, rng), MARGIN_PIXELS, rng))
        vh, vv = speckle(*covariance(scene, city.radar, rng), rng)
        radar_vh.append(vh)
        radar_vv.append(vv)
    return sentinel1(np.stack(radar_vh), np.stack(radar_vv)), np.stack(optical)


def _local_season(season: Season, rng: np.random.Generator) -> Season:
    """Season of a patch: dryness, vigour and turbidity differ within a city."""
    dryness, vigour, turbidity = np.clip(
        np.array([season.dryness, season.vigour, season.turbidity]) + rng.normal(0, (0.15, 0.2, 0.1)), 0, 1
    )
    return replace(season, dryness=float(dryness), vigour=float(vigour), turbidity=float(turbidity))


def _local_sky(sky: Sky, rng: np.random.Generator) -> Sky:
    """Sky of a patch. A city's image is a mosaic of several dates, so patches differ in haze and light."""
    return replace(
        sky,
        aerosol=float(np.clip(sky.aerosol * np.exp(rng.normal(0, 0.4)), 0.02, 0.8)),
        sun_factor=float(sky.sun_factor * np.exp(rng.normal(0, 0.15))),
    )


def _footprint(city: City, rank: int) -> tuple[float, ...]:
    """World file (A, D, B, E, C, F) of patch `rank` of a city. Patches fill a square that grows shell by shell."""
    shell = int(np.sqrt(rank))
    along = rank - shell * shell
    column, row = (shell, along) if along <= shell else (2 * shell - along, shell)
    return (PIXEL, 0.0, 0.0, -PIXEL, city.easting + column * ROOM, city.northing - row * ROOM)


def _check(
    seed: int, patches: Mapping[str, int], cities: Mapping[str, int], frequencies: str, label_noise: float
) -> None:
    for name, counts in (("patches", patches), ("cities", cities)):
        if set(counts) != set(SPLITS):
            got = ", ".join(counts) or "none"
            raise UserError("simulate", f"{name} needs exactly the keys {', '.join(SPLITS)}; got {got}")
        for split, count in counts.items():
            if count < 1:
                raise UserError("simulate", f"{name}.{split} is {count}; expected at least 1")
    if frequencies not in ("uniform", "so2sat"):
        raise UserError("simulate", f"frequencies is '{frequencies}'; expected uniform or so2sat")
    if not 0 <= label_noise < 1:
        raise UserError("simulate", f"label_noise is {label_noise}; expected 0 <= label_noise < 1")
    if seed < 0:
        raise UserError("simulate", f"seed is {seed}; expected a whole number that is not negative")


def simulate(
    out: Path,
    *,
    seed: int,
    patches: Mapping[str, int],
    cities: Mapping[str, int],
    frequencies: Literal["uniform", "so2sat"],
    label_noise: float,
    sen1: Literal["all", "intensities"] = "all",
) -> None:
    """Write a simulated data set: `training.h5`, `validation.h5`, `testing.h5` and a `_geo.h5` beside each.

    The files have the layout of So2Sat v2 (sen1, sen2, label: float64, contiguous) and v4 (epsg, tfw, city); `label`
    has the attribute `source`, which begins with "simulated"; the geo file also holds `intended`, the class before
    label noise. The same arguments give the same bytes. The first patches of a split do not depend on the number of
    later ones.

    Args:
        out: folder to write; replaced in one step when everything is there.
        seed: root of all random numbers, not negative.
        patches: number of patches of training, validation and testing.
        cities: number of cities of each split; no city is in two splits.
        frequencies: "uniform", or "so2sat" for the class shares of So2Sat's training split.
        label_noise: share of labels that are replaced by a neighbouring class.
        sen1: "all" eight channels, or the two filtered "intensities" that ground-range-detected products have.

    Raises:
        UserError: if an argument is invalid or the folder cannot be written.
    """
    _check(seed, patches, cities, frequencies, label_noise)
    out = Path(out)
    if out.exists() and not out.is_dir():
        raise UserError(out, "exists and is not a folder; name another one for the simulated data")
    bands = SEN1_BANDS if sen1 == "all" else SEN1_INTENSITIES
    try:
        with (
            staged_folder(out) as folder,
            tqdm(total=sum(patches.values()), desc="simulate", unit="patch") as progress,
        ):
            first_city = 0
            for number, split in enumerate(SPLITS):
                count = patches[split]
                batches = _split_batches(seed, number, first_city, count, cities[split], frequencies, label_noise)
                _write_split(folder, split, bands, seed, count, batches, progress.update)
                first_city += cities[split]
    except OSError as error:
        if is_disk_full(error):
            raise
        raise UserError(out, f"cannot be written ({one_line(error)})") from error


@dataclass(frozen=True)
class _Batch:
    sen1: np.ndarray
    sen2: np.ndarray
    label: np.ndarray
    intended: np.ndarray
    epsg: np.ndarray
    tfw: np.ndarray
    city: np.ndarray


def _split_batches(
    seed: int, split: int, first_city: int, count: int, city_count: int, frequencies: str, label_noise: float
) -> Iterator[_Batch]:
    towns = [draw_city(seed, split, n, f"Simville-{first_city + n + 1:02d}") for n in range(city_count)]
    intended = class_sequence(seed, split, count, frequencies)
    town = city_sequence(seed, split, count, city_count)
    for start in range(0, count, BATCH):
        index = range(start, min(start + BATCH, count))
        here = [towns[town[i]] for i in index]
        rngs = [_generator(seed, split, 2, i) for i in index]
        label = [noisy_label(int(intended[i]), label_noise, rng) for i, rng in zip(index, rngs, strict=True)]
        sen1, sen2 = render([CODES[intended[i]] for i in index], here, rngs)
        yield _Batch(
            sen1=sen1,
            sen2=sen2,
            label=np.eye(CLASS_COUNT)[label],
            intended=intended[index.start : index.stop],
            epsg=np.array([[city.epsg] for city in here], dtype=np.int64),
            tfw=np.array([_footprint(city, i // city_count) for city, i in zip(here, index, strict=True)]),
            city=np.array([city.name.encode() for city in here]),
        )


def _write_split(
    folder: Path,
    split: str,
    bands: tuple[str, ...],
    seed: int,
    count: int,
    batches: Iterator[_Batch],
    advance: Callable[[int], object],
) -> None:
    positions = [SEN1_BANDS.index(band) for band in bands]
    source = f"simulated by bp-lcz simulate, seed {seed}: not measured data"
    channels = Channels(bands, SEN2_BANDS)
    with new_patches(
        folder / f"{split}.h5", channels, count, source=source, level="L1C", extra=("intended",)
    ) as writer:
        for batch in batches:
            writer.add(**{**vars(batch), "sen1": batch.sen1[..., positions]})
            advance(len(batch.label))
