"""Divides patches with geo files into training, validation and testing that do not share ground."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from tqdm import tqdm

from bp_lcz.errors import UserError
from bp_lcz.files import staged_folder
from bp_lcz.gate.leakage import OVERLAP_M, footprint_distance
from bp_lcz.params import SPLITS
from bp_lcz.scheme import CLASS_COUNT, CODES
from bp_lcz.so2sat.geo import Geo, read_geo_of
from bp_lcz.so2sat.ground import near_across
from bp_lcz.so2sat.layout import KEYS, SplitReader, open_patches
from bp_lcz.so2sat.writer import new_patches
from bp_lcz.words import counted

_ROWS = 128
_DEALS = 20
"""Most attempts to deal units out so that no split lacks a class that it could have."""


@dataclass(frozen=True)
class SplitRule:
    """How patches are divided.

    Attributes:
        by: whole cities, square blocks of each projection's grid, or places of polygons, which only `tile` knows.
        shares: shares of the patches for training, validation and testing. If `testing` names files, the first two
            divide the other files.
        block_m: side of a block in m; None takes a sixth of the largest city, at least 640 m and at most 5 km.
        gap_m: smallest distance of footprints' corners between two splits in m, 320 or more.
        seed: seed of the order in which cities or blocks are dealt out.
        testing: names of files whose patches all go to testing. Only the others are dealt out.
    """

    by: Literal["city", "block", "polygon"] = "block"
    shares: tuple[float, float, float] = (0.7, 0.1, 0.2)
    block_m: float | None = None
    gap_m: float = OVERLAP_M
    seed: int = 1
    testing: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        # Conditions say what must hold, since each comparison with NaN is false.
        if not (all(share > 0 for share in self.shares) and abs(sum(self.shares) - 1) <= 1e-6):
            raise UserError(f"--shares {' '.join(f'{s:g}' for s in self.shares)}", "three positive numbers of sum 1")
        if not OVERLAP_M <= self.gap_m < np.inf:
            raise UserError(
                f"--gap {self.gap_m:g}", f"expected at least {OVERLAP_M:g} m, nearer than which patches overlap"
            )
        if self.block_m is not None and not 0 < self.block_m < np.inf:
            raise UserError(f"--block-size {self.block_m:g}", "a block has a positive, finite side in m")


def split_folders(folders: Sequence[Path], out: Path, rule: SplitRule) -> list[str]:
    """Write a data set of all patches of some folders; see `write_splits`.

    Args:
        folders: folders with files of patches and their ``_geo.h5``.
        out: folder to make.
        rule: how to divide.

    Returns:
        A line for each split, and one for the patches left out.

    Raises:
        UserError: if a folder has no patches or is given twice, a file lacks its geo file or is not in form, files
            differ in channels or processing level, there are fewer than three cities or blocks, or `out` holds
            something already.
    """
    files: list[Path] = []
    seen: set[Path] = set()
    for folder in folders:
        if folder.resolve() in seen:
            raise UserError(folder, "given twice; its patches would stand twice in the data set")
        seen.add(folder.resolve())
        here = sorted(path for path in folder.glob("*.h5") if not path.stem.endswith("_geo"))
        if not here:
            missing = "is a file; name its folder" if folder.exists() else "no such folder"
            raise UserError(folder, "holds no HDF5 files of patches" if folder.is_dir() else missing)
        files += here
    with new_folder(out) as target:
        return write_splits(files, target, rule)


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """A folder that appears as `out` when the block ends without an exception. It never replaces anything."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(out, "exists and is not empty; name a new folder")
    with staged_folder(out) as folder:
        yield folder


def write_splits(
    files: Sequence[Path], out: Path, rule: SplitRule, unit: Int[np.ndarray, " patch"] | None = None
) -> list[str]:
    """Stream all patches of some files into ``training.h5``, ``validation.h5``, ``testing.h5`` and geo files in `out`.

    Types, channels and ``source`` are kept; arrays are contiguous. If `unit` is given, each class gets its shares.
    """
    with ExitStack() as stack:
        readers = [stack.enter_context(open_patches(path)) for path in files]
        _check_alike(readers)
        geos = []
        for reader in readers:
            geo = read_geo_of(reader.path, reader.count)
            if geo is None:
                raise UserError(reader.path, f"no {reader.path.stem}_geo.h5 beside it; a split needs to know places")
            geos.append(geo)
        geo = Geo(*(np.concatenate([getattr(g, key) for g in geos]) for key in ("city", "epsg", "tfw")))
        label = np.concatenate([reader.labels() for reader in readers])
        is_testing = np.concatenate([np.full(reader.count, reader.path.name in rule.testing) for reader in readers])
        if missing := set(rule.testing) - {path.name for path in files}:
            raise UserError(f"--testing {sorted(missing)[0]}", "no such file of patches in the folders")
        part = assign(geo, rule, is_testing, unit, None if unit is None else label > 0)
        _write(readers, geo, part, out)
    return _account(part, label, rule)


