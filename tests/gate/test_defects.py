"""Defects put into a copy of simulated data are caught by name; data without defects are left alone."""

import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import h5py
import numpy as np
import pytest

from bp_lcz.bands import SEN1_BANDS, SEN2_BANDS
from bp_lcz.demo.simulate import simulate
from bp_lcz.errors import UserError
from bp_lcz.gate import quality
from bp_lcz.gate.expectations import ENOUGH, SWAP, UNUSUAL_SWAP, Expectation, suite, tables
from bp_lcz.gate.quality import gate
from bp_lcz.gate.spectral import swaps
from bp_lcz.gate.statistics import patch_statistics
from bp_lcz.so2sat.layout import check_dataset, open_split
from bp_lcz.so2sat.published import PUBLISHED, Published
from tests.refusals import refuses

PATCHES = {"training": ENOUGH + 2, "validation": 17, "testing": 21}
CITIES = {"training": 4, "validation": 2, "testing": 2}
Arrays = dict[str, dict[str, np.ndarray]]


def make(folder: Path, seed: int = 1, frequencies: str = "uniform", sen1: str = "all", patches=PATCHES) -> Path:
    simulate(folder, seed=seed, patches=patches, cities=CITIES, frequencies=frequencies, label_noise=0.15, sen1=sen1)
    return folder


def load(root: Path) -> Arrays:
    arrays: Arrays = {}
    for split in PATCHES:
        with h5py.File(root / f"{split}.h5") as file:
            arrays[split] = {key: file[key][:] for key in ("sen1", "sen2", "label")}
    return arrays


def save(root: Path, arrays: Arrays, **options: object) -> Path:
    root.mkdir()
    for split, content in arrays.items():
        with h5py.File(root / f"{split}.h5", "w") as file:
            for key, values in content.items():
                file.create_dataset(key, data=values, **options)
    return root


@pytest.fixture(scope="module")
def clean(tmp_path_factory) -> Arrays:
    return load(make(tmp_path_factory.mktemp("defects") / "clean"))


@pytest.fixture(scope="module")
def release(clean, tmp_path_factory) -> Published:
    """The clean data as if they were a published release."""
    root = save(tmp_path_factory.mktemp("release") / "data", clean)
    classes = {split: content["label"].argmax(axis=1) for split, content in clean.items()}
    bands = (*SEN1_BANDS, *SEN2_BANDS)
    pixels = {s: np.concatenate([c["sen1"], c["sen2"]], axis=3).reshape(-1, 18) for s, c in clean.items()}
    return replace(
        PUBLISHED,
        class_counts={s: np.bincount(c, minlength=17).tolist() for s, c in classes.items()},
        first_testing=classes["testing"][:20].tolist(),
        mean={s: dict(zip(bands, p.mean(axis=0).tolist(), strict=True)) for s, p in pixels.items()},
        std={s: dict(zip(bands, p.std(axis=0).tolist(), strict=True)) for s, p in pixels.items()},
        header_bytes=(root / "testing.h5").stat().st_size - PUBLISHED.patch_bytes * PATCHES["testing"],
    )


def violated(root: Path, published: Published = PUBLISHED) -> dict[str, tuple[Expectation, list[str]]]:
    """Names of the violated expectations with their offenders, without the seconds of Great Expectations."""
    channels = check_dataset(root)
    tabled = tables(root, patch_statistics(root), channels, published)
    found = {}
    for expectation in suite(channels, reflectance_max=3.0, zeros_max=0.5, published=published):
        values = tabled[expectation.table][expectation.column].to_numpy(dtype=float)
        low = values < (-np.inf if expectation.minimum is None else expectation.minimum)
        high = values > (np.inf if expectation.maximum is None else expectation.maximum)
        rows = tabled[expectation.table].iloc[np.flatnonzero(low | high), 0].tolist()
        if rows:
            found[f"{expectation.target}: {expectation.name}"] = (expectation, rows)
    return found


def in_all(key: str, change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], None]:
    def inject(arrays: Arrays) -> None:
        for content in arrays.values():
            content[key] = change(content[key])

    return inject


