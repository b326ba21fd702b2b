"""An S3-compatible store on this machine, and tiles of a small region."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from bp_lcz.maps.map import MapOptions
from bp_lcz.model.checkpoint import Classifier, load_classifier, write_checkpoint
from bp_lcz.scenes.scene import SceneOptions
from tests.maps.scenes import classifier_of
from tests.scenes.rasters import WEST, optical, write_tif

SIDE, STEP = 92, 500.0
"""Pixels along a side of a tile; metres from one to the next, so that neighbours overlap."""


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a checkpoint."""
    folder = tmp_path_factory.mktemp("model") / "small"
    folder.mkdir()
    classifier = classifier_of()
    write_checkpoint(folder, classifier.network, classifier.description)
    return folder


@pytest.fixture(scope="session")
def network(model: Path) -> Classifier:
    return load_classifier(model)


def write_tile(folder: Path, name: str, number: int) -> Path:
    """The scene of the n-th tile from the west."""
    folder.mkdir(parents=True, exist_ok=True)
    return write_tif(folder / f"{name}.tif", optical(SIDE, seed=number), west=WEST + number * STEP)


def options_of(scene: Path) -> MapOptions:
    return MapOptions(SceneOptions((scene,)))


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of a store that has the bucket ``maps`` and takes any key."""
    import boto3
    from moto.server import ThreadedMotoServer

    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    address = "http://{}:{}".format(*store.get_host_and_port())
    keys = {"aws_access_key_id": "team", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="maps")
    yield address
    store.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same as the environment of this test, with its keys."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "team")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return s3_server