def assign(
    geo: Geo,
    rule: SplitRule,
    is_testing: Bool[np.ndarray, " patch"] | None = None,
    unit: Int[np.ndarray, " patch"] | None = None,
    strata: Bool[np.ndarray, "patch stratum"] | None = None,
) -> Int[np.ndarray, " patch"]:
    """Split of each patch: 0 training, 1 validation, 2 testing, -1 left out because of the gap.

    Units are dealt out in random order, each to the split that lacks most of its share. Then validation loses patches
    nearer than the gap to testing, and training those nearer to either. If a split is then empty, or lacks a stratum
    that it could have, units are dealt out again.

    Args:
        geo: where the patches lie.
        rule: how to divide.
        is_testing: patches that must be testing. The others are dealt out to training and validation.
        unit: number of the group of each patch that stays together; None takes cities or blocks by the rule.
        strata: kinds of patches, such as classes. Every split gets its share of each; None means one kind.

    Raises:
        UserError: if there are fewer units than splits, if a city is in testing and in other files, too, or if the gap
            leaves a split empty.
    """
    fixed = np.zeros(len(geo.city), dtype=bool) if is_testing is None else is_testing
    if rule.by == "city" and (torn := set(geo.city[fixed]) & set(geo.city[~fixed])):
        raise UserError(f"--testing of {sorted(torn)[0]}", "has patches in other files, too, and cities stay whole")
    count = len(SPLITS) - bool(fixed.any())
    if unit is None:
        unit = _units(Geo(geo.city[~fixed], geo.epsg[~fixed], geo.tfw[~fixed]), rule)
    strata = np.ones((len(fixed), 1), dtype=bool) if strata is None else strata[:, strata.any(axis=0)]
    sizes = np.zeros((unit.max(initial=-1) + 1, strata.shape[1]))
    np.add.at(sizes, unit, strata[~fixed])
    if len(sizes) < count:
        needed = "two" if fixed.any() else "three"
        raise UserError(
            f"--by {rule.by}", f"{counted(len(sizes), rule.by)} cannot make {needed} splits; {_MORE[rule.by]}"
        )
    draw = np.random.default_rng(rule.seed)
    unavoidable = np.maximum(count - (sizes > 0).sum(axis=0), 0).sum()
    deals = []
    for _ in range(_DEALS):
        part = np.full(len(fixed), len(SPLITS) - 1)
        part[~fixed] = _deal(rule.shares[:count], sizes, draw.permutation(len(sizes)))[unit]
        for loser in (1, 0):
            part[_near(geo, part == loser, part > loser, rule.gap_m)] = -1
        present = np.array([strata[part == number].any(axis=0) for number in range(len(SPLITS))])
        deals.append(((~present).sum(), part))
        if deals[-1][0] <= unavoidable:
            return part
    full = [deal for deal in deals if all((deal[1] == number).any() for number in range(len(SPLITS)))]
    if full:
        return min(full, key=lambda deal: int(deal[0]))[1]
    empty = next(split for number, split in enumerate(SPLITS) if not (part == number).any())
    raise UserError(
        f"--gap {rule.gap_m:g}", f"leaves no patch in {empty}; take larger blocks, another seed or more data"
    )


_MORE = {
    "city": "take --by block",
    "block": "take a smaller --block-size",
    "polygon": "draw polygons in more places",
}


def _deal(
    shares: Sequence[float], sizes: Float[np.ndarray, "unit stratum"], order: Int[np.ndarray, " unit"]
) -> Int[np.ndarray, " unit"]:
    """Split of each unit."""
    owner = np.full(len(sizes), -1)
    total = sizes.sum(axis=0)
    lacking = np.outer(np.array(shares) / sum(shares), total)
    present = np.zeros(lacking.shape, dtype=bool)
    to_come = (sizes > 0).sum(axis=0)
    for one in order:
        its = np.flatnonzero(sizes[one])
        # Splits that must get this unit: as many units of a stratum are left as splits that have none of it.
        must = ~present[:, its] & (to_come[its] <= (~present[:, its]).sum(axis=0))
        candidates = np.flatnonzero(must.any(axis=1)) if must.any() else np.arange(len(shares))
        need = (lacking[:, its] / total[its]) @ (sizes[one, its] / total[its])
        chosen = candidates[need[candidates].argmax()]
        owner[one] = chosen
        lacking[chosen] -= sizes[one]
        present[chosen, its] = True
        to_come[its] -= 1
    return owner


def _units(geo: Geo, rule: SplitRule) -> Int[np.ndarray, " patch"]:
    """Number of the city or block of each patch."""
    if rule.by == "city":
        return np.unique(geo.city, return_inverse=True)[1].ravel()
    block_m = rule.block_m or _block_size(geo)
    block = [np.floor(axis / block_m).astype(np.int64) for axis in (geo.easting, geo.northing)]
    return np.unique(np.stack([geo.epsg, *block], axis=1), axis=0, return_inverse=True)[1].ravel()


