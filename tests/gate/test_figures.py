import struct

import h5py
import numpy as np
import pytest

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.drawing import Note
from bp_lcz.gate import figures as gate_figures
from bp_lcz.gate.figures import band_histograms, sample_patches, spaced, write_gate_figures
from bp_lcz.params import SPLITS
from bp_lcz.records import BandSummary, Leakage, SplitSummary
from bp_lcz.so2sat.layout import open_split
from tests.records import small_summary
from tests.so2sat.patches import edit, write_dataset

NOTE = Note("mine", "simulated data")
TWO_RADAR = Channels(("VH_lee_intensity", "VV_lee_intensity"), ALL_CHANNELS.sen2)


def summary_of(root, channels=ALL_CHANNELS):
    """What the gate's summary says that the figures need."""
    counts, bands = {}, {}
    for split in SPLITS:
        with open_split(root, split) as reader:
            classes = tuple(reader.labels().sum(axis=0).astype(int).tolist())
            counts[split] = SplitSummary(patches=sum(classes), class_counts=classes, cities=None)
            ((_, sen1, sen2, _),) = reader.chunks(1_000)
        mean = np.concatenate([sen1, sen2], axis=-1).mean(axis=(0, 1, 2))
        bands[split] = {
            band: BandSummary(mean=float(value), std=0.0, min=0.0, max=0.0)
            for band, value in zip(channels.names, mean, strict=True)
        }
    return small_summary(channels=channels, splits=counts, bands=bands)


def draw(root, out, channels=ALL_CHANNELS, **changes):
    out.mkdir()
    write_gate_figures(root, summary_of(root, channels).model_copy(update=changes), out)
    return {path.name: path.read_bytes() for path in out.iterdir()}


def size(png):
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", png[16:24])


def test_equal_data_give_equal_bytes_however_they_are_stored(tmp_path):
    plain = draw(write_dataset(tmp_path / "a"), tmp_path / "1")
    assert sorted(plain) == ["bands.png", "classes.png", "patches.png"]
    assert {size(png)[0] for png in plain.values()} == {1080}
    assert draw(write_dataset(tmp_path / "b", storage="gzip"), tmp_path / "2") == plain


def test_two_radar_channels_and_absent_classes_can_be_drawn(tmp_path):
    root = write_dataset(tmp_path / "mine", channels=TWO_RADAR)
    edit(root, "training", "label", np.eye(17)[[4] + [16] * 33])  # class 5 once, most classes in other splits
    for split in ("validation", "testing"):
        edit(root, split, "label", np.eye(17)[np.arange(17) % 3])
    drawn = draw(root, tmp_path / "1", TWO_RADAR)
    assert size(drawn["bands.png"])[1] < 1500  # five rows of panels in place of seven


def test_every_figure_says_what_the_data_are(tmp_path, monkeypatch):
    heads = []
    for figure in ("class_histogram", "band_histograms", "sample_patches"):
        monkeypatch.setattr(gate_figures, figure, lambda *arguments: heads.append(arguments[-1]) or b"")
    draw(write_dataset(tmp_path / "mine"), tmp_path / "1", leakage=Leakage(status="overlap", pairs=1, distance=None))
    assert [note.warning for note in heads] == ["leaky split, simulated data"] * 3
    assert [note.text for note in heads] == [
        "mine",
        "mine, pixels of all patches",
        "mine, up to 3 patches of each class",
    ]


def test_patches_are_of_the_first_split_that_has_the_class(tmp_path):
    root = write_dataset(tmp_path / "mine", channels=TWO_RADAR)
    edit(root, "training", "label", np.eye(17)[[4] + [16] * 33])
    edit(root, "validation", "label", np.eye(17)[[4] * 16 + [0]])
    edit(root, "testing", "label", np.eye(17)[[0] * 16 + [9]])
    names = [[patch.name for patch in row] for row in gate_figures._choose_patches(root, TWO_RADAR)]
    assert names[4] == ["training.h5[0]"]
    assert names[16] == ["training.h5[6]", "training.h5[17]", "training.h5[28]"]
    assert names[0] == ["validation.h5[16]"]
    assert names[9] == ["testing.h5[16]"]
    assert sum(map(bool, names)) == 4


