"""Downloads from real servers that break, lie and refuse."""

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from bp_lcz.errors import BusyError
from bp_lcz.so2sat import download as module
from bp_lcz.so2sat.download import download_release, verify_release
from bp_lcz.so2sat.partial import OVERLAP, Part
from bp_lcz.so2sat.releases import Release, ReleaseFile
from tests.conftest import ROOT
from tests.refusals import refuses, states
from tests.so2sat.servers import Manners, free_port, ftp_server, gzipped, http_server, rsync_server

NAMES = ("training.h5", "validation.h5", "testing.h5")
HDF5 = b"\x89HDF\r\n\x1a\n"


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch):
    for name in ("http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy", "RSYNC_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def source(tmp_path) -> Path:
    """Three files, two of them longer than one block of a transfer."""
    folder = tmp_path / "server"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for name, size in zip(NAMES, (2_500_001, 1_200_000, 70_001), strict=True):
        (folder / name).write_bytes(HDF5 + generator.bytes(size - 8))
    return folder


@pytest.fixture
def release(source) -> Release:
    return release_of(source)


def release_of(folder: Path, **changes: object) -> Release:
    files = []
    for name in NAMES:
        content = (folder / name).read_bytes()
        files.append(
            ReleaseFile(name=name, size=len(content), md5=hashlib.md5(content, usedforsecurity=False).hexdigest())
        )
    return Release(name="small", files=tuple(files)).model_copy(update=changes)


def bring(release: Release, folder: Path, *mirrors: str, **options: object) -> None:
    download_release(release, folder, mirrors, pause=0.01, **options)


def assert_whole(source: Path, folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == sorted(NAMES)
    for name in NAMES:
        assert (folder / name).read_bytes() == (source / name).read_bytes()


def failure(release: Release, folder: Path, *mirrors: str, **options: object) -> str:
    """What no mirror delivers the first file for."""
    with refuses(folder / "training.h5") as caught:
        bring(release, folder, *mirrors, **options)
    return caught.value.what


def test_all_files_arrive_from_an_ftp_server_that_breaks_the_connection_twice(source, release, tmp_path, capsys):
    with ftp_server(source, breaks=2) as (url, offsets):
        bring(release, tmp_path / "out", url)
    assert_whole(source, tmp_path / "out")
    verify_release(release, tmp_path / "out")
    # Each time on from a little before where it broke; the second break is half way from there.
    second = 1_250_000 - OVERLAP
    assert offsets == [0, second, second + (2_500_001 - second) // 2 - OVERLAP, 0, 0]
    said = capsys.readouterr().err
    assert said.count("closed too early") == 2
    assert "3.8 MB to write" in said


def test_an_ftp_server_without_rest_sends_again_and_what_is_here_is_kept(source, release, tmp_path, capsys):
    with ftp_server(source, breaks=1, rest=False) as (url, offsets):
        bring(release, tmp_path / "out", url)
    assert_whole(source, tmp_path / "out")
    assert offsets == [0, 0, 0, 0]
    assert "starts from 0 again" in capsys.readouterr().err


@pytest.mark.parametrize("ranges", [True, False])
def test_all_files_arrive_over_http_with_and_without_ranges(source, release, tmp_path, capsys, ranges):
    manners = Manners(ranges=ranges, breaks=1, busy=1)
    with http_server(source, manners) as url:
        bring(release, tmp_path / "out", url)
    assert_whole(source, tmp_path / "out")
    assert ("/training.h5", f"bytes={1_250_000 - OVERLAP}-") in manners.asked
    assert ("starts from 0 again" in capsys.readouterr().err) is not ranges


def test_a_server_that_never_gets_further_is_given_up_and_the_bytes_are_kept(source, release, tmp_path):
    manners = Manners(ranges=False, breaks=1000)
    with http_server(source, manners) as url:
        said = failure(release, tmp_path / "out", url, retries=2)
    assert states(said, "3 times")
    assert states(said, "1.2 MB")
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["training.h5.part"]
    with http_server(source, Manners()) as url:
        bring(release, tmp_path / "out", url)
    assert_whole(source, tmp_path / "out")


@pytest.mark.parametrize("breaks", [0, 2])
def test_a_gzipped_mirror_is_unpacked_while_streaming(source, release, tmp_path, breaks):
    packed = gzipped(source, tmp_path / "packed")
    manners = Manners(breaks=breaks)
    with http_server(packed, manners) as url:
        bring(release, tmp_path / "out", url)
    assert_whole(source, tmp_path / "out")
    resumed = [wanted for path, wanted in manners.asked if wanted]
    assert len(resumed) == breaks


def test_a_gzipped_mirror_keeps_what_an_earlier_run_left(source, release, tmp_path):
    packed = gzipped(source, tmp_path / "packed")
    out = tmp_path / "out"
    out.mkdir()
    (out / "training.h5.part").write_bytes((source / "training.h5").read_bytes()[:1_700_000])
    with http_server(packed, Manners()) as url:
        bring(release, out, url)
    assert_whole(source, out)


def test_a_damaged_gzip_file_is_refused_and_leaves_nothing(source, release, tmp_path):
    packed = gzipped(source, tmp_path / "packed")
    file = packed / "training.h5.gz"
    file.write_bytes(file.read_bytes()[:400_000] + bytes(1000) + file.read_bytes()[401_000:])
    with http_server(packed, Manners()) as url:
        said = failure(release, tmp_path / "out", url)
    assert states(said, "damaged")
    assert not list((tmp_path / "out").iterdir())


def test_a_wrong_checksum_leaves_nothing_and_another_mirror_repairs(source, release, tmp_path):
    bad = tmp_path / "bad"
    shutil.copytree(source, bad)
    content = bytearray((bad / "training.h5").read_bytes())
    content[2_000_000] ^= 1
    (bad / "training.h5").write_bytes(content)
    with http_server(bad, Manners()) as url:
        said = failure(release, tmp_path / "out", url)
    assert states(said, "received 2,500,001 bytes with md5")
    assert said.endswith("; removed")
    assert not list((tmp_path / "out").iterdir())
    with http_server(bad, Manners()) as wrong, http_server(source, Manners()) as url:
        bring(release, tmp_path / "out", wrong, url)
    assert_whole(source, tmp_path / "out")


def test_a_file_of_another_size_is_refused_before_a_byte_is_taken(source, release, tmp_path):
    (source / "training.h5").write_bytes(HDF5)
    with http_server(source, Manners()) as url:
        said = failure(release, tmp_path / "out", url)
    assert states(said, "8 bytes")
    assert states(said, "2,500,001")
    assert not list((tmp_path / "out").iterdir())


def test_a_page_of_text_is_no_hdf5_file(source, tmp_path):
    unknown = Release(name="small", files=(ReleaseFile(name="training.h5"),))
    (source / "training.h5").write_bytes(b"<html>please log in</html>")
    with http_server(source, Manners()) as url:
        assert states(failure(unknown, tmp_path / "out", url), "HDF5")
    assert not list((tmp_path / "out").iterdir())


def test_a_file_without_published_checksum_is_said_not_to_be_verified(source, tmp_path, capsys):
    unknown = Release(name="small", files=(ReleaseFile(name="training.h5"),))
    with http_server(source, Manners(breaks=1)) as url:
        bring(unknown, tmp_path / "out", url)
    assert (tmp_path / "out/training.h5").read_bytes() == (source / "training.h5").read_bytes()
    assert "not verified" in capsys.readouterr().err


def test_what_is_there_is_not_fetched_again(source, release, tmp_path):
    out = shutil.copytree(source, tmp_path / "out")
    (out / "testing.h5").unlink()
    manners = Manners()
    with http_server(source, manners) as url:
        bring(release, out, url)
    assert [path for path, _ in manners.asked] == ["/testing.h5"]


def test_files_of_another_kind_are_named_and_replaced_on_demand_only(source, release, tmp_path):
    out = shutil.copytree(source, tmp_path / "out")
    (out / "training.h5").write_bytes(b"mine")
    (out / "testing.h5").write_bytes((source / "testing.h5").read_bytes()[::-1])
    with http_server(source, Manners()) as url:
        with refuses(out, "training.h5", "4 bytes", "2,500,001", "testing.h5", "md5", "--replace"):
            bring(release, out, url)
        assert (out / "training.h5").read_bytes() == b"mine"
        bring(release, out, url, replace=True)
    assert_whole(source, out)


@pytest.mark.parametrize("held", ["longer", "damaged", "whole"])
def test_a_part_on_disk_is_hashed_first_and_used_if_it_can_be(source, release, tmp_path, held):
    content = (source / "training.h5").read_bytes()
    out = tmp_path / "out"
    out.mkdir()
    part = {"longer": content + b"more", "damaged": content[:-1] + b"?", "whole": content}[held]
    (out / "training.h5.part").write_bytes(part)
    manners = Manners()
    with http_server(source, manners) as url:
        bring(release, out, url)
    assert_whole(source, out)
    assert ("/training.h5" in [path for path, _ in manners.asked]) is (held != "whole")


def test_the_next_mirror_goes_on_where_the_first_gave_up(source, release, tmp_path):
    with http_server(source, Manners(breaks=1000)) as bad, ftp_server(source) as (good, offsets):
        bring(release, tmp_path / "out", f"http://127.0.0.1:{free_port()}", bad, good, retries=0)
    assert_whole(source, tmp_path / "out")
    assert offsets == [1_250_000 - OVERLAP, 600_000 - OVERLAP, 0]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_refusal_is_not_tried_again(source, release, tmp_path, status):
    manners = Manners(status=status)
    with http_server(source, manners) as url:
        assert states(failure(release, tmp_path / "out", url), status)
    assert len(manners.asked) == (2 if status == 404 else 1)  # the name itself, then gzipped


def test_a_refused_login_and_a_missing_file_on_ftp_are_named(source, release, tmp_path):
    with ftp_server(source) as (url, _):
        said = failure(release, tmp_path / "out", url.replace("m1:m1", "m1:secret"))
        assert states(said, 530)
        assert "secret" not in said
        (source / "training.h5").unlink()
        assert states(failure(release, tmp_path / "out", url), "training.h5.gz")


def test_a_proxy_that_refuses_is_named(source, release, tmp_path, monkeypatch):
    monkeypatch.setenv("https_proxy", f"http://user:secret@127.0.0.1:{free_port()}")
    said = failure(release, tmp_path / "out", "https://files.example.org/so2sat")
    assert states(said, "proxy 127.0.0.1")
    assert "secret" not in said
    manners = Manners(status=407)
    with http_server(source, manners) as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        said = failure(release, tmp_path / "out", "http://files.example.org/so2sat")
    assert states(said, 407)
    assert states(said, "proxy 127.0.0.1")
    assert manners.asked[0][0] == "http://files.example.org/so2sat/training.h5"


def test_an_http_proxy_fetches_from_ftp_servers(source, release, tmp_path, monkeypatch):
    manners = Manners(status=404)
    with http_server(source, manners) as proxy:
        monkeypatch.setenv("ftp_proxy", proxy)
        failure(release, tmp_path / "out", "ftp://m1:m1@files.example.org")
    assert manners.asked[0][0].startswith("ftp://")
    assert manners.asked[0][0].endswith("files.example.org/training.h5")


@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_all_files_arrive_over_rsync_behind_what_is_here(source, release, tmp_path):
    out, scratch = tmp_path / "out", tmp_path / "rsync"
    out.mkdir()
    scratch.mkdir()
    (out / "training.h5.part").write_bytes((source / "training.h5").read_bytes()[:1_700_000])
    with rsync_server(source, scratch) as url:
        bring(release, out, url)
        assert_whole(source, out)
        (out / "testing.h5").unlink()
        with refuses(out / "testing.h5", "rsync from 127.0.0.1"):
            bring(release, out, url.replace("m1:m1@", "m1:secret@"))
        (source / "testing.h5").unlink()
        with refuses(out / "testing.h5", "no such file"):
            bring(release, out, url)
    assert sorted(file.name for file in out.iterdir()) == ["training.h5", "validation.h5"]


def test_a_machine_without_rsync_is_told_so(release, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert states(failure(release, tmp_path / "out", "rsync://127.0.0.1/m1"), "rsync")


@pytest.mark.parametrize("page", [b"<html>please log in</html>", b"<html>" + bytes(2_000_000)])
def test_a_page_in_place_of_the_rest_leaves_what_is_here_and_the_next_mirror_goes_on(source, release, tmp_path, page):
    held = (source / "training.h5").read_bytes()[:1_500_000]
    (tmp_path / "out").mkdir()
    part = tmp_path / "out/training.h5.part"
    part.write_bytes(held)
    manners = Manners()
    with http_server(source, Manners(page=page)) as bad:
        failure(release, tmp_path / "out", bad)
        assert part.read_bytes() == held
        with http_server(source, manners) as good:
            bring(release, tmp_path / "out", bad, good)
    assert_whole(source, tmp_path / "out")
    assert manners.asked[0] == ("/training.h5", f"bytes={1_500_000 - OVERLAP}-")


def test_a_page_under_the_name_of_a_gzipped_file_leaves_what_is_here(source, release, tmp_path):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "training.h5.gz").write_bytes(b"<html>not found</html>")
    held = (source / "training.h5").read_bytes()[:1_500_000]
    (tmp_path / "out").mkdir()
    (tmp_path / "out/training.h5.part").write_bytes(held)
    with http_server(bad, Manners()) as url:
        failure(release, tmp_path / "out", url)
    assert (tmp_path / "out/training.h5.part").read_bytes() == held


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changes_between_two_runs_is_never_a_mix(source, tmp_path, ranges):
    unknown = Release(name="small", files=(ReleaseFile(name="training.h5"),))
    file = source / "training.h5"
    with http_server(source, Manners(breaks=2, ranges=ranges)) as url:  # one for the question how long it is
        failure(unknown, tmp_path / "out", url, retries=0)
        file.write_bytes(HDF5 + b"n" * (file.stat().st_size - 8))
        if ranges:
            bring(unknown, tmp_path / "out", url)
            assert (tmp_path / "out/training.h5").read_bytes() == file.read_bytes()
        else:  # a page could look the same
            assert states(failure(unknown, tmp_path / "out", url), "remove it")
            assert [path.name for path in (tmp_path / "out").iterdir()] == ["training.h5.part"]


def test_a_part_with_other_bytes_does_not_spoil_the_first_mirror(source, release, tmp_path):
    (tmp_path / "out").mkdir()
    held = bytearray((source / "training.h5").read_bytes()[:1_500_000])
    held[1000] ^= 1  # before what is compared
    (tmp_path / "out/training.h5.part").write_bytes(held)
    with http_server(source, Manners()) as url:
        bring(release, tmp_path / "out", url)
    assert_whole(source, tmp_path / "out")


def test_a_body_of_unknown_length_about_which_nothing_is_published_is_refused(source, tmp_path):
    unknown = Release(name="small", files=(ReleaseFile(name="training.h5"),))
    with http_server(source, Manners(tells_length=False, breaks=1)) as url:
        failure(unknown, tmp_path / "out", url)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("url", ["ftp://127.0.0.1:99999", "ftp://127.0.0.1:abc", "http://[::1", "http://a:b@c:d"])
def test_a_mistyped_address_is_refused(release, tmp_path, url):
    assert states(failure(release, tmp_path / "out", url), "no address")


def test_an_unknown_kind_of_address_is_refused(release, tmp_path):
    said = failure(release, tmp_path / "out", "gopher://a/b")
    assert all(states(said, fact) for fact in ("gopher://a/b/training.h5", "ftp", "http", "https", "rsync"))
    with refuses(release.name, "--mirror"):
        bring(release, tmp_path / "out")


def test_a_disk_that_is_too_small_is_refused_before_the_start(source, release, tmp_path, monkeypatch):
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**7, 9 * 10**6, 10**6))
    manners = Manners()
    with http_server(source, manners) as url, refuses(tmp_path / "out", "3.8 MB", "1.0 MB", "2.8 MB", "--out"):
        bring(release, tmp_path / "out", url)
    assert not manners.asked


def test_a_full_disk_keeps_the_bytes_and_the_second_run_goes_on(source, release, tmp_path):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with http_server(source, Manners()) as url:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, hard))
        part = tmp_path / "out/training.h5.part"
        try:
            with refuses(part, "kept", "free"):
                bring(release, tmp_path / "out", url)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert 0 < part.stat().st_size <= 1_500_000
        bring(release, tmp_path / "out", url)
    assert_whole(source, tmp_path / "out")


