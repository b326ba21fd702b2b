"""Published weights from a server on this machine that behaves well, badly or not at all."""

import hashlib
import shutil
from pathlib import Path

import pytest

from bp_lcz.errors import TemporaryError, UserError
from bp_lcz.model import pretrained
from bp_lcz.model.checkpoint import load_classifier
from bp_lcz.model.pretrained import PRETRAINED, Published, write_pretrained
from tests.model.test_sen2lcz_weights import random_weights, write_keras
from tests.refusals import refuses
from tests.so2sat.servers import Manners, http_server

NAME = "sen2lcz-mf"


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on a server with weights of random numbers, which are taken for the published ones."""
    folder = tmp_path / "server"
    folder.mkdir()
    weights = write_keras(folder / "weights.hdf5", random_weights())
    known = Published("", hashlib.sha256(weights.read_bytes()).hexdigest(), PRETRAINED[NAME].convert)
    monkeypatch.setitem(PRETRAINED, NAME, known)
    return folder


def left_behind(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"server"}


def test_weights_come_from_a_server_or_a_file_and_make_the_same_checkpoint(published: Path, tmp_path: Path) -> None:
    with http_server(published, Manners()) as address:
        brought = write_pretrained(NAME, tmp_path / "models" / "brought", url=f"{address}/weights.hdf5")
    local = write_pretrained(NAME, tmp_path / "models" / "local", file=published / "weights.hdf5")
    one, other = load_classifier(brought), load_classifier(local)
    assert one.description.weights_sha256 == other.description.weights_sha256
    assert one.channels.sen1 == ()


@pytest.mark.parametrize(
    ("manners", "error"),
    [
        (Manners(status=404), UserError),
        (Manners(status=403), UserError),
        (Manners(status=503), TemporaryError),
        (Manners(breaks=1), TemporaryError),
    ],
)
def test_a_server_that_does_not_deliver_is_one_line_and_leaves_nothing(
    manners: Manners, error: type[UserError], published: Path, tmp_path: Path
) -> None:
    with http_server(published, manners) as address, refuses(f"{address}/weights.hdf5", kind=error):
        write_pretrained(NAME, tmp_path / "out", url=f"{address}/weights.hdf5")
    assert left_behind(tmp_path) == set()


def test_no_network_is_a_matter_of_waiting(published: Path, tmp_path: Path) -> None:
    with http_server(published, Manners()) as address:
        pass
    with refuses(f"{address}/weights.hdf5", "127.0.0.1", "--file", kind=TemporaryError):
        write_pretrained(NAME, tmp_path / "out", url=f"{address}/weights.hdf5")
    assert left_behind(tmp_path) == set()


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        (b"\n<!DOCTYPE html><title>Sign in</title>", ["page", "sha256"]),
        (b"\x89HDF other weights", ["sha256", "expected"]),
        (b"0" * 2001, ["2,000 bytes"]),
    ],
)
@pytest.mark.parametrize("is_served", [True, False])
def test_other_bytes_are_refused(
    content: bytes,
    facts: list[str],
    is_served: bool,
    published: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pretrained, "MOST_BYTES", 2000)
    (published / "weights.hdf5").write_bytes(content)
    with http_server(published, Manners()) as address:
        url, file = (f"{address}/weights.hdf5", None) if is_served else (None, published / "weights.hdf5")
        with refuses(url or file, *facts):
            write_pretrained(NAME, tmp_path / "out", url=url, file=file)
    assert left_behind(tmp_path) == set()


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with refuses(tmp_path / "none.hdf5"):
        write_pretrained(NAME, tmp_path / "out", file=tmp_path / "none.hdf5")


def test_a_folder_that_exists_and_a_name_that_nobody_knows_are_refused_before_anything_is_asked(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    for name, where in ((NAME, tmp_path / "out"), ("resnet", "resnet")):
        with refuses(where):
            write_pretrained(name, tmp_path / "out", url="http://127.0.0.1:1/never")


@pytest.mark.shared
def test_the_published_file_is_the_one_of_the_checksum(shared_data: Path, tmp_path: Path) -> None:
    shutil.copy(shared_data / "weights/sen2lcz_drop_32_weights.best.hdf5", tmp_path / "w.hdf5")
    with http_server(tmp_path, Manners()) as address:
        out = write_pretrained(NAME, tmp_path / "out", url=f"{address}/w.hdf5")
    source = load_classifier(out).description.source
    assert source is not None
    assert source.startswith("published weights of Sen2LCZ-MF")
    assert "MIT" in source
