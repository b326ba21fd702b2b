"""The flow over a folder of tiles, which it maps here."""

from pathlib import Path
from typing import Any

import pytest

from tests.regions.conftest import model, s3, s3_server, write_tile  # noqa: F401

pytestmark = pytest.mark.usefixtures("prefect_server")


def run_region(tiles: Path, model: Path | str, **more: Any) -> Any:  # noqa: F811
    from flows.map_region import map_region

    return map_region(tiles, str(model), return_state=True, **more)


def test_an_unreadable_tile_fails_the_run_by_its_name_when_the_others_are_done(
    tmp_path: Path,
    model: Path,  # noqa: F811
) -> None:
    tiles = tmp_path / "tiles"
    for number, name in enumerate(("east", "west")):
        write_tile(tiles, name, number)
    (tiles / "broken.tif").write_bytes(b"no raster")
    state = run_region(tiles, model)
    out = tmp_path / "tiles-lcz"
    assert state.is_failed()
    assert state.message.startswith(f"broken: {tiles}/broken.tif: ")
    assert ";" not in state.message.removeprefix("broken: "), "no other tile is named"
    assert {path.name for path in out.glob("tiles/[!.]*")} == {"east", "west"}
    page = (out / "index.html").read_text()
    assert page.count("<td>made</td>") == 2
    assert '<td class="failed">' in page
    assert (out / "lcz-epsg-32633.vrt").is_file()

    (tiles / "broken.tif").unlink()
    assert run_region(tiles, model).is_completed()
    assert (out / "index.html").read_text().count("<td>kept</td>") == 2


def test_a_region_in_a_bucket_is_that_of_a_folder(
    tmp_path: Path,
    model: Path,  # noqa: F811
    s3: str,  # noqa: F811
) -> None:
    import boto3

    write_tile(tmp_path / "tiles", "one", 0)
    assert run_region(tmp_path / "tiles", model, out=str(tmp_path / "region")).is_completed()
    assert run_region(tmp_path / "tiles", model, out="s3://maps/region").is_completed()
    client = boto3.client("s3")
    listed = client.list_objects_v2(Bucket="maps", Prefix="region/")["Contents"]
    sent = {
        entry["Key"].removeprefix("region/"): client.get_object(Bucket="maps", Key=entry["Key"])["Body"].read()
        for entry in listed
    }
    folder = tmp_path / "region"
    kept = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
    assert sent == {path.relative_to(folder).as_posix(): path.read_bytes() for path in kept}
    assert client.head_object(Bucket="maps", Key="region/index.html")["ContentType"] == "text/html"


@pytest.mark.parametrize(
    ("changed", "where"),
    [
        ({"model": "nothing"}, "nothing"),
        ({"out": "s3://elsewhere/region"}, "s3://elsewhere/region"),
    ],
    ids=["no model", "a store that refuses"],
)
def test_what_fails_all_tiles_is_told_before_the_first(
    tmp_path: Path,
    model: Path,  # noqa: F811
    s3: str,  # noqa: F811
    changed: dict[str, str],
    where: str,
) -> None:
    write_tile(tmp_path / "tiles", "one", 0)
    given = {"model": str(model), "out": str(tmp_path / "out")} | changed
    state = run_region(tmp_path / "tiles", **given)
    assert state.message.startswith(f"{where}: ")
    assert not list((tmp_path / "out").glob("tiles/*"))
