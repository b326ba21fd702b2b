"""By what So2Sat LCZ42 is known, and the list of its releases."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml

from bp_lcz.so2sat.releases import (
    CULTURE_10,
    RELEASES,
    SO2SAT_V2,
    check_not_mixed,
    gigabytes,
    known_release,
    read_release,
    release,
    releases_json,
    releases_table,
)
from tests.conftest import ROOT
from tests.refusals import refuses
from tests.so2sat.official import CLASS_COUNTS, FIRST_TESTING


def test_the_official_splits_are_known_by_their_labels():
    assert release(CLASS_COUNTS, FIRST_TESTING) == SO2SAT_V2


@pytest.mark.parametrize("split", ["training", "validation", "testing"])
def test_one_patch_more_in_any_split_is_another_data_set(split):
    counts = {**CLASS_COUNTS, split: [CLASS_COUNTS[split][0] + 1, *CLASS_COUNTS[split][1:]]}
    assert release(counts, FIRST_TESTING) is None


def test_the_same_patches_in_another_order_are_another_data_set():
    assert release(CLASS_COUNTS, FIRST_TESTING[::-1]) is None
    assert release(CLASS_COUNTS, []) is None


JOINED = [sum(pair) for pair in zip(CLASS_COUNTS["validation"], CLASS_COUNTS["testing"], strict=True)]
CUT = {"training": [count - 50 for count in CLASS_COUNTS["training"]], "validation": [50] * 17, "testing": JOINED}
JOINED_LABELS = [0] * 24_119 + FIRST_TESTING


def test_culture_10_is_known_by_the_labels_of_validation_and_testing_one_after_the_other():
    assert sum(JOINED) == 48_307
    assert release(CUT, JOINED_LABELS) == release(CUT, FIRST_TESTING) == CULTURE_10


@pytest.mark.parametrize(
    ("changes", "labels"),
    [
        ({}, [0] * 30 + FIRST_TESTING),
        ({"validation": [51] * 17}, JOINED_LABELS),  # not cut off its training
        ({"testing": CLASS_COUNTS["testing"]}, JOINED_LABELS),
    ],
)
def test_what_only_resembles_culture_10_is_another_data_set(changes, labels):
    assert release({**CUT, **changes}, labels) is None


@pytest.mark.shared
def test_the_counts_of_testing_are_those_of_the_published_labels(shared_data):
    with np.load(shared_data / "golden/sen2lcz_v2_test_labels_preds.npz") as golden:
        true = golden["y_true"].astype(int) - 1
    assert np.bincount(true, minlength=17).tolist() == CLASS_COUNTS["testing"]
    assert true[: len(FIRST_TESTING)].tolist() == FIRST_TESTING


def test_data_dvc_pins_what_the_registry_says_of_v2():
    pinned = yaml.safe_load((ROOT / "data.dvc").read_text())["outs"]
    assert [(Path(out["path"]).name, out["size"], out["md5"]) for out in pinned] == [
        (file.name, file.size, file.md5) for file in RELEASES[SO2SAT_V2].files
    ]
    assert {Path(out["path"]).parent for out in pinned} == {Path("data") / str(RELEASES[SO2SAT_V2].folder)}


def test_no_checksum_of_a_release_stands_anywhere_else_in_the_package():
    sums = {file.md5 for entry in RELEASES.values() for file in entry.files if file.md5}
    sources = [file for file in (ROOT / "src").rglob("*.py") if file.name != "releases.py"]
    assert not [file for file in sources if any(md5 in file.read_text() for md5 in sums)]


def test_the_rule_for_sizes_gives_the_two_published_ones():
    published = {file.name: file.size for file in RELEASES[SO2SAT_V2].files if not file.size_derived}
    assert published == {"training.h5": 52_006_404_720, "validation.h5": 3_559_773_496}
    for name, size in published.items():
        patches = sum(CLASS_COUNTS[name.removesuffix(".h5")])
        assert size == patches * (18 * 1024 + 17) * 8 + 2048


def test_culture_10_tests_on_what_v2_validates_and_tests_on():
    culture = RELEASES["so2sat-v3-culture-10"]
    assert culture.files[0] == RELEASES[SO2SAT_V2].files[0]
    assert culture.class_counts is not None
    assert sum(culture.class_counts["testing"]) == 24_119 + 24_188
    assert culture.files[1].size == 7_129_728_792


def test_the_list_shows_every_file_and_no_password():
    table = releases_table()
    for entry in RELEASES.values():
        assert entry.name in table
        assert all(file.name in table and (file.md5 is None or file.md5 in table) for file in entry.files)
    assert "3,569,957,344*" in table  # derived, and said so
    assert ":m1483140@" not in table


def test_an_entry_of_the_json_list_is_a_release_file(tmp_path):
    file = tmp_path / "mine.json"
    for entry in releases_json():
        file.write_text(json.dumps({**entry, "name": f"my-{entry['name']}"}))
        mine = read_release(file)
        assert mine.files == RELEASES[entry["name"]].files


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        ("{", "JSON"),
        ('{"name": "mine", "files": []}', "files"),
        ('{"name": "mine", "files": [{"name": "../training.h5"}]}', "files.0.name"),
        ('{"name": "mine", "files": [{"name": "a.h5", "md5": "abc"}]}', "files.0.md5"),
        ('{"name": "mine", "files": [{"name": "a.h5"}, {"name": "a.h5"}]}', "two files"),
        ('{"name": "so2sat-v2", "files": [{"name": "a.h5"}]}', "so2sat-v2"),
        ('{"name": "mine", "files": [{"name": "a.h5"}], "colour": 1}', "colour"),
    ],
)
def test_a_wrong_release_file_is_one_clear_line(tmp_path, content, fact):
    file = tmp_path / "mine.json"
    file.write_text(content)
    with refuses(file, fact):
        read_release(file)


def test_an_unknown_release_and_a_missing_release_file_are_user_errors(tmp_path):
    with refuses("v5", "so2sat-v2"):
        known_release("v5")
    with refuses(tmp_path / "none.json", "No such file"):
        read_release(tmp_path / "none.json")


def official_sizes(folder: Path, **releases: str) -> Path:
    """Files without content that have the sizes of official ones."""
    for split, name in releases.items():
        size = next(file.size for file in RELEASES[name].files if file.name == f"{split}.h5")
        assert size is not None
        with (folder / f"{split}.h5").open("wb") as file:
            file.truncate(size)  # sparse
    return folder


def test_files_of_two_releases_in_a_folder_are_named(tmp_path):
    folder = official_sizes(tmp_path, training=SO2SAT_V2, validation=SO2SAT_V2, testing="so2sat-v3-random")
    with refuses(folder, "different", "testing.h5 is of so2sat-v3-random"):
        check_not_mixed(folder)


def test_one_release_or_files_of_ones_own_are_not_mixed(tmp_path):
    folder = official_sizes(tmp_path, training=SO2SAT_V2, testing="so2sat-v3-culture-10")  # share a training file
    check_not_mixed(folder)
    (folder / "testing.h5").write_bytes(b"own")
    check_not_mixed(folder)


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (59_136_135_560, "59.1 GB"), (2 * 10**15, "2000.0 TB")],
)
def test_sizes_for_people(size, text):
    assert gigabytes(size) == text
