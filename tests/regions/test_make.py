"""The map of a tile in a folder and in a bucket: made once, kept, refused, and made again where it was not finished."""

from pathlib import Path

import pytest

from bp_lcz.errors import TemporaryError
from bp_lcz.maps.map import make_map
from bp_lcz.maps.outputs import REPORT
from bp_lcz.model.checkpoint import Classifier
from bp_lcz.regions import make
from bp_lcz.regions.make import KEPT, MADE, make_tile, report_of
from bp_lcz.regions.store import Bucket, Store, store_of
from tests.maps.scenes import classifier_of
from tests.refusals import refuses
from tests.regions.conftest import options_of, write_tile


@pytest.fixture(params=["folder", "bucket"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "folder":
        return store_of(str(tmp_path / "region"), tmp_path / "scratch")
    request.getfixturevalue("s3")
    return store_of(f"s3://maps/{tmp_path.name}", tmp_path / "scratch")


def test_a_map_is_made_once_and_kept_as_long_as_scene_and_model_are_the_same(
    store: Store, network: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = write_tile(tmp_path / "tiles", "one", 0)
    assert make_tile(store, "one", network, "small", options_of(scene)) == MADE
    alone = make_map(network, "small", options_of(scene), tmp_path / "alone/one", lambda _: None)
    assert report_of(store, "one") == alone
    for file in ("lcz.tif", "areas.csv", "map.html"):
        assert store.read(f"tiles/one/{file}") == (tmp_path / "alone/one" / file).read_bytes()
    assert store.read("tiles/one/nothing.tif") is None
    assert not list((tmp_path / "scratch").rglob("lcz.tif")), "nothing is left where it was made for a bucket"

    with monkeypatch.context() as patched:
        patched.setattr(make, "make_map", None)
        assert make_tile(store, "one", network, "small", options_of(scene)) == KEPT
    with refuses(f"{store.address}/tiles/one"):
        make_tile(store, "one", classifier_of("sen2lcz_mf"), "other", options_of(scene))
    write_tile(tmp_path / "tiles", "one", 1)
    with refuses(f"{store.address}/tiles/one"):
        make_tile(store, "one", network, "small", options_of(scene))


def test_what_was_made_but_not_sent_is_sent_by_the_next_run(
    s3: str, network: Classifier, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of("s3://maps/unsent", tmp_path / "scratch")
    scene, said = write_tile(tmp_path / "tiles", "one", 0), list[str]()
    write = Bucket.write

    def ended(self: Bucket, name: str, content: bytes) -> None:
        if name.endswith(REPORT):
            raise KeyboardInterrupt
        write(self, name, content)

    with monkeypatch.context() as patched:
        patched.setattr(Bucket, "write", ended)
        with pytest.raises(KeyboardInterrupt):
            make_tile(store, "one", network, "small", options_of(scene), said.append)
    assert store.read("tiles/one/lcz.tif") is not None
    assert report_of(store, "one") is None, "half of a map is none"
    with monkeypatch.context() as patched:
        patched.setattr(make, "make_map", None)
        assert make_tile(store, "one", network, "small", options_of(scene), said.append) == MADE
    assert report_of(store, "one") is not None


def test_a_store_that_refuses_or_does_not_answer_is_one_line(
    s3: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refuses("s3://elsewhere/region"):
        store_of("s3://elsewhere/region/", tmp_path).write("index.html", b"")
    for address in ("ftp://example.org/maps", "s3://", "s3:///maps"):
        with refuses(address, "s3://bucket/prefix"):
            store_of(address, tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with refuses("s3://maps/region", kind=TemporaryError):
        store_of("s3://maps/region", tmp_path).write("index.html", b"")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with refuses("s3://maps/region", "AWS_ACCESS_KEY_ID"):
        store_of("s3://maps/region", tmp_path).write("index.html", b"")
