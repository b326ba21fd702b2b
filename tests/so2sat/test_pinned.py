"""`bp-lcz download` in a checkout with DVC: what `data.dvc` pins is checked, and asked of nobody who has no use for it."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bp_lcz.so2sat.pinned import check_pins, remember_pins, verify_pins
from bp_lcz.so2sat.releases import RELEASES, read_release
from tests.conftest import ROOT
from tests.refusals import refuses
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
    (folder / ".dvc/config").write_text(
        f"[core]\n    analytics = false\n    site_cache_dir = {tmp_path}/site\n    remote = lab\n"
        f"['remote \"lab\"']\n    url = {tmp_path}/remote\n"
    )
    (folder / "data/.gitignore").write_text("/so2sat\n")
    pins, files = "# what is pinned\nouts:\n", []
    for name in NAMES:
        content = (source / name).read_bytes()
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        pins += f"- md5: {md5}\n  size: {len(content)}\n  hash: md5\n  path: data/so2sat/{name}\n"
        files.append({"name": name, "size": len(content), "md5": md5})
    (folder / "data.dvc").write_text(pins)
    shutil.copy(ROOT / ".dvcignore", folder)
    (tmp_path / "small.json").write_text(json.dumps({"name": "small", "folder": "so2sat", "files": files}))
    return folder


def dvc(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dvc", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


def test_plain_commands_of_dvc_are_clean_without_files_that_most_clones_have_no_use_for(
    checkout: Path, tmp_path: Path
) -> None:
    (checkout / "dvc.yaml").write_text("stages: {make: {cmd: echo made > made.txt, outs: [made.txt]}}\n")
    clone = tmp_path / "clone"
    for folder, commands in ((checkout, ("repro", "push")), (clone, ("fetch", "pull", "checkout", "push"))):
        for command in (*commands, "status"):
            done = dvc(folder, command)
            assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == "Data and pipelines are up to date."
        if folder == checkout:
            shutil.copytree(checkout, clone, ignore=shutil.ignore_patterns("cache", "tmp", "made.txt"))
    assert (clone / "made.txt").read_text() == "made\n"


def test_a_download_goes_where_data_dvc_pins_it_and_other_files_there_stop_a_workspace(
    checkout: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = (checkout / "data.dvc").read_text()
    release = ("--release-file", str(tmp_path / "small.json"))
    with http_server(source, Manners(breaks=1)) as url:
        result = bp_lcz("download", *release, "--mirror", url, folder=checkout)
    assert result.returncode == 0, result.stderr
    assert (checkout / "data.dvc").read_text() == before
    assert not (checkout / ".dvc/cache").exists()
    for name in NAMES:
        assert (checkout / "data/so2sat" / name).read_bytes() == (source / name).read_bytes()
    git_status = subprocess.run(["git", "-C", str(checkout), "status", "--porcelain"], capture_output=True, text=True)
    assert "so2sat" not in git_status.stdout

    again = bp_lcz("download", *release, "--mirror", "http://127.0.0.1:1", folder=checkout)
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("already") == 3
    checked = bp_lcz("download", *release, "--verify", "--out", "data/so2sat", folder=checkout)
    assert checked.returncode == 0, checked.stderr
    assert checked.stderr.count("md5") == 3

    monkeypatch.chdir(checkout)
    with monkeypatch.context() as patch:  # nothing is hashed again
        patch.setattr("dvc_data.hashfile.hash._hash_file", lambda *_, **__: pytest.fail("hashed"))
        verify_pins(Path("data/so2sat"))
    verify_pins(source)  # a folder of which data.dvc says nothing
    Path("data/so2sat/testing.h5").write_bytes(b"damaged")
    refused = bp_lcz("workspace", "mine", "--dataset", "data/so2sat", folder=checkout)
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: data/so2sat/testing.h5: "), refused.stderr
    assert not (checkout / ".workspaces").exists()


def test_a_team_lets_dvc_keep_the_files(checkout: Path, source: Path, tmp_path: Path) -> None:
    (recipe,) = re.findall(r"`(sed -i .*)`,$", (ROOT / "docs/data.md").read_text(), re.MULTILINE)
    shutil.copytree(source, checkout / "data/so2sat")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(["sh", "-c", recipe], cwd=checkout, check=True, env={**os.environ, "PATH": path})
    assert "data.dvc" not in (checkout / ".dvcignore").read_text()
    clone = tmp_path / "clone"
    shutil.copytree(checkout, clone, ignore=shutil.ignore_patterns("cache", "tmp", "so2sat"))
    assert dvc(clone, "pull").returncode == 0
    assert (clone / "data/so2sat/training.h5").read_bytes() == (source / "training.h5").read_bytes()


def test_another_release_does_not_go_where_data_dvc_pins_one(checkout: Path) -> None:
    with refuses(checkout / "data/so2sat", checkout / "data.dvc", "training.h5", "--out"):
        check_pins(RELEASES["so2sat-v3-random"], checkout / "data/so2sat")
    check_pins(RELEASES["so2sat-v3-random"], checkout / "data/elsewhere")


def test_nothing_is_remembered_but_the_files_that_the_release_has_verified(
    checkout: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remembered = []
    monkeypatch.setattr("bp_lcz.so2sat.pinned.remember_md5", lambda _, md5s: remembered.append(sorted(md5s)))
    release = read_release(source.parent / "small.json")
    folder = checkout / "data/so2sat"
    remember_pins(release, source)  # outside any checkout
    source.rename(folder)
    remember_pins(release.model_copy(update={"files": release.files[:2]}), folder)  # nobody has looked at the third
    assert remembered == []
    remember_pins(release, folder)
    assert remembered == [sorted(folder / name for name in NAMES)]


def test_a_damaged_data_dvc_is_a_user_error(checkout: Path) -> None:
    (checkout / "data.dvc").write_text("outs: 3\n")
    with refuses(checkout / "data.dvc"):
        remember_pins(RELEASES["so2sat-v2"], checkout / "data/so2sat")