def _block_size(geo: Geo) -> float:
    extent = 0.0
    for city in np.unique(geo.city):
        for axis in (geo.easting, geo.northing):
            extent = max(extent, float(np.ptp(axis[geo.city == city])))
    return float(np.clip(extent / 6, 640, 5000))


def _near(
    geo: Geo, losing: Bool[np.ndarray, " patch"], keeping: Bool[np.ndarray, " patch"], gap_m: float
) -> Int[np.ndarray, " near"]:
    """Indices of the losing patches that are nearer than the gap to a kept one."""
    found = [np.zeros(0, dtype=np.int64)]
    for epsg in np.unique(geo.epsg):
        here, there = (np.flatnonzero(which & (geo.epsg == epsg)) for which in (losing, keeping))
        corners, others = (np.stack([geo.easting[i], geo.northing[i]], axis=1) for i in (here, there))
        distance, _ = footprint_distance(corners, others)
        found.append(here[distance < gap_m - 1e-6])
    loser, keeper = (Geo(geo.city[which], geo.epsg[which], geo.tfw[which]) for which in (losing, keeping))
    across, _, _ = near_across(loser, keeper, gap_m - 1e-6)
    return np.unique(np.concatenate([*found, np.flatnonzero(losing)[across]]))


def _check_alike(readers: Sequence[SplitReader]) -> None:
    for reader in readers[1:]:
        if reader.channels != readers[0].channels:
            raise UserError(
                reader.path,
                f"has the channels {', '.join(reader.channels.names)} but {readers[0].path.name} "
                f"has {', '.join(readers[0].channels.names)}",
            )
    known = [reader for reader in readers if reader.level is not None]
    for reader in known[1:]:
        if reader.level != known[0].level:
            raise UserError(
                reader.path, f"is of level {reader.level}, but {known[0].path.name} of level {known[0].level}"
            )


def _write(readers: Sequence[SplitReader], geo: Geo, part: Int[np.ndarray, " patch"], out: Path) -> None:
    dtypes = {
        key: np.result_type(*(array.dtype for array in arrays))
        for key, arrays in zip(KEYS, zip(*(reader.arrays for reader in readers), strict=True), strict=True)
    }
    city = np.array([name.encode() for name in geo.city.tolist()])
    sources = sorted({reader.source for reader in readers if reader.source})
    level = readers[0].level if len({reader.level for reader in readers}) == 1 else None
    with (
        ExitStack() as stack,
        tqdm(total=len(part), desc="split", unit="patch") as progress,
    ):
        writers = [
            stack.enter_context(
                new_patches(
                    out / f"{split}.h5",
                    readers[0].channels,
                    int((part == number).sum()),
                    dtypes,
                    source="; ".join(sources) or None,
                    level=level,
                    city_bytes=city.itemsize,
                )
            )
            for number, split in enumerate(SPLITS)
        ]
        first = 0
        for reader in readers:
            for _, *arrays in reader.chunks(_ROWS):
                rows = slice(first, first + len(arrays[0]))
                first = rows.stop
                for number, writer in enumerate(writers):
                    chosen = part[rows] == number
                    images = {key: values[chosen] for key, values in zip(KEYS, arrays, strict=True)}
                    writer.add(
                        **images, city=city[rows][chosen], epsg=geo.epsg[rows][chosen], tfw=geo.tfw[rows][chosen]
                    )
                progress.update(len(arrays[0]))


def _account(part: Int[np.ndarray, " patch"], label: np.ndarray, rule: SplitRule) -> list[str]:
    present = [set(np.flatnonzero(label[part == number].any(axis=0)).tolist()) for number in range(len(SPLITS))]
    known = set().union(*present)
    lines = []
    for number, split in enumerate(SPLITS):
        missing = [CODES[c] for c in range(CLASS_COUNT) if c in known - present[number]]
        lack = f"; without LCZ {', '.join(missing)}" if missing else ""
        patches, classes = counted(int((part == number).sum()), "patch"), counted(len(present[number]), "class")
        lines.append(f"{split:<10}  {patches} of {classes}{lack}")
    left_out = counted(int((part < 0).sum()), "patch")
    lines.append(f"left out    {left_out} nearer than {rule.gap_m:g} m to another split")
    if len(present[SPLITS.index("validation")]) == 1 < len(known):
        few = "validation has one class alone, so its loss and not kappa tells which epoch of training is kept"
        lines.append(f"warning: {few}; take another --seed, or draw two classes in three places or more")
    return lines


def rule_from(
    by: str, shares: Any, block_m: float | None, gap_m: float, seed: int, testing: Sequence[str] = ()
) -> SplitRule:
    """The rule that a command line asks for."""
    if by not in ("city", "block"):
        raise UserError(f"--by {by}", "expected city or block")
    return SplitRule("city" if by == "city" else "block", tuple(shares), block_m, gap_m, seed, tuple(testing))
