from pathlib import Path

import pytest

from bp_lcz.paths import staged_file, staged_folder


def left_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def write_and_stop(file: Path) -> None:
    file.write_text("half")
    raise RuntimeError("stop")


def test_a_staged_folder_replaces_the_old_one_as_a_whole(tmp_path):
    target = tmp_path / "out/packed"
    for name in ("first", "second"):
        with staged_folder(target) as folder:
            (folder / name).touch()
            assert name not in left_in(tmp_path)
    assert left_in(tmp_path) == ["out", "out/packed", "out/packed/second"]


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