def test_a_target_that_cannot_be_written_is_named(release, tmp_path):
    (tmp_path / "file").write_text("")
    # Nobody can make files in /proc/self, root included.
    for folder in (tmp_path / "file", *filter(Path.is_dir, [Path("/proc/self")])):
        with refuses(folder):
            bring(release, folder, "http://127.0.0.1:1")


def test_two_downloads_of_one_file_do_not_meet(source, release, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    part = out / "training.h5.part"
    with Part(part, release.files[0]), http_server(source, Manners()) as url, refuses(part, kind=BusyError):
        bring(release, out, url)


def test_verify_names_what_is_missing_or_another(source, release, tmp_path):
    verify_release(release, source)
    (source / "training.h5").unlink()
    (source / "testing.h5").write_bytes(b"short")
    with refuses(source, "training.h5", "testing.h5", "5 bytes", "70,001"):
        verify_release(release, source)


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_a_killed_download_goes_on_where_it_was(source, release, tmp_path, stop):
    """A signal to the real command in the middle of a file."""
    out, described = tmp_path / "out", tmp_path / "small.json"
    described.write_text(json.dumps(release.model_dump(mode="json")))
    manners = Manners(breaks=1, busy_after_break=10**6)  # so that the command waits with half a file
    with http_server(source, manners) as url:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "bp_lcz.cli", "download", "--release-file", str(described)),
                *("--out", str(out), "--mirror", url),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background jobs, such as a run of all tests, ignore it, and so would the command.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        )
        part = out / "training.h5.part"
        while process.poll() is None and not (part.exists() and part.stat().st_size >= 1_250_000):
            time.sleep(0.005)
        process.send_signal(stop)
        _, said = process.communicate()
        assert process.returncode == 128 + stop, said
        assert said.endswith("interrupted\n") == (stop == signal.SIGINT)
        assert "Traceback" not in said
        assert sorted(file.name for file in out.iterdir()) == ["training.h5.part"]
        manners.asked.clear()
        manners.busy = manners.busy_after_break = 0
        bring(release, out, url)
    assert ("/training.h5", f"bytes={1_250_000 - OVERLAP}-") in manners.asked
    assert_whole(source, out)