def test_every_pixel_is_counted_once_also_beyond_a_panel(tmp_path):
    root = write_dataset(tmp_path / "mine")
    sen2 = np.full((17, 32, 32, 10), 0.105)
    sen2[:, :16, :, 2] = 0.9  # half of B04
    edit(root, "testing", "sen2", sen2)
    counted = gate_figures._count_pixels(root, ALL_CHANNELS)["testing"]
    for histogram in counted.values():
        assert histogram.share.sum() + histogram.below + histogram.above == pytest.approx(1.0)
    assert counted["B04"].above == 0.5
    assert counted["B04"].share[10] == 0.5  # bins of .01


def test_radar_is_counted_in_decibel_and_zero_lies_below():
    values = np.array([0.0, 0.01, 10.0])
    assert gate_figures._scaled("VV_lee_intensity", values)[1:].tolist() == [-20.0, 10.0]
    assert gate_figures._bin(gate_figures._scaled("VV_lee_intensity", values), -35.0, 15.0)[[0, 22, 64]].sum() == 3


def test_published_values_are_drawn_only_beside_all_channels(monkeypatch):
    drawn = []
    monkeypatch.setattr(gate_figures, "_draw_published", lambda axes, band: drawn.append(band))
    monkeypatch.setattr(gate_figures, "_draw_histogram", lambda *arguments: None)
    for channels in (TWO_RADAR, ALL_CHANNELS):
        histogram = gate_figures.Histogram(np.full(70, 1 / 70), 0.0, 0.0)
        same = {split: dict.fromkeys(channels.names, histogram) for split in SPLITS}
        means = {split: dict.fromkeys(channels.names, 0.1) for split in SPLITS}
        band_histograms(channels, same, means, NOTE)
        assert sorted(drawn) == (sorted(ALL_CHANNELS.names) if channels is ALL_CHANNELS else [])


def test_patches_without_the_bands_of_a_picture_are_named_only():
    nothing = gate_figures.Sample("training.h5[0]", {})
    assert size(sample_patches([[nothing]] + [[]] * 16, NOTE)) == size(sample_patches([[]] * 17, NOTE))


@pytest.mark.parametrize(
    ("count", "wanted", "indices"),
    [(0, 3, []), (1, 3, [0]), (2, 3, [0, 1]), (3, 3, [0, 1, 2]), (12, 3, [2, 6, 10]), (9, 2, [2, 6])],
)
def test_a_sample_is_spread_evenly(count, wanted, indices):
    assert spaced(count, wanted).tolist() == indices


def test_picked_patches_are_those_of_the_file_whatever_its_chunks(tmp_path):
    root = write_dataset(tmp_path / "mine")
    with open_split(root, "training") as reader:
        ((_, sen1, sen2, _),) = reader.chunks(1_000)
    wanted = np.array([0, 3, 4, 7, 33])
    for chunks in (None, (1, 32, 32, 8), (5, 8, 32, 8)):
        with h5py.File(root / "training.h5", "a") as file:
            del file["sen1"]
            file.create_dataset("sen1", data=sen1, chunks=chunks)
        with open_split(root, "training") as reader:
            picked = list(reader.pick(wanted))
        assert [index for index, _, _ in picked] == wanted.tolist()
        assert all((sen1[i] == radar).all() and (sen2[i] == optical).all() for i, radar, optical in picked)


def test_sand_and_bright_roofs_keep_their_texture_beside_shadow():
    reflectance = np.resize([0.03, 0.05, 0.1, 0.3, 0.33, 0.4], (32, 32))
    shades = gate_figures._stretched(reflectance, *gate_figures._REFLECTANCE, gate_figures._GAMMA)[0, :6]
    assert (np.diff(shades.astype(int)) > 10).all()
    assert (shades[0], shades[-1]) == (0, 255)
