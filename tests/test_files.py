import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bp_lcz import files
from bp_lcz.errors import BusyError
from bp_lcz.files import locked, staged_file, staged_folder
from tests.refusals import refuses


def left_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def write_and_stop(file: Path) -> None:
    file.write_text("half")
    raise RuntimeError("stop")


WRITER = """
import sys
from pathlib import Path
from bp_lcz import files
with getattr(files, sys.argv[1])(Path(sys.argv[2])) as path:
    (path / "half" if path.is_dir() else path).write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
"""


def start_writer(kind: str, target: Path) -> subprocess.Popen[str]:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, kind, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    assert writer.stdout.readline() == "writing\n"
    return writer


@pytest.mark.parametrize("kind", ["staged_folder", "staged_file"])
def test_what_a_killed_writer_left_is_removed_and_what_a_living_one_has_is_not(tmp_path, kind):
    target = tmp_path / "outputs[1]"
    killed, living = start_writer(kind, target), start_writer(kind, target)
    try:
        killed.kill()
        killed.wait()
        assert len(list(tmp_path.iterdir())) == 2
        with staged_file(target) as file:
            file.write_text("whole")
        left = list(tmp_path.iterdir())
        assert len(left) == 2, "the target, and what the living writer has"
        assert target in left
    finally:
        living.kill()
        living.communicate()


def test_the_old_folder_comes_back_if_the_writer_was_killed_while_replacing_it(tmp_path):
    (tmp_path / ".packed-abc.part/old").mkdir(parents=True)
    (tmp_path / ".packed-abc.part/old/kept").touch()
    with pytest.raises(RuntimeError, match="stop"), staged_folder(tmp_path / "packed") as folder:
        write_and_stop(folder / "half")
    assert left_in(tmp_path) == ["packed", "packed/kept"]


def test_a_staged_folder_replaces_the_old_one_as_a_whole(tmp_path):
    target = tmp_path / "out/packed"
    for name in ("first", "second"):
        with staged_folder(target) as folder:
            (folder / name).touch()
            assert name not in left_in(tmp_path)
    assert left_in(tmp_path) == ["out", "out/packed", "out/packed/second"]


def test_a_staged_folder_replaces_one_of_an_image_which_cannot_be_renamed(tmp_path, monkeypatch):
    target, rename = tmp_path / "packed", os.rename
    target.mkdir()
    (target / "first").touch()

    def refuse(path: Path, new: Path) -> None:
        if path == target:
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        rename(path, new)

    monkeypatch.setattr(os, "rename", refuse)
    with staged_folder(target) as folder:
        (folder / "second").touch()
    assert left_in(tmp_path) == ["packed", "packed/second"]


def test_a_staged_folder_that_fails_leaves_the_old_one(tmp_path):
    target = tmp_path / "packed"
    target.mkdir()
    with pytest.raises(RuntimeError, match="stop"), staged_folder(target) as folder:
        write_and_stop(folder / "half")
    assert left_in(tmp_path) == ["packed"]


def test_a_staged_file_replaces_the_old_one(tmp_path):
    target = tmp_path / "out/summary.json"
    for text in ("first", "second"):
        with staged_file(target) as file:
            file.write_text(text)
    assert target.read_text() == "second"
    assert left_in(tmp_path) == ["out", "out/summary.json"]


def test_a_staged_file_that_fails_leaves_the_old_one(tmp_path):
    target = tmp_path / "summary.json"
    target.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), staged_file(target) as file:
        write_and_stop(file)
    assert target.read_text() == "old"
    assert left_in(tmp_path) == ["summary.json"]


@pytest.mark.parametrize(
    ("target", "fact"),
    [
        ("folder", "is a folder"),
        (".", "is a folder"),
        ("file/x.parquet", "file is not a folder"),
        ("file/deeper/x.parquet", "deeper is not a folder"),
        ("/proc/nothing/x.parquet", "/proc/nothing is not a folder"),
        ("x" * 300, "(file name too long)"),
    ],
)
def test_a_file_that_cannot_be_written_is_one_line_before_anything_is_computed(tmp_path, target, fact):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    with refuses(tmp_path / target, fact), staged_file(tmp_path / target):
        pytest.fail("the block began")
    assert left_in(tmp_path) == ["file", "folder"]


@pytest.mark.parametrize("staged", [staged_file, staged_folder])
def test_a_pipe_or_device_is_neither_replaced_nor_removed(tmp_path, staged):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    for target in (pipe, Path("/dev/null")):
        with refuses(target, "device"), staged(target):
            pytest.fail("began")
    assert pipe.is_fifo()


def test_a_staged_folder_does_not_take_the_place_of_a_file(tmp_path):
    (tmp_path / "notes.txt").write_text("kept")
    with refuses(tmp_path / "notes.txt", "is a file"), staged_folder(tmp_path / "notes.txt"):
        pytest.fail("the block began")
    assert (tmp_path / "notes.txt").read_text() == "kept"


HOLDER = """
import sys
from pathlib import Path
from bp_lcz.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(file: Path) -> subprocess.Popen[str]:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(file)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_lock_is_refused_or_waited_for_while_its_holder_lives_and_free_when_that_is_killed(tmp_path):
    file, told = tmp_path / "new/lock", []
    holder = start_holder(file)

    def kill(line: str) -> None:
        told.append(line)
        holder.kill()

    try:
        with refuses(file, kind=BusyError), locked(file, "taken", wait=False):
            pytest.fail("the block began")
        with locked(file, "taken", tell=kill):
            assert file.read_text() == str(os.getpid())
        assert told == [f"taken (process {holder.pid}); waiting until it ends"]
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_whose_file_the_holder_removes_is_taken_anew(tmp_path):
    file = tmp_path / "lock"
    holder = start_holder(file)
    with locked(file, tell=lambda _: (file.unlink(), holder.communicate())):
        assert file.read_text() == str(os.getpid())


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_one_line_that_names_the_folder(tmp_path, monkeypatch, number):
    def refuse(descriptor: int, blocking: bool) -> bool:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files, "lock_descriptor", refuse)
    for attempt in (staged_file(tmp_path / "file"), staged_folder(tmp_path / "folder"), locked(tmp_path / "lock")):
        with refuses(tmp_path, "locks"), attempt:
            pytest.fail("the block began")
        assert not (set(left_in(tmp_path)) - {"lock"})
