"""Which scenes make a tile, by their names alone."""

from pathlib import Path

import pytest

from bp_lcz.regions.tiles import Tile, find_tiles
from tests.refusals import refuses


def lay(folder: Path, *names: str) -> Path:
    """Empty files, and folders where a name ends with a stroke."""
    for name in names:
        path = folder / name
        (path if name.endswith("/") else path.parent).mkdir(parents=True, exist_ok=True)
        if not name.endswith("/"):
            path.touch()
    return folder


def test_each_entry_is_a_tile_with_its_radar_beside_it(tmp_path: Path) -> None:
    folder = lay(
        tmp_path,
        "berlin.tif",
        "berlin_S1.tif",
        "S2A_MSIL1C_20180710_T32UQD.SAFE.zip",
        "S2B_MSIL1C_T33.SAFE/GRANULE/",
        "two/b_summer.tif",
        "two/a_spring.SAFE.zip",
        "two/S1A_IW_2018.tif",
        "bands/B02.jp2",
        "bands/B03.jp2",
        "bands/vv_s1.tif",
        "product/MTD_MSIL1C.xml",
        "product/GRANULE/x/IMG_DATA/T32_B02.jp2",
        "empty/",
        ".hidden.tif",
        "berlin.tif.aux.xml",
        "README.md",
    )
    tiles, others = find_tiles(folder)
    assert {tile.name: tile for tile in tiles} == {
        "berlin": Tile(name="berlin", s2=(folder / "berlin.tif",), s1=(folder / "berlin_S1.tif",)),
        "S2A_MSIL1C_20180710_T32UQD": Tile(
            name="S2A_MSIL1C_20180710_T32UQD", s2=(folder / "S2A_MSIL1C_20180710_T32UQD.SAFE.zip",)
        ),
        "S2B_MSIL1C_T33": Tile(name="S2B_MSIL1C_T33", s2=(folder / "S2B_MSIL1C_T33.SAFE",)),
        "two": Tile(
            name="two",
            s2=(folder / "two/a_spring.SAFE.zip", folder / "two/b_summer.tif"),
            s1=(folder / "two/S1A_IW_2018.tif",),
        ),
        "bands": Tile(name="bands", s2=(folder / "bands",), s1=(folder / "bands/vv_s1.tif",)),
        "product": Tile(name="product", s2=(folder / "product",)),
        "empty": Tile(name="empty", s2=(folder / "empty",)),
    }
    assert others == ["README.md", "berlin.tif.aux.xml"]


@pytest.mark.parametrize(
    ("names", "where", "fact"),
    [
        ((), "", ".tif"),
        (("notes.txt",), "", ".zip"),
        (("berlin.tif", "berlin.zip"), "berlin.zip", "berlin"),
        (("berlin.tif", "paris_s1.tif"), "paris_s1.tif", "paris.tif"),
    ],
    ids=["empty", "no scenes", "one name twice", "radar alone"],
)
def test_a_folder_that_names_no_tiles_is_refused(tmp_path: Path, names: tuple[str, ...], where: str, fact: str) -> None:
    with refuses(lay(tmp_path, *names) / where, fact):
        find_tiles(tmp_path)


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with refuses(tmp_path / "nowhere"):
        find_tiles(tmp_path / "nowhere")
