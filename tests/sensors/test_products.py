"""Products as people download them, built small: read with the values of their rasters, or refused in one line."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from bp_lcz.bands import SEN2_BANDS
from bp_lcz.errors import UserError
from bp_lcz.scenes.scene import Scene, SceneOptions, Strip, opened_scene
from tests.scenes.rasters import optical, radar, write_tif
from tests.scenes.safe import L1C, RESOLUTION, STEM, ground, write_band, write_item, write_safe, zipped

SIDE, INSIDE = 120, np.s_[20:140, 20:140]
FINE = [number for number, band in enumerate(SEN2_BANDS) if RESOLUTION.get(band) == 10]


def read(*s2: Path, **said: Any) -> tuple[Scene, Strip]:
    with opened_scene(SceneOptions(s2, **said)) as scene:
        return scene, scene.strip(0, scene.grid.height)


def refused(*s2: Path, **said: Any) -> UserError:
    with pytest.raises(UserError) as caught, opened_scene(SceneOptions(s2, **said)) as scene:
        scene.strip(0, scene.grid.height)
    assert "\n" not in str(caught.value)
    return caught.value


def check_values(strip: Strip, bands: dict[str, np.ndarray], offset: int = 0) -> None:
    """Bands of 10 m are those stored, others near what they average."""
    expected = np.stack([bands[band] for band in SEN2_BANDS]) / 1e4 - offset / 1e4
    found = strip.sen2[:, *INSIDE]
    assert strip.sen2_known[INSIDE].all()
    assert strip.sen2_known.sum() == SIDE**2
    np.testing.assert_allclose(found[FINE], np.maximum(expected, 0)[FINE], atol=1e-7)
    land = np.s_[:, : SIDE - 16, : SIDE - 16]
    assert np.abs(found[land] - expected[land]).max() < 0.006
    np.testing.assert_allclose(found[land].mean(axis=(1, 2)), expected[land].mean(axis=(1, 2)), atol=1e-4)


@pytest.mark.parametrize("kind", ["folder", "zip", "xml"])
@pytest.mark.parametrize("level", ["1C", "2A"])
def test_a_safe_product_is_read_with_what_its_xml_says(tmp_path, kind, level):
    bands = ground(SIDE, 1000)
    folder = write_safe(tmp_path / f"S2A_MSIL{level}_x.SAFE", bands, level)
    path = {"folder": folder, "zip": zipped(folder), "xml": folder / f"MTD_MSIL{level}.xml"}[kind]
    scene, strip = read(path)
    check_values(strip, bands, 1000)
    assert scene.level == f"L{level}"
    (found,) = scene.findings.files
    assert found.bands["B05"].startswith(STEM)
    assert found.bands["B05"].endswith("B05.jp2, band 1" if level == "1C" else "B05_20m.jp2, band 1")
    assert any("ADD_OFFSET -1000, baseline 04.00" in line for line in scene.lines)
    assert found.size > 10_000


@pytest.mark.parametrize("level", ["1C", "2A"])
@pytest.mark.parametrize("carried", [0, 1000])
@pytest.mark.parametrize(
    ("stated", "baseline", "means"),
    [("-1000", "05.09", 1000), ("0", "04.00", 0), (None, "02.06", 0), (None, "05.00", None)],
)
def test_offset_of_pixels_and_of_product_agree_or_are_both_shown(tmp_path, level, carried, stated, baseline, means):
    bands = ground(SIDE, carried)
    path = write_safe(tmp_path / "x.SAFE", bands, level, stated, baseline)
    if means in (None, carried):
        check_values(read(path)[1], bands, carried)
    else:
        error = refused(path)
        assert error.where == str(path)
        assert "MTD_MSI" in error.what
        assert "darkest pixels" in error.what
        check_values(read(path, s2_offset=float(carried))[1], bands, carried)


@pytest.mark.parametrize("carried", [0, 1000])
@pytest.mark.parametrize("tag", [None, 0.0, -0.1])
@pytest.mark.parametrize("name", ["x.tif", "S2A_MSIL1C_N0206_x.tif", "S2A_MSIL2A_N0509_x.tif"])
def test_offset_of_pixels_tags_and_names_agree_or_are_both_shown(tmp_path, carried, tag, name):
    path = write_tif(tmp_path / name, optical(offset=carried), names=list(SEN2_BANDS))
    if tag is not None:
        with rasterio.open(path, "r+") as file:
            file.scales, file.offsets = [1e-4] * 10, [tag] * 10
    by_name = {"N0206": 0, "N0509": 1000}.get(name[11:16])
    means = by_name if tag is None else round(-tag * 1e4)
    if means in (None, carried):
        scene, strip = read(path)
        np.testing.assert_allclose(strip.sen2[:, strip.sen2_known].max() * 1e4, optical().max(), atol=0.01)
        assert scene.level == {"1C": "L1C", "2A": "L2A"}.get(name[8:10])
    else:
        assert refused(path).where == str(path)


COMMON = dict(
    zip(
        SEN2_BANDS,
        ["blue", "green", "red", "rededge1", "rededge2", "rededge3", "nir", "nir08", "swir16", "swir22"],
        strict=True,
    )
)


@pytest.mark.parametrize(
    "stem",
    [
        lambda band: f"{STEM}_{band}.jp2",
        lambda band: f"{band}_{RESOLUTION.get(band, 20)}m.tif",
        lambda band: f"{COMMON[band]}.tif",
        lambda band: f"sub/{band.replace('B0', 'B')}_median.tiff",
    ],
    ids=["JP2", "resolution", "common", "median"],
)
def test_a_folder_of_one_file_a_band_is_one_scene(tmp_path, stem):
    bands = ground(SIDE)
    for band in SEN2_BANDS:
        write_band(tmp_path / "scene" / stem(band), bands[band], RESOLUTION.get(band, 20))
    write_band(tmp_path / "scene/SCL_20m.tif", bands["B02"], 20)
    check_values(read(tmp_path / "scene")[1], bands)


def test_of_a_band_in_several_resolutions_the_finest_is_taken_and_of_two_equal_ones_none(tmp_path):
    bands = ground(SIDE)
    for band in SEN2_BANDS:
        write_band(tmp_path / f"scene/{band}_{RESOLUTION.get(band, 20)}m.tif", bands[band], RESOLUTION.get(band, 20))
    write_band(tmp_path / "scene/B02_60m.tif", bands["B03"], 60)
    check_values(read(tmp_path / "scene")[1], bands)
    write_band(tmp_path / "scene/blue.tif", bands["B03"], 10)
    error = refused(tmp_path / "scene")
    assert "blue.tif" in error.what
    assert "B02_10m.tif" in error.what


@pytest.mark.parametrize("names", ["eo:bands", "bands", "keys", "one file"])
@pytest.mark.parametrize("carried", [0, 1000])
def test_a_stac_item_with_local_files_is_a_scene(tmp_path, names, carried):
    bands = ground(SIDE, carried)
    said = {"scale": 1e-4, "offset": -carried / 1e4}
    if names == "one file":
        write_tif(tmp_path / "all.tif", np.stack([bands[b] for b in SEN2_BANDS]).astype(np.uint16))
        listed = [{"name": band} for band in SEN2_BANDS]
        assets = {"data": {"href": "all.tif", "eo:bands": listed, "raster:bands": [said] * 10}}
    else:
        assets = {"thumbnail": {"href": "https://example.org/blue.png", "roles": ["thumbnail"]}}
        for band in SEN2_BANDS:
            file = write_band(tmp_path / f"files/{band} x.tif", bands[band], RESOLUTION.get(band, 20))
            key = COMMON[band] if names == "keys" else f"asset{band}"
            assets[key] = {"href": f"./files/{file.name.replace(' ', '%20')}", "raster:bands": [said]}
            if names != "keys":
                assets[key][names] = [{"name": band, "common_name": COMMON[band]}]
    item = write_item(tmp_path / "item.json", assets, **{"processing:level": "L2A"})
    scene, strip = read(item)
    check_values(strip, bands, carried) if names != "one file" else None
    assert scene.level == "L2A"
    assert any("of item.json" in line for line in scene.lines)
    assert np.median(strip.sen2[0][INSIDE]) == pytest.approx(0.1125, abs=0.003)


def test_a_stac_item_that_contradicts_its_pixels_is_refused_unless_it_says_that_they_are_harmonised(tmp_path):
    bands = ground(SIDE)
    assets = {
        COMMON[band]: {
            "href": write_band(tmp_path / f"{band}.tif", bands[band], RESOLUTION.get(band, 20)).name,
            "raster:bands": [{"scale": 1e-4, "offset": -0.1}],
        }
        for band in SEN2_BANDS
    }
    assert "darkest pixels" in refused(write_item(tmp_path / "wrong.json", assets)).what
    applied = write_item(tmp_path / "right.json", assets, **{"earthsearch:boa_offset_applied": True})
    check_values(read(applied)[1], bands)


@pytest.mark.parametrize("href", ["https://x.org/B02.tif", "s3://b/B02.tif", "/vsicurl/https://x.org/B02.tif", ""])
def test_remote_files_of_an_item_are_refused(tmp_path, href):
    error = refused(write_item(tmp_path / "item.json", {"blue": {"href": href}}))
    assert error.where in (str(tmp_path / "item.json"), str(tmp_path))


@pytest.mark.parametrize("offset", [[1], "x", -0.3, {}, float("inf")])
def test_an_item_with_another_offset_is_refused(tmp_path, offset):
    bands = ground(SIDE)
    assets = {
        COMMON[band]: {
            "href": write_band(tmp_path / f"{band}.tif", bands[band], 20).name,
            "raster:bands": [{"scale": 1e-4, "offset": offset}],
        }
        for band in SEN2_BANDS
    }
    item = write_item(tmp_path / "item.json", assets)
    assert refused(item).where == str(item)


@pytest.mark.parametrize("scale", [1e-3, 2e-4, "much", 0, -1e-4])
def test_a_scale_that_an_item_states_is_used_or_refused(tmp_path, scale):
    bands = ground(SIDE, 0)
    factor = 1e-4 / scale if isinstance(scale, float) and scale > 0 else 1.0
    assets = {}
    for band, values in bands.items():
        write_tif(tmp_path / f"{band}.tif", np.round(values * factor).astype(np.float32)[None])
        assets[band] = {"href": f"{band}.tif", "raster:bands": [{"scale": scale}]}
    item = write_item(tmp_path / "item.json", assets)
    if factor == 1.0:
        assert refused(item).where == str(item)
        return
    land = np.s_[:, : SIDE - 16, : SIDE - 16]  # of the dark corner few whole numbers are left
    expected = np.stack([bands[band] for band in SEN2_BANDS]) / 1e4
    np.testing.assert_allclose(read(item)[1].sen2[:, *INSIDE][land], expected[land], atol=6e-4)
    for band, values in bands.items():
        write_tif(tmp_path / f"{band}.tif", values.astype(np.uint16)[None])
    if scale == 1e-3:
        assert "scale" in refused(item).what


@pytest.mark.parametrize("text", ["", "[]", '{"assets": 3}', '{"assets": {"a": 1}}', '{"assets": {}}', "{" * 9999])
def test_what_is_no_item_is_refused(tmp_path, text):
    path = tmp_path / "item.json"
    path.write_text(text)
    assert refused(path).where == str(path)


@pytest.mark.parametrize("name", ["/etc/x.jp2", "../x_B02.jp2", "a/../../x.jp2", "..\\x.jp2", "C:/x.jp2"])
def test_a_zip_with_a_path_outside_itself_is_refused(tmp_path, name):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, b"")
    error = refused(path)
    assert error.where == str(path)
    assert "outside" in error.what


@pytest.mark.parametrize(
    "damage",
    ["truncated zip", "no zip", "zip of the future", "two products", "no bands", "truncated band", "other ground"],
)
def test_a_damaged_product_is_one_line(tmp_path, damage):
    bands = ground(SIDE, 1000)
    folder = write_safe(tmp_path / "x.SAFE", bands)
    path, where = folder, str(folder)
    band = folder / f"GRANULE/L_T33UUU_A0/IMG_DATA/{STEM}_B03.jp2"
    if "zip" in damage:
        path = zipped(folder)
        content = path.read_bytes()
        entry = content.index(b"PK\x01\x02")  # the first of the table of contents; its version stands at 6
        future = content[: entry + 6] + b"\xff" + content[entry + 7 :]
        path.write_bytes({"truncated zip": content[:5000], "no zip": b"PK", "zip of the future": future}[damage])
        where = str(path)
    elif damage == "two products":
        (folder / "MTD_MSIL2A.xml").write_text("")
    elif damage == "no bands":
        path = tmp_path / "empty"
        path.mkdir()
        where = str(path)
    elif damage == "truncated band":
        band.write_bytes(band.read_bytes()[: band.stat().st_size * 2 // 3])
    else:
        write_band(band, bands["B03"], 10, transform=rasterio.Affine(10, 0, 0, 0, -10, 0))
        where = str(band)
    error = refused(path)
    assert error.where == where
    assert damage != "truncated band" or band.name in error.what


def test_metadata_that_a_zip_holds_compressed_and_damaged_are_one_line(tmp_path):
    folder, path = write_safe(tmp_path / "x.SAFE", ground(SIDE, 1000)), tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(folder.parent))
        metadata = next(one for one in archive.infolist() if one.filename.endswith(".xml"))
    content = bytearray(path.read_bytes())
    begin = metadata.header_offset + 30 + len(metadata.filename)
    content[begin : begin + metadata.compress_size] = b"\xff" * metadata.compress_size
    path.write_bytes(content)
    assert refused(path).where == str(path)


def test_a_zip_whose_checksums_do_not_hold_is_refused(tmp_path):
    path = zipped(write_safe(tmp_path / "x.SAFE", ground(SIDE, 1000)))
    with zipfile.ZipFile(path) as archive:
        band = next(one for one in archive.infolist() if one.filename.endswith("_B07.jp2"))
    content = bytearray(path.read_bytes())
    middle = band.header_offset + band.file_size // 2
    content[middle : middle + 20] = bytes(byte ^ 255 for byte in content[middle : middle + 20])
    path.write_bytes(content)
    error = refused(path)
    assert error.where == str(path)
    assert band.filename in error.what


def test_of_several_files_without_a_band_the_largest_may_have_all(tmp_path):
    write_tif(tmp_path / "landcover.tif", optical()[:1])
    write_tif(tmp_path / "s2.tif", optical())
    assert "; if s2.tif has all bands" in refused(tmp_path).what


@pytest.mark.parametrize("name", ["s2.tif", "B02.tif"])
def test_of_a_file_of_all_bands_in_a_zip_is_said_what_to_do(tmp_path, name):
    (tmp_path / "in").mkdir()
    write_tif(tmp_path / "in" / name, optical())
    for path in (tmp_path / "in", zipped(tmp_path / "in")):
        what = refused(path).what
        assert "name that file itself" in what
        assert ("unpack it" in what) == (path.suffix == ".zip")


def test_no_data_of_coarse_bands_does_not_bleed_into_its_neighbours(tmp_path):
    bands = ground(SIDE, 1000)
    for values in bands.values():
        values[:, :40] = 0
    _, strip = read(write_safe(tmp_path / "x.SAFE", bands))
    known = strip.sen2_known[INSIDE]
    assert not known[:, :40].any()
    assert known[:, 40:].all()
    assert strip.sen2[:, *INSIDE][:, : SIDE - 16, 40 : SIDE - 16].min() > 0.09


def test_radar_may_be_two_files_a_folder_or_an_item(tmp_path):
    vv, vh = (tmp_path / f"r/S1A_RTC_{name}.tif" for name in ("VV", "VH"))
    vv.parent.mkdir()
    for path, values in zip((vv, vh), radar(SIDE), strict=True):
        write_tif(path, values[None])
    s2 = write_tif(tmp_path / "s2.tif", optical(SIDE))
    both = write_tif(tmp_path / "s1.tif", radar(SIDE))
    item = write_item(tmp_path / "i.json", {"vh": {"href": "r/S1A_RTC_VH.tif"}, "vv": {"href": "r/S1A_RTC_VV.tif"}})
    expected = read(s2, s1=(both,))[1]
    for s1 in ((vv, vh), (vh, vv), (tmp_path / "r",), (item,)):
        np.testing.assert_array_equal(read(s2, s1=s1)[1].sen1, expected.sen1)
    assert refused(s2, s1=(vv,)).where == str(vv)
    assert refused(s2, s1=(vv, vv)).where == str(vv)
    assert refused(s2, s1=(vv, vv), s1_units="db").where == str(vv)


@pytest.mark.parametrize("kind", ["GRDH", "SLC_"])
def test_radar_geometry_is_refused_by_name(tmp_path, kind):
    s2 = write_tif(tmp_path / "s2.tif", optical(SIDE))
    folder = tmp_path / f"S1A_IW_{kind}_1SDV_20220101T000000.SAFE"
    (folder / "measurement").mkdir(parents=True)
    (folder / "manifest.safe").touch()
    for path in (folder, zipped(folder)):
        error = refused(s2, s1=(path,))
        assert error.where == str(path)
        assert kind[:3] in error.what


@pytest.mark.shared
@pytest.mark.parametrize("name", ["282D_485L_3_3", "433D_629L_3_1"])
def test_a_real_scene_as_a_safe_zip_gives_the_values_of_its_geotiff(tmp_path, shared_data, name):
    path = shared_data / f"scenes/{name}/s2_l1c_13bands_dn.tif"
    with rasterio.open(path) as file:
        values, place = file.read(), file.transform
        crs = file.crs
    bands = dict(zip(L1C, values.astype(np.int64), strict=True))
    metres = {metre: place @ rasterio.Affine.scale(metre / 10) for metre in (10, 20, 60)}
    folder = tmp_path / "S2A_MSIL1C_x.SAFE"
    images = folder / "GRANULE/L/IMG_DATA"
    for band, one in bands.items():
        metre = RESOLUTION.get(band, 20)
        write_band(images / f"{STEM}_{band}.jp2", one, metre, crs=crs, transform=metres[metre])
    (folder / "MTD_MSIL1C.xml").write_text(
        "<PROCESSING_LEVEL>Level-1C</PROCESSING_LEVEL><RADIO_ADD_OFFSET band_id='0'>-1000</RADIO_ADD_OFFSET>"
    )
    (scene, found), (_, expected) = read(zipped(folder)), read(path)
    assert scene.level == "L1C"
    known = expected.sen2_known & found.sen2_known
    assert known.sum() > 0.95 * expected.sen2_known.sum()
    np.testing.assert_allclose(found.sen2[FINE][:, known], expected.sen2[FINE][:, known], atol=1e-6)
    assert np.median(np.abs(found.sen2 - expected.sen2)[:, known]) < 0.01
