"""The one writer: what it leaves on disk is what the reader reads, and what HDF5 sees."""

import h5py
import numpy as np
import pytest

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.so2sat.geo import read_geo_of, world_files
from bp_lcz.so2sat.layout import open_patches
from bp_lcz.so2sat.writer import new_patches
from tests.so2sat.patches import random_patches

TWO = Channels(("VH_lee_intensity", "VV_lee_intensity"), ALL_CHANNELS.sen2)


def places(count: int, city: str = "Berlin") -> dict[str, np.ndarray]:
    east = 500_000.0 + 320 * np.arange(count)
    return {
        "city": np.full(count, city.encode()),
        "epsg": np.full(count, 32633),
        "tfw": world_files(east, np.full(count, 5_800_000.0)),
    }


@pytest.mark.parametrize("count", [7, None], ids=["counted", "growing"])
@pytest.mark.parametrize("channels", [ALL_CHANNELS, TWO], ids=["official", "two"])
def test_what_is_written_in_pieces_is_read_as_one(tmp_path, count, channels):
    sen1, sen2, label = random_patches(7, channels)
    with new_patches(tmp_path / "a.h5", channels, count, source="Zürich", level="L2A") as writer:
        for rows in (slice(0, 3), slice(3, 3), slice(3, 7)):
            where = {key: values[rows] for key, values in places(7).items()}
            writer.add(sen1=sen1[rows], sen2=sen2[rows], label=label[rows], **where)
        assert writer.count == 7
    with open_patches(tmp_path / "a.h5") as reader:
        assert (reader.channels, reader.source, reader.level, reader.count) == (channels, "Zürich", "L2A", 7)
        assert all((array.offset is None) == (count is None) for array in reader.arrays)
        (_, *arrays), *_ = reader.chunks(7)
    for found, expected in zip(arrays, (sen1, sen2, label), strict=True):
        np.testing.assert_array_equal(found, expected)
    geo = read_geo_of(tmp_path / "a.h5", 7)
    assert geo is not None
    np.testing.assert_array_equal(geo.tfw, places(7)["tfw"])
    assert (set(geo.city), set(geo.epsg)) == ({"Berlin"}, {32633})


@pytest.mark.parametrize(("city", "stored"), [("Berlin", "S60"), ("ü" * 40, "S80")])
def test_cities_are_of_one_type_and_whole(tmp_path, city, stored):
    sen1, sen2, _ = random_patches(2, TWO)
    with new_patches(tmp_path / "a.h5", TWO, 2, has_labels=False, city_bytes=len(city.encode())) as writer:
        writer.add(sen1=sen1, sen2=sen2, **places(2, city))
    with h5py.File(tmp_path / "a.h5") as file, h5py.File(tmp_path / "a_geo.h5") as geo:
        assert sorted(file) == ["sen1", "sen2"]
        assert geo["city"].dtype == stored
    found = read_geo_of(tmp_path / "a.h5", 2)
    assert found is not None
    assert set(found.city) == {city}
