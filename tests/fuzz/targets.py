"""Every reader of a file or body that others make: a good one, what this project reads of it, and what its library reads."""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import rasterio
import torch
from rasterio.crs import CRS
from rasterio.transform import from_origin

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.files import file_sha256
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.checkpoint import load_classifier, versions, write_checkpoint
from bp_lcz.model.sen2lcz_weights import convert_sen2lcz
from bp_lcz.params import NetworkParams, backbone_names, load_params
from bp_lcz.patches.store import PackedStore
from bp_lcz.records import Checkpoint
from bp_lcz.report.claims import load_paper
from bp_lcz.report.references import load_references
from bp_lcz.scenes.areas import read_area
from bp_lcz.scenes.polygons import read_zones
from bp_lcz.scenes.scene import SceneOptions, opened_scene
from bp_lcz.scenes.tile import TileOptions, cut_scenes
from bp_lcz.scoring.score import score_file
from bp_lcz.sections import read_sections
from bp_lcz.serving.server import _decode_json
from bp_lcz.serving.wire import decode_arrays, encode_arrays
from bp_lcz.so2sat.geo import read_geo_of
from bp_lcz.so2sat.layout import open_patches
from bp_lcz.so2sat.releases import read_release
from bp_lcz.text.table import read_prompt_table
from tests.conftest import ROOT
from tests.model.packed import small_trial, write_inputs
from tests.model.test_sen2lcz_weights import random_weights, write_keras
from tests.scenes.drawn import kml, square, written
from tests.scenes.safe import L1C, ground, write_item, write_safe, zipped
from tests.so2sat.patches import random_patches, write_dataset

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Target:
    """A reader.

    Attributes:
        make: writes a good file in a folder, and what it needs beside it; gives the file of which mutants are made.
        read: what this project reads of a mutant.
        reference: the same by the library of the format; None where reading is a check and gives no values.
        is_text: whether words are among the changes.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Arrays | None]
    reference: Callable[[Path], Arrays] | None = None
    is_text: bool = False


def _patches(storage: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_dataset(folder, patches={"testing": 4}, source="a test", dtype=np.float32, storage=storage)
        with h5py.File(folder / "testing.h5", "a") as file:
            for key in ("sen1", "sen2"):
                file[key].attrs["bands"] = list(getattr(ALL_CHANNELS, key))
        return folder / "testing.h5"

    return make


def _read_patches(path: Path) -> Arrays:
    with open_patches(path) as reader:
        slabs = list(reader.chunks(3))
        whole = [np.concatenate([slab[position] for slab in slabs]) for position in (1, 2, 3)] if slabs else []
        return [*whole, reader.labels()]


def _h5py_patches(path: Path) -> Arrays:
    with h5py.File(path) as file:
        # Without sen1, or with another name of it, a file is one of Sentinel-2 alone.
        whole = [file[key][:] if key in file else file["sen2"][..., :0] for key in ("sen1", "sen2", "label")]
    return [*(whole if len(whole[0]) else []), whole[2]]


def _geo(folder: Path) -> Path:
    write_dataset(folder, patches={"testing": 4}, cities={"testing": 2})
    return folder / "testing_geo.h5"


def _read_geo(path: Path) -> Arrays:
    geo = read_geo_of(path.with_name("testing.h5"))
    assert geo is not None
    return [geo.epsg, geo.tfw]


def _h5py_geo(path: Path) -> Arrays:
    with h5py.File(path) as file:
        return [file["epsg"][:].ravel().astype(np.int64), file["tfw"][:]]


def _convert(path: Path) -> None:
    convert_sen2lcz(path, path.with_name("out"))
    shutil.rmtree(path.with_name("out"))


def _scenes(folder: Path) -> Path:
    random = np.random.default_rng(0)
    place = {
        "driver": "GTiff",
        "width": 64,
        "height": 64,
        "crs": "EPSG:32633",
        "transform": from_origin(390e3, 582e4, 10, 10),
    }
    with rasterio.open(folder / "s1.tif", "w", count=2, dtype="float32", **place) as file:
        file.write(random.normal([[[-11.0]], [[-18.0]]], 2.0, (2, 64, 64)).astype("float32"))
    with rasterio.open(folder / "s2.tif", "w", count=13, dtype="uint16", **place) as file:
        # All bands vary with the light, as those of any ground do.
        values = (random.integers(400, 2700, (1, 64, 64)) + random.integers(0, 300, (13, 64, 64))).astype("uint16")
        values[10] = 12  # no cirrus
        file.write(values)
    return folder / "s2.tif"


def _cut(path: Path) -> None:
    out = path.with_name("out")
    scenes = SceneOptions((path.with_name("s2.tif"),), (path.with_name("s1.tif"),), s2_offset=0.0)
    cut_scenes(scenes, out, None, None, TileOptions(split=None))
    shutil.rmtree(out)


def _open_scene(path: Path) -> None:
    with opened_scene(SceneOptions((path,), s2_offset=0.0)) as scene:
        scene.strip(scene.grid.height // 2)


def _zipped_safe(folder: Path) -> Path:
    return zipped(write_safe(folder / "x.SAFE", ground(64)))


def _item(folder: Path) -> Path:
    asset = {"href": _scenes(folder).name, "eo:bands": [{"name": band} for band in L1C]}
    return write_item(folder / "item.json", {"data": asset | {"raster:bands": [{"scale": 1e-4, "offset": 0}] * 13}})


def _area(folder: Path) -> Path:
    path = folder / "area.geojson"
    corners = [[13.0, 52.0], [13.1, 52.0], [13.1, 52.1], [13.0, 52.0]]
    geometry = {"type": "Polygon", "coordinates": [corners]}
    feature = {"type": "Feature", "properties": {}, "geometry": geometry}
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


def _zones(name: str, driver: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        written(folder / name, driver, [square(0, 0), square(900, 0), square(0, 900)], ["1", "LCZ B", "17"])
        return folder / name

    return make


def _copy_of(name: str) -> Callable[[Path], Path]:
    return lambda folder: Path(shutil.copy(ROOT / name, folder))


def _sections(path: Path) -> None:
    read_sections(path.read_bytes(), str(path))


def _release(folder: Path) -> Path:
    content = {
        "name": "mine",
        "files": [{"name": "a.h5", "size": 9, "md5": "0" * 32}],
        "mirrors": ["http://127.0.0.1/x"],
    }
    (folder / "release.json").write_text(json.dumps(content))
    return folder / "release.json"


def _checkpoint(folder: Path) -> Path:
    form = small_trial()
    form = NetworkParams.model_validate({key: getattr(form, key) for key in NetworkParams.model_fields})
    blank = torch.zeros(18)
    network = BPLCZ(form, ALL_CHANNELS, torch.zeros(17, 7, 12), blank, blank + 1)
    told = {"trial": "x", "channels": ALL_CHANNELS, "parameters": 1, "source": None, "versions": versions()}
    write_checkpoint(folder, network, Checkpoint(**form.model_dump(), **told))
    return folder / "model.json"


def _weights(folder: Path) -> Path:
    path = _checkpoint(folder).with_name("model.safetensors")
    _load_weights(path)  # the description gets the length that it has from now on
    return path


def _load_weights(path: Path) -> None:
    """With the checksum of the mutant, as one who means harm would write it."""
    description = path.with_name("model.json")
    content = json.loads(description.read_text()) | {"weights_sha256": file_sha256(path)}
    description.write_text(json.dumps(content))
    load_classifier(path.parent)


def _packed(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_inputs(folder, dict.fromkeys(("training", "validation", "testing"), 17))
        return folder / "packed" / name

    return make


def _prompts(folder: Path) -> Path:
    return Path(_packed("manifest.json")(folder).parents[1] / "prompts.safetensors")


def _npz(folder: Path) -> Path:
    np.savez(folder / "p.npz", y_true=np.arange(1, 18), y_pred=np.arange(1, 18))
    return folder / "p.npz"


def _parquet(folder: Path) -> Path:
    pq.write_table(
        pa.table({"patch": [*range(4)], "label": ["1", "A", None, "7"], "code": ["1", "B", "7", "7"]}), folder / "p"
    )
    return folder / "p"


def _body(folder: Path) -> Path:
    (folder / "body").write_bytes(encode_arrays(*random_patches(2, dtype=np.float32)[:2]))
    return folder / "body"


def _decode(path: Path) -> None:
    decode_arrays(path.read_bytes(), sen1=(32, 32, 8), sen2=(32, 32, 10))


def _json_body(folder: Path) -> Path:
    inputs = {key: np.zeros((1, 4, 4, 2)).tolist() for key in ("sen1", "sen2")}
    (folder / "body").write_text(json.dumps({"inputs": inputs}))
    return folder / "body"


TARGETS = {
    "hdf5": Target(_patches("contiguous"), _read_patches, _h5py_patches),
    "hdf5-gzip": Target(_patches("gzip"), _read_patches, _h5py_patches),
    "geo": Target(_geo, _read_geo, _h5py_geo),
    "keras": Target(lambda folder: write_keras(folder / "w.hdf5", random_weights()), _convert),
    "geotiff-s1": Target(lambda folder: _scenes(folder).with_name("s1.tif"), _cut),
    "geotiff-s2": Target(_scenes, _cut),
    "safe-zip": Target(_zipped_safe, _open_scene),
    "stac-item": Target(_item, _open_scene, is_text=True),
    "area": Target(_area, lambda path: read_area(str(path), CRS.from_epsg(32633)) and None, is_text=True),
    "zones-geojson": Target(_zones("z.geojson", "GeoJSON"), lambda path: read_zones(path) and None, is_text=True),
    "zones-gpkg": Target(_zones("z.gpkg", "GPKG"), lambda path: read_zones(path) and None),
    "zones-shp": Target(_zones("z.shp", "ESRI Shapefile"), lambda path: read_zones(path) and None),
    "zones-dbf": Target(
        lambda folder: _zones("z.shp", "ESRI Shapefile")(folder).with_suffix(".dbf"),
        lambda path: read_zones(path.with_suffix(".shp")) and None,
    ),
    "zones-kml": Target(
        lambda folder: kml(folder / "z.kml", {"LCZ 1": [square(0, 0)], "B": [square(900, 0)]}),
        lambda path: read_zones(path) and None,
        is_text=True,
    ),
    "params": Target(_copy_of("params.yaml"), lambda path: load_params(path) and None, is_text=True),
    "profile": Target(_copy_of("profiles/forms.yaml"), _sections, is_text=True),
    "paper": Target(_copy_of("paper.yaml"), lambda path: load_paper(path, backbone_names()) and None, is_text=True),
    "references": Target(_copy_of("references.yaml"), lambda path: load_references(path) and None, is_text=True),
    "release": Target(_release, lambda path: read_release(path) and None, is_text=True),
    "manifest": Target(
        _packed("manifest.json"), lambda path: PackedStore(path.parent, "testing") and None, is_text=True
    ),
    "packed": Target(_packed("testing.images.npy"), lambda path: PackedStore(path.parent, "testing") and None),
    "prompts": Target(_prompts, lambda path: read_prompt_table(path) and None),
    "description": Target(_checkpoint, lambda path: load_classifier(path.parent) and None, is_text=True),
    "weights": Target(_weights, _load_weights),
    "npz": Target(_npz, lambda path: str(score_file(path)) and None),
    "parquet": Target(_parquet, lambda path: score_file(path) and None),
    "body": Target(_body, _decode),
    "json-body": Target(_json_body, lambda path: _decode_json(path.read_bytes()) and None, is_text=True),
}
