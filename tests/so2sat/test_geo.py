"""Where patches lie, and geo files out of form."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from bp_lcz.so2sat.geo import read_geo
from bp_lcz.so2sat.layout import check_dataset
from tests.refusals import refuses
from tests.so2sat.patches import write_dataset, write_geo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_dataset(tmp_path / "mine")


def test_geo_is_none_without_a_file(root):
    assert read_geo(root, "training") is None


def test_geo_gives_city_projection_and_position(tmp_path):
    write_dataset(tmp_path, cities={"training": 3, "validation": 2, "testing": 2})
    geo = read_geo(tmp_path, "training")
    assert geo is not None
    assert geo.city[:4].tolist() == [f"training city {c}" for c in (0, 1, 2, 0)]
    assert geo.epsg.tolist() == [32632] * 34
    assert geo.easting[:4].tolist() == [500_000, 500_000, 500_000, 500_320]
    assert geo.northing[:3].tolist() == [5_000_000, 5_100_000, 5_200_000]


def test_geo_of_another_length_is_refused(root):
    write_geo(root, "testing", count=16, cities=2)
    with refuses(root / "testing_geo.h5", "city", "(16,)", "(17, 1)"):
        check_dataset(root)


def test_geo_with_tfw_in_another_order_is_refused(root):
    write_geo(root, "testing", count=17, cities=2)
    with h5py.File(root / "testing_geo.h5", "a") as file:
        file["tfw"][3] = [500_000, 10, 0, 5_000_000, 0, -10]
    with refuses(root / "testing_geo.h5", "tfw[3]", "[500000.0, 10.0"):
        check_dataset(root)


@pytest.mark.parametrize(
    ("key", "values", "facts"),
    [
        ("tfw", np.where(np.arange(6) == 4, np.nan, [10.0, 0, 0, -10, 0, 0]) * np.ones((17, 1)), ["tfw[0]", "finite"]),
        ("epsg", np.array([[b"EPSG:32632"]] * 17), ["epsg", "|S10"]),
    ],
)
def test_geo_without_numbers_is_refused(root, key, values, facts):
    write_geo(root, "testing", count=17, cities=2)
    with h5py.File(root / "testing_geo.h5", "a") as file:
        del file[key]
        file[key] = values
    with refuses(root / "testing_geo.h5", *facts):
        check_dataset(root)


def test_geo_without_a_key_is_refused(root):
    write_geo(root, "testing", count=17, cities=2)
    with h5py.File(root / "testing_geo.h5", "a") as file:
        del file["epsg"]
    with refuses(root / "testing_geo.h5", "key epsg"):
        check_dataset(root)