def in_training(key: str, change: Callable[[np.ndarray], None]) -> Callable[[Arrays], None]:
    def inject(arrays: Arrays) -> None:
        arrays["training"][key] = arrays["training"][key].copy()
        change(arrays["training"][key])

    return inject


def permute(order: list[str]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda sen2: sen2[..., [SEN2_BANDS.index(band) for band in order]]


SWAPPED = [{"B08": "B12", "B12": "B08"}.get(band, band) for band in SEN2_BANDS]
TWICE = [{"B08": "B12"}.get(band, band) for band in SEN2_BANDS]


def interleave(arrays: Arrays) -> None:
    for content in arrays.values():
        sen1, sen2 = content["sen1"], content["sen2"]
        mixed = [part[..., i : i + 1] for i in range(8) for part in (sen1, sen2)] + [sen2[..., 8:]]
        both = np.concatenate(mixed, axis=3)
        content["sen1"], content["sen2"] = both[..., :8], both[..., 8:]


def repeat(source: str, target: str) -> Callable[[Arrays], None]:
    def inject(arrays: Arrays) -> None:
        for key in ("sen1", "sen2"):
            values = arrays[target][key].copy()
            values[11] = arrays[source][key][4]
            arrays[target][key] = values

    return inject


def set_value(position: object, value: object) -> Callable[[np.ndarray], None]:
    def change(values: np.ndarray) -> None:
        values[position] = value

    return change


DEFECTS: dict[str, tuple[Callable[[Arrays], None], str, str]] = {
    "digital numbers": (
        in_all("sen2", lambda values: np.round(1e4 * values)),
        "sen2: reflectance, not digital numbers",
        "B02 of training",
    ),
    "offset": (in_all("sen2", lambda v: v + 0.1), "sen2: no offset of +1000 digital numbers", "training.h5"),
    "B12 and B08 swapped": (
        in_all("sen2", permute(SWAPPED)),
        "sen2: no two bands in each other's place",
        "B08 and B12 of training",
    ),
    "B12 as B08 too": (in_all("sen2", permute(TWICE)), "sen2: no band stored twice", "B08 and B12 of training"),
    "interleaved, by radar": (interleave, "sen1: complex channels take both signs", "VH_imag of training"),
    "interleaved, by optics": (interleave, "sen2: each band goes with its neighbours", "B02 of training"),
    "dead band": (
        in_training("sen2", set_value((..., 4), 0.0)),
        "sen2: each band goes with its neighbours",
        "B06 of training",
    ),
    "reflectance out of range": (
        in_training("sen2", set_value((9, 3, 3, 2), 4.0)),
        "B04: reflectance at most 3",
        "training.h5[9]",
    ),
    "negative reflectance": (
        in_training("sen2", set_value((9, 3, 3, 2), -0.2)),
        "B04: reflectance at least 0",
        "training.h5[9]",
    ),
    "decibels": (
        in_all("sen1", lambda values: 10 * np.log10(np.abs(values) + 1e-9)),
        "VH_lee_intensity: intensity at least 0",
        "training.h5[0]",
    ),
    "uncalibrated radar": (
        in_all("sen1", lambda values: values * 1e7),
        "VV_lee_intensity: magnitude at most 100000",
        "training.h5[0]",
    ),
    "heavy tail": (
        in_all("sen1", lambda values: values * 300),
        "sen1: at most 1 % of values beyond 15",
        "VV_lee_intensity of training",
    ),
    "implausible backscatter": (
        in_all("sen1", lambda values: values * 1e-4),
        "sen1: median backscatter from -40 to +10 dB",
        "VH_lee_intensity of training",
    ),
    "VV and VH swapped": (
        in_all("sen1", lambda values: values[..., [2, 3, 0, 1, 5, 4, 6, 7]]),
        "sen1: VV brighter than VH",
        "training.h5",
    ),
    "blank patches": (
        in_training("sen2", set_value(slice(0, 30), 0.0)),
        "sen2: no blank patches, share of zeros at most 0.5",
        "training.h5[29]",
    ),
    "zeros": (in_training("sen1", set_value(5, 0.0)), "sen1: share of zeros at most 0.5", "training.h5[5]"),
    "not one-hot": (in_training("label", set_value((7, slice(None)), 1.0)), "label: one-hot label", "training.h5[7]"),
    "NaN": (in_training("sen1", set_value((7, 0, 0, 0), np.nan)), "pixels: all values finite", "training.h5[7]"),
    "duplicate across splits": (
        repeat("training", "testing"),
        "pixels: no identical patch in two splits",
        "testing.h5[11]",
    ),
    "duplicate in a split": (
        repeat("testing", "testing"),
        "pixels: no identical patch twice in a split",
        "testing.h5[4]",
    ),
    "another mean": (
        in_all("sen2", lambda v: v + 0.08),
        "bands: mean within one standard deviation of So2Sat's",
        "B02 of training",
    ),
    "another spread": (
        in_all("sen2", lambda v: 0.12 + 0.1 * (v - 0.12)),
        "bands: spread within a factor of three of So2Sat's",
        "B02 of training",
    ),
}
WARNINGS = {"heavy tail", "implausible backscatter", "duplicate in a split", "another mean", "another spread"}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_defect_is_caught_by_name(clean, tmp_path, defect):
    inject, name, offender = DEFECTS[defect]
    arrays = {split: dict(content) for split, content in clean.items()}
    inject(arrays)
    expectation, offenders = violated(save(tmp_path / "data", arrays))[name]
    assert offender in offenders
    assert expectation.warning == (defect in WARNINGS)


def test_the_first_offender_of_a_swap_is_the_pair_itself(clean, tmp_path):
    arrays = {split: dict(content) for split, content in clean.items()}
    DEFECTS["B12 and B08 swapped"][0](arrays)
    _, offenders = violated(save(tmp_path / "data", arrays))["sen2: no two bands in each other's place"]
    assert offenders[0] == "B08 and B12 of training"


@pytest.mark.parametrize(("key", "value"), [("sen2", np.nan), ("sen2", np.inf), ("sen1", -np.inf)])
def test_one_value_that_is_not_finite_is_no_verdict_on_bands_and_no_warning_of_numpy(clean, tmp_path, key, value):
    arrays = {split: dict(content) for split, content in clean.items()}
    in_training(key, set_value((7, 0, 0, 2), value))(arrays)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = violated(save(tmp_path / "data", arrays))
    # An infinite value is beyond the bounds of its own band, too.
    assert {offender for _, offenders in found.values() for offender in offenders} == {"training.h5[7]"}
    assert "pixels: all values finite" in found


def test_the_clean_copy_violates_nothing(clean, tmp_path):
    assert violated(save(tmp_path / "data", clean)) == {}


def test_the_gate_stops_at_a_swap_and_names_it(clean, tmp_path):
    arrays = {split: dict(content) for split, content in clean.items()}
    DEFECTS["B12 and B08 swapped"][0](arrays)
    root = save(tmp_path / "data", arrays)
    with refuses(root, "no two bands in each other's place", "1 pairs", "B08 and B12 of training"):
        gate(root, tmp_path / "gate", reflectance_max=3.0, zeros_max=0.5)


# ---- a split that claims to be one of a release


def relabel(arrays: Arrays) -> None:
    label = arrays["training"]["label"] = arrays["training"]["label"].copy()
    label[3] = np.roll(label[3], 1)


def reorder(arrays: Arrays) -> None:
    arrays["testing"] = {key: values[::-1] for key, values in arrays["testing"].items()}


def brighten(arrays: Arrays) -> None:
    arrays["validation"]["sen2"] = arrays["validation"]["sen2"] * 1.05


@pytest.mark.parametrize(
    ("inject", "name"),
    [
        (relabel, "training: patches of each class as in so2sat-v2"),
        (reorder, "label: first labels of testing as in so2sat-v2"),
        (brighten, "bands: mean as in so2sat-v2"),
        (brighten, "bands: spread as in so2sat-v2"),
    ],
)
def test_other_content_under_the_size_of_a_release_is_an_error(clean, release, tmp_path, inject, name):
    arrays = {split: dict(content) for split, content in clean.items()}
    inject(arrays)
    expectation, _ = violated(save(tmp_path / "data", arrays), release)[name]
    assert not expectation.warning


def test_a_release_that_was_packed_anew_is_a_warning(clean, release, tmp_path):
    root = save(tmp_path / "data", clean, dtype="f4", compression="gzip", compression_opts=1)
    found = violated(root, release)
    assert set(found) == {
        "layout: float64 as in so2sat-v2",
        "layout: one run of bytes as in so2sat-v2",
        "layout: file size as in so2sat-v2",
    }
    assert all(expectation.warning for expectation, _ in found.values())


def test_the_release_itself_violates_nothing(clean, release, tmp_path):
    assert violated(save(tmp_path / "data", clean), release) == {}


# ---- no false alarm


@pytest.mark.slow
@pytest.mark.parametrize("seed", [2, 3, 4])
@pytest.mark.parametrize(("frequencies", "sen1"), [("uniform", "intensities"), ("so2sat", "all")])
def test_other_simulated_data_violate_nothing(tmp_path, seed, frequencies, sen1):
    patches = dict.fromkeys(PATCHES, 2 * ENOUGH)
    assert violated(make(tmp_path / "data", seed, frequencies, sen1, patches)) == {}


@pytest.mark.shared
def test_real_patches_violate_nothing(shared_data):
    assert violated(shared_data / "real_mini") == {}


def listed(text: str) -> set[frozenset[str]]:
    return {frozenset(pair.split("/")) for pair in text.split()}


@pytest.mark.shared
def test_swaps_that_real_patches_do_not_show_are_those_that_adr_7_lists(shared_data):
    with open_split(shared_data / "real_mini", "training") as reader:
        means = np.concatenate([sen2.mean(axis=(1, 2), dtype=np.float64) for _, _, sen2 in reader.images(256)])
    seen: dict[str, set[frozenset[str]]] = {"error": set(), "warning": set(), "nothing": set()}
    for i, j in combinations(range(len(SEN2_BANDS)), 2):
        order = np.arange(len(SEN2_BANDS))
        order[[i, j]] = j, i
        rise = max((found[2] for found in swaps(means[:, order], UNUSUAL_SWAP)), default=0.0)
        verdict = "error" if rise > SWAP else "warning" if rise > UNUSUAL_SWAP else "nothing"
        seen[verdict].add(frozenset((SEN2_BANDS[i], SEN2_BANDS[j])))
    assert seen["warning"] == listed("B02/B03 B02/B04 B02/B12 B03/B12 B04/B05 B04/B11 B05/B8A B05/B12")
    assert seen["nothing"] == listed("B03/B04 B04/B12 B05/B11 B06/B07 B06/B08 B06/B8A B07/B08 B07/B8A B08/B8A B11/B12")
    assert len(seen["error"]) == 27


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS)
def test_great_expectations_sees_what_the_tables_show(clean, tmp_path, monkeypatch, defect):
    inject, name, _ = DEFECTS[defect]
    arrays = {split: dict(content) for split, content in clean.items()}
    inject(arrays)
    root = save(tmp_path / "data", arrays)
    outcomes = []
    run = quality._run
    monkeypatch.setattr(quality, "_run", lambda *args: outcomes.extend(run(*args)) or outcomes)
    expected = violated(root)
    # Some injections, such as a heavy tail, go beyond a bound whose violation is an error, too.
    is_error = any(not expectation.warning for expectation, _ in expected.values())
    with pytest.raises(UserError) if is_error else nullcontext():
        gate(root, tmp_path / "gate", reflectance_max=3.0, zeros_max=0.5)
    seen = {f"{o.expectation.target}: {o.expectation.name}" for o in outcomes if o.violations}
    # The leakage guard comes to the suite from elsewhere, and sees copies as near-duplicates.
    guard = {"pixels: no near-duplicates in two splits"} if defect == "duplicate across splits" else set()
    assert seen == expected.keys() | guard
    assert name in seen
