"""Bytes are read without HDF5 only where they lie in the opened file; everything else is read, or refused, as HDF5 does."""

import errno
import os
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.so2sat.geo import read_geo_of
from bp_lcz.so2sat.hdf5 import opened
from bp_lcz.so2sat.layout import SplitReader, open_patches
from tests.refusals import refuses
from tests.so2sat.patches import random_patches, write_dataset

COUNT = 12
BFLOAT16 = h5py.h5t.IEEE_F32LE.copy()
BFLOAT16.set_fields(15, 7, 8, 0, 7)
BFLOAT16.set_size(2)
BFLOAT16.set_ebias(127)


def external_link(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    with h5py.File(folder / "radar.h5", "w") as other:
        other["VV/pixels"] = values
    file["sen1"] = h5py.ExternalLink("radar.h5", "VV/pixels")


def soft_link_to_external(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    external_link(file, values, folder)
    file.move("sen1", "radar")
    file["sen1"] = h5py.SoftLink("/radar")


def external_group(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    with h5py.File(folder / "radar.h5", "w") as other:
        other["VV/pixels"] = values
    file["radar"] = h5py.ExternalLink("radar.h5", "VV")
    file["sen1"] = h5py.SoftLink("/radar/pixels")


def link_in_this_file(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    file["VV/pixels"] = values
    file["sen1"] = h5py.SoftLink("/VV/pixels")


def external_storage(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    raw = [(str(folder / "radar.raw"), 64, h5py.h5f.UNLIMITED)]
    file.create_dataset("sen1", values.shape, values.dtype, external=raw)[:] = values


def virtual(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    with h5py.File(folder / "radar.h5", "w") as other:
        other["pixels"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource(folder / "radar.h5", "pixels", values.shape)
    file.create_virtual_dataset("sen1", layout)


def compact(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    space, plan = h5py.h5s.create_simple(values.shape), h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plan.set_layout(h5py.h5d.COMPACT)
    h5py.h5d.create(file.id, b"sen1", h5py.h5t.IEEE_F16BE, space, plan)
    file["sen1"][:] = values


def converted_type(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    h5py.h5d.create(file.id, b"sen1", BFLOAT16, h5py.h5s.create_simple(values.shape))
    file["sen1"][:] = values


def plain(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    file["sen1"] = values


WAYS = (
    external_link,
    soft_link_to_external,
    external_group,
    link_in_this_file,
    external_storage,
    virtual,
    converted_type,
    plain,
)


def write(
    path: Path, way: Callable[[h5py.File, np.ndarray, Path], None], count: int = COUNT, **options: object
) -> Path:
    sen1, sen2, label = random_patches(count)
    with h5py.File(path, "w", **options) as file:
        way(file, sen1, path.parent)
        # Other bytes than Sentinel-1's lie at the offsets that another file may have.
        file["sen2"], file["label"] = sen2, label
    return path


def check_against_h5py(path: Path, reader: SplitReader) -> None:
    with h5py.File(path) as file:
        expected = [file[key][:] for key in ("sen1", "sen2", "label")]
    slabs = list(reader.chunks(5))
    for position, values in enumerate(expected, start=1):
        np.testing.assert_array_equal(np.concatenate([slab[position] for slab in slabs]), values)
    first = next(iter(reader.map(lambda start, sen1, sen2, label: (sen1, sen2, label), 5)))
    for values, whole in zip(first, expected, strict=True):
        np.testing.assert_array_equal(values, whole[:5])
    np.testing.assert_array_equal(np.concatenate(list(reader.sen1_chunks(5))), expected[0])
    for index, sen1, sen2 in reader.pick(np.array([1, 7])):
        np.testing.assert_array_equal(sen1, expected[0][index])
        np.testing.assert_array_equal(sen2, expected[1][index])
    np.testing.assert_array_equal(reader.labels(), expected[2])


def virtual_without_a_file(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    virtual(file, values, folder)
    (folder / "radar.h5").rename(folder / "elsewhere.h5")


def virtual_of_an_array_without_values(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    virtual(file, values, folder)
    with h5py.File(folder / "radar.h5", "w") as other:
        other.create_dataset("pixels", values.shape, values.dtype)


def virtual_of_another_array(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    virtual(file, values, folder)
    with h5py.File(folder / "radar.h5", "w") as other:
        other["other"] = values


def virtual_in_part(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    with h5py.File(folder / "radar.h5", "w") as other:
        other["pixels"] = values[:-1]
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:-1] = h5py.VirtualSource(folder / "radar.h5", "pixels", values[:-1].shape)
    file.create_virtual_dataset("sen1", layout)


def external_that_ends_early(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    external_storage(file, values, folder)
    file.flush()
    os.truncate(folder / "radar.raw", values.nbytes)  # it begins at byte 64


def parts_never_written(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    file.create_dataset("sen1", values.shape, values.dtype, chunks=(5, *values.shape[1:]))[:5] = values[:5]


def never_written(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    file.create_dataset("sen1", values.shape, values.dtype, fillvalue=0.25)


LACKING = {
    virtual_without_a_file: "not found",
    virtual_of_an_array_without_values: "never written",
    virtual_of_another_array: "pixels",
    virtual_in_part: "no file has a part of it",
    external_that_ends_early: "radar.raw",
    parts_never_written: "2 of its 3 parts",
    never_written: "never written",
}


@pytest.mark.parametrize("way", LACKING)
def test_what_hdf5_would_fill_in_for_values_that_are_nowhere_is_refused(tmp_path: Path, way) -> None:
    path = write(tmp_path / "mine.h5", way)
    with refuses(path, "sen1", LACKING[way]), open_patches(path):
        pytest.fail("opened")


def virtual_that_grows(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    all_patches = (slice(h5py.h5s.UNLIMITED), *[slice(None)] * 3)
    most = (None, *values.shape[1:])
    with h5py.File(folder / "radar.h5", "w") as other:
        other.create_dataset("pixels", data=values, maxshape=most)
    layout = h5py.VirtualLayout(values.shape, values.dtype, maxshape=most)
    source = h5py.VirtualSource(folder / "radar.h5", "pixels", values.shape, maxshape=most)
    layout[all_patches] = source[all_patches]
    file.create_virtual_dataset("sen1", layout)


def virtual_of_files_beside(file: h5py.File, values: np.ndarray, folder: Path) -> None:
    with h5py.File(folder / "radar.h5", "w") as other:
        other["pixels"] = values
    layout = h5py.VirtualLayout(values.shape, values.dtype)
    layout[:] = h5py.VirtualSource("radar.h5", "pixels", values.shape)
    file.create_virtual_dataset("sen1", layout)


@pytest.mark.parametrize("way", [virtual_that_grows, virtual_of_files_beside])
def test_virtual_arrays_whose_files_are_there_are_read(tmp_path: Path, way) -> None:
    path = write(tmp_path / "mine.h5", way)
    with open_patches(path) as reader:
        check_against_h5py(path, reader)


@pytest.mark.parametrize("way", WAYS)
def test_values_are_those_that_hdf5_reads_wherever_they_lie(tmp_path: Path, way) -> None:
    path = write(tmp_path / "mine.h5", way)
    with open_patches(path) as reader:
        assert reader.arrays[0].key == "sen1"
        assert (reader.arrays[0].offset is not None) == (way in (plain, link_in_this_file))
        check_against_h5py(path, reader)


def test_values_in_the_header_of_an_array_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.h5", compact, count=1)  # a header has room for 64 KiB
    with open_patches(path) as reader:
        assert reader.arrays[0].offset is None
        assert next(reader.chunks(1))[1].any()


@pytest.mark.parametrize("options", [{"userblock_size": 4096}, {"libver": "latest"}, {"driver": "core"}])
def test_other_layouts_of_one_file_are_read_in_place(tmp_path: Path, options: dict[str, object]) -> None:
    path = write(tmp_path / "mine.h5", plain, **options)
    with open_patches(path) as reader:
        assert all(array.offset is not None for array in reader.arrays)
        check_against_h5py(path, reader)


def test_another_driver_of_hdf5_reads_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "mine.h5", plain)
    monkeypatch.setattr(h5py.File, "driver", "core")
    with open_patches(path) as reader:
        assert [array.offset for array in reader.arrays] == [None, None, None]
        check_against_h5py(path, reader)


@pytest.mark.parametrize(
    ("name", "first", "reason", "driver"),
    [
        ("part%d.h5", "part0.h5", "truncated file", {"driver": "family", "memb_size": 65536}),
        ("part", "part-m.h5", "multi driver", {"driver": "split"}),
    ],
)
def test_parts_of_a_file_are_refused_with_the_reason_of_hdf5(
    tmp_path: Path, name: str, first: str, reason: str, driver: dict[str, object]
) -> None:
    write(tmp_path / name, plain, **driver)
    with refuses(tmp_path / first, reason), open_patches(tmp_path / first):
        pass


def test_a_link_that_leads_nowhere_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.h5", external_link)
    (tmp_path / "radar.h5").unlink()
    with refuses(path, "sen1", "radar.h5"), open_patches(path):
        pass


def test_the_same_patches_behind_an_external_link(tmp_path: Path, case: Callable[..., Path]) -> None:
    folder = case("t10_external_link.py", DEMO=write_dataset(tmp_path / "demo") / "testing.h5") / "t10"
    with open_patches(folder / "one.h5") as one, open_patches(folder / "linked.h5") as linked:
        for whole, pieces in zip(one.chunks(7), linked.chunks(7), strict=True):
            for expected, values in zip(whole[1:], pieces[1:], strict=True):
                np.testing.assert_array_equal(values, expected)


# ---- files that cannot be opened or read here


def test_reasons_that_are_not_damage_are_told(tmp_path: Path, case: Callable[..., Path]) -> None:
    folder = case("t12_hdf5_unreadable.py", DEMO=write_dataset(tmp_path / "demo") / "training.h5") / "t12"
    coded, killed = folder / "filter.h5", folder / "killed_writer.h5"
    with refuses(coded, "32001 (blosc)", "h5repack"), open_patches(coded) as reader:
        list(reader.chunks(4))
    with refuses(killed, "h5clear"), open_patches(killed):
        pass


def test_a_killed_writer_is_told_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "mine.h5"
    write = f"import h5py, os; f = h5py.File({str(path)!r}, 'w', libver='latest'); f['sen1'] = 0; f.flush(); os.abort()"
    subprocess.run([sys.executable, "-c", write], check=False, stderr=subprocess.DEVNULL)
    with refuses(path, "h5clear"), opened(path):
        pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_file_on_a_mount_without_locks_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    path = write(tmp_path / "mine.h5", plain)
    locking = h5py.File

    def without_locks(name: Path, mode: str = "r", **options: object) -> h5py.File:
        if options.get("locking", True):
            raise OSError(number, f"unable to lock file, errno = {number}, error message = '{os.strerror(number)}'")
        return locking(name, mode, **options)

    monkeypatch.setattr(h5py, "File", without_locks)
    with open_patches(path) as reader:
        assert reader.count == COUNT


def test_a_file_that_a_program_writes_is_told(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.h5", plain)
    script = f"import h5py; f = h5py.File({str(path)!r}, 'a'); print(flush=True); input()"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", script], **pipes) as writer:  # type: ignore[call-overload]
        writer.stdout.readline()
        with refuses(path, "locked"), opened(path):
            pass
        writer.communicate(b"\n")


def test_a_damaged_directory_of_names_and_a_type_that_numpy_lacks_are_one_line(tmp_path: Path) -> None:
    path = write(tmp_path / "mine.h5", plain)
    path.write_bytes(path.read_bytes().replace(b"HEAP", b"HEAX"))
    with refuses(path, "heap"), open_patches(path):
        pass
    strange = h5py.h5t.IEEE_F64LE.copy()
    strange.set_fields(63, 40, 23, 0, 40)
    with h5py.File(tmp_path / "strange.h5", "w") as file:
        h5py.h5d.create(file.id, b"sen2", strange, h5py.h5s.create_simple((1, 32, 32, 10)))
        file["sen2"].id.write(h5py.h5s.ALL, h5py.h5s.ALL, np.zeros((1, 32, 32, 10)))
    with refuses(tmp_path / "strange.h5", "HDF5"), open_patches(tmp_path / "strange.h5"):
        pass


@pytest.mark.parametrize("filters", [{}, {"compression": "gzip", "shuffle": True}], ids=["none", "left-out"])
def test_chunks_of_less_than_their_size_are_damage_as_hdf5_gives_old_memory_for_the_rest(
    tmp_path: Path, filters: dict[str, Any]
) -> None:
    path = write(tmp_path / "mine.h5", plain)
    with h5py.File(path, "a") as file:
        del file["sen2"]
        sen2 = file.create_dataset("sen2", (COUNT, 32, 32, 10), "f4", chunks=(1, 32, 32, 10), **filters)
        sen2[:] = 1
        sen2.id.write_direct_chunk((0, 0, 0, 0), b"eight by", filter_mask=0b11 if filters else 0)
    with refuses(path, "sen2", "parts"), open_patches(path):
        pass


@pytest.mark.parametrize(
    "filters", [{}, {"shuffle": True}, {"fletcher32": True}], ids=["zlib", "shuffle", "fletcher32"]
)
def test_a_part_that_unpacks_to_less_than_its_size_is_refused_and_no_whole_one(
    tmp_path: Path, filters: dict[str, Any]
) -> None:
    path, packed = write(tmp_path / "mine.h5", plain), zlib.compress(bytes(4096))
    with h5py.File(path, "a") as file:
        del file["sen2"]
        sen2 = file.create_dataset("sen2", (COUNT, 32, 32, 10), "f4", chunks=(5, 32, 32, 10), compression=1, **filters)
        sen2[:] = 1
    with open_patches(path) as reader:
        reader.check_unpacked()
    with h5py.File(path, "a") as file:
        mask = 0b10 if "fletcher32" in filters else 0
        file["sen2"].id.write_direct_chunk((5, 0, 0, 0), packed, filter_mask=mask)
    with open_patches(path) as reader, refuses(path, "sen2", "parts"):
        reader.check_unpacked()


@pytest.mark.parametrize("seat", ["attribute", "city"])
def test_texts_in_whose_heap_hdf5_goes_in_circles_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seat: str
) -> None:
    monkeypatch.setattr("bp_lcz.so2sat.hdf5._SECONDS", 1)
    write_dataset(tmp_path, patches={"testing": 2}, cities={"testing": 1})
    path = tmp_path / ("testing.h5" if seat == "attribute" else "testing_geo.h5")
    with h5py.File(path, "a") as file:
        if seat == "attribute":
            file["sen2"].attrs["bands"] = list(ALL_CHANNELS.sen2)
        else:
            del file["city"]
            file["city"] = ["here", "there"]
    content = bytearray(path.read_bytes())
    first = content.index(b"GCOL") + 16
    content[first : first + 16] = bytes(16)  # free space of no size
    path.write_bytes(content)
    with refuses(path), open_patches(tmp_path / "testing.h5"):
        read_geo_of(tmp_path / "testing.h5")


def test_texts_of_an_unchanged_file_are_tried_once_and_those_of_a_changed_one_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path, patches={"testing": 2}, cities={"testing": 1})
    path, tries, fork = tmp_path / "testing.h5", list[Path](), os.fork
    with h5py.File(path, "a") as file:
        file["sen2"].attrs["bands"] = list(ALL_CHANNELS.sen2)
    monkeypatch.setattr(os, "fork", lambda: tries.append(path) or fork())

    def read() -> int:
        tries.clear()
        with open_patches(path):
            return len(tries)

    first = read()
    assert (first > 0, read()) == (True, 0)
    os.utime(path, ns=(0, 0))
    assert read() == first
