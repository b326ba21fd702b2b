"""`bp-lcz download` in a checkout with DVC: what `data.dvc` pins is committed."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from bp_lcz.errors import UserError
from bp_lcz.so2sat.pinned import check_pins, commit_pins
from bp_lcz.so2sat.releases import RELEASES, read_release
from tests.so2sat.servers import Manners, http_server
from tests.test_cli import bp_lcz

NAMES = ("training.h5", "validation.h5", "testing.h5")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "server"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(b"\x89HDF\r\n\x1a\n" + name.encode() * 100)
    return folder


@pytest.fixture
def checkout(tmp_path: Path, source: Path) -> Path:
    """A git repository with DVC whose data.dvc pins small files as the real one pins So2Sat's."""
    folder = tmp_path / "checkout"
    (folder / ".dvc").mkdir(parents=True)
    (folder / "data").mkdir()
    subprocess.run(["git", "init", "--quiet", str(folder)], check=True)
    # Hard links, since an inode does not show reflinks, which the project's own configuration prefers.
    (folder / ".dvc/config").write_text(
        f"[core]\n    analytics = false\n    site_cache_dir = {tmp_path}/site\n    remote = lab\n"
        f"[cache]\n    type = hardlink\n['remote \"lab\"']\n    url = {tmp_path}/remote\n"
    )
    (folder / "data/.gitignore").write_text("/so2sat\n")
    pins, files = "# what is pinned\nouts:\n", []
    for name in NAMES:
        content = (source / name).read_bytes()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        pins += f"- md5: {md5}\n  size: {len(content)}\n  hash: md5\n  path: data/so2sat/{name}\n"
        files.append({"name": name, "size": len(content), "md5": md5})
    (folder / "data.dvc").write_text(pins)
    (tmp_path / "small.json").write_text(json.dumps({"name": "small", "folder": "so2sat", "files": files}))
    return folder


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_after_a_download_dvc_is_up_to_date_and_no_byte_lies_on_the_disk_twice(
    checkout: Path, source: Path, tmp_path: Path
) -> None:
    before = (checkout / "data.dvc").read_text()
    assert dvc(checkout, "pull", "--allow-missing").returncode == 0  # a fresh clone, and no remote has the files
    manners = Manners(breaks=1)
    with http_server(source, manners) as url:
        release = ("--release-file", str(tmp_path / "small.json"))
        result = bp_lcz("download", *release, "--mirror", url, folder=checkout)
    assert result.returncode == 0, result.stderr
    assert "data.dvc: committed" in result.stderr
    status = dvc(checkout, "status", "data.dvc")
    assert status.stdout.strip() == "Data and pipelines are up to date.", status.stdout + status.stderr
    assert (checkout / "data.dvc").read_text() == before
    for name in NAMES:
        file = checkout / "data/so2sat" / name
        assert file.read_bytes() == (source / name).read_bytes()
        cached = list((checkout / ".dvc/cache/files/md5").rglob(hashlib.md5(file.read_bytes()).hexdigest()[2:]))
        assert len(cached) == 1
        assert file.samefile(cached[0])
    git_status = subprocess.run(["git", "-C", str(checkout), "status", "--porcelain"], capture_output=True, text=True)
    assert "so2sat" not in git_status.stdout

    assert dvc(checkout, "push", "data.dvc").returncode == 0
    again = bp_lcz("download", *release, "--mirror", "http://127.0.0.1:1", folder=checkout)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("there already, verified") == 3
    checked = bp_lcz("download", *release, "--verify", "--out", "data/so2sat", folder=checkout)
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr.count("verified, md5") == 3


def test_another_release_does_not_go_where_data_dvc_pins_one(checkout: Path) -> None:
    with pytest.raises(UserError, match=r"data\.dvc pins another training\.h5 .* choose another folder with --out"):
        check_pins(RELEASES["so2sat-v3-random"], checkout / "data/so2sat")
    check_pins(RELEASES["so2sat-v3-random"], checkout / "data/elsewhere")


def test_a_linked_folder_is_said_not_to_be_committed(checkout: Path, source: Path) -> None:
    (checkout / "data/so2sat").symlink_to(source)
    said = commit_pins(read_release(source.parent / "small.json"), checkout / "data/so2sat")
    assert said is not None
    assert "is a link" in said
    assert not (checkout / ".dvc/cache").exists()


def test_nothing_is_committed_but_the_files_that_the_release_has_verified(checkout: Path, source: Path) -> None:
    release = read_release(source.parent / "small.json")
    folder = checkout / "data/so2sat"
    assert commit_pins(release, source) is None  # outside any checkout
    source.rename(folder)
    part = release.model_copy(update={"files": release.files[:2]})
    assert commit_pins(part, folder) is None  # nobody has looked at the third
    (folder / "testing.h5").unlink()
    assert commit_pins(release, folder) is None
    assert not (checkout / ".dvc/cache").exists()


def test_a_damaged_data_dvc_is_a_user_error(checkout: Path) -> None:
    (checkout / "data.dvc").write_text("outs: 3\n")
    with pytest.raises(UserError, match=r"data\.dvc: not a DVC file"):
        commit_pins(RELEASES["so2sat-v2"], checkout / "data/so2sat")
