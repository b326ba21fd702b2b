"""A folder in which the files that the documentation names lie, small."""

import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import rasterio

from bp_lcz.model.checkpoint import write_checkpoint
from bp_lcz.serving.server import application, listen, web_server
from tests.documentation.blocks import block_at
from tests.maps.scenes import classifier_of
from tests.scenes.drawn import geojson, kml, square
from tests.scenes.rasters import NORTH, UTM, optical, radar, write_tif, zones
from tests.scenes.safe import ground, write_safe, zipped
from tests.serving.test_server import SEN1, SEN2, network
from tests.so2sat.patches import write_dataset

SIDE = 120
BERLIN, PARIS = 389_890.0, 489_890.0
"""Where two cities begin, metres east."""


@pytest.fixture(scope="session")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every file that the pages name, relative or under /data."""
    folder = tmp_path_factory.mktemp("desk")
    classifier = classifier_of()
    for name in ("models/sen2lcz-mf", "outputs/models/eb_cnn-bp-lcz"):
        (folder / name).mkdir(parents=True)
        write_checkpoint(folder / name, classifier.network, classifier.description)
    product = write_safe(folder / "S2A_MSIL1C_….SAFE", ground(SIDE), offset="-1000", baseline="05.00")
    zipped(product)
    for name in ("may_2024.SAFE.zip", "june_2016.SAFE.zip", "june_2024.SAFE.zip"):
        dated = product.with_name(f"S2A_MSIL1C_{name[-13:-9]}0601T101401_N0500_R022_T33UUU_20240101T000000.SAFE")
        if not dated.exists():
            shutil.copytree(product, dated)
        zipped(dated).replace(folder / name)
    geojson(folder / "city.geojson", [square(0, 0, 900)])
    squares = {
        code: [square(east, south, 130) for south in range(0, 1100, 180)] for code, east in (("2", 0), ("A", 700))
    }
    kml(folder / "areas.kml", squares)
    write_tif(folder / "araucania_l1c.tif", optical(bands=13, offset=1000), west=BERLIN - 0.2)
    place = rasterio.transform.from_origin(BERLIN, NORTH, 10, 10)
    (folder / "map.json").write_text(block_at("docs/own-data.md", "cat map.json").printed[0])
    cover = np.where(zones(SIDE) == 17, 1, 6).astype(np.uint8)
    write_tif(folder / "landcover.tif", cover, crs=UTM, transform=place)
    for prefix, west in (("S", BERLIN), ("B", BERLIN), ("P", PARIS)):
        first, second, labels = ("S1", "S2", "LCZ") if prefix == "S" else (f"{prefix}1", f"{prefix}2", prefix)
        write_tif(folder / f"{first}.tif", radar(SIDE), west=west)
        write_tif(folder / f"{second}.tif", optical(SIDE), west=west)
        write_tif(folder / f"{labels}.tif", zones(SIDE), west=west)
    write_dataset(folder / "data/demo", patches=dict.fromkeys(("training", "validation", "testing"), 68))
    shutil.copy(folder / "data/demo/testing.h5", folder / "city.h5")
    np.save(folder / "sen1.npy", SEN1)
    np.save(folder / "sen2.npy", SEN2)
    return folder


@pytest.fixture(scope="module")
def scoring() -> Iterator[str]:
    """Address of a model that is served in this process."""
    listener = listen("127.0.0.1", 0)
    address = f"127.0.0.1:{listener.getsockname()[1]}"
    server = web_server(application(network(), "demo/1", 2**26, only_local_names=True), 2**26)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield address
    server.should_exit = True
    thread.join(10)
