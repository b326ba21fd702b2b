"""Every cell gets the zone of its own patch, and no pixel that nobody measured reaches a network."""

import tracemalloc
from collections import deque

import numpy as np
import pytest
from shapely import box

from bp_lcz import maps, model
from bp_lcz.bands import SEN2_BANDS, Channels
from bp_lcz.errors import UserError
from bp_lcz.maps.cells import NO_PERCENT, WITH_ZONE, Reason, cell_type, check_channels, predict_cells
from tests.maps.scenes import OPTICAL, ArrayScene, classifier_of, spy
from tests.model.networks import INTENSITIES_ONLY


def map_of(scene, classifier, side=1, first=0, before=0):
    return np.stack(list(predict_cells(scene, classifier, cell_type(side), first, before)))


def zones(down, across):
    row, column = np.indices((down, across))
    return (3 * row + column) % 17 + 1


@pytest.mark.parametrize(("height", "width"), [(32, 32), (42, 32), (32, 362), (132, 52), (412, 62), (92, 1032)])
def test_every_cell_has_the_zone_of_its_own_patch(height, width):
    scene, network = ArrayScene(height, width), spy()
    cells = map_of(scene, network)
    down, across = (height - 32) // 10 + 1, (width - 32) // 10 + 1
    np.testing.assert_array_equal(cells["lcz"], zones(down, across))
    assert (cells["reason"] == Reason.MAPPED).all()
    row, column = np.indices((32, 32))
    corner = network.patches[:, :1, :1, :2]
    np.testing.assert_array_equal(
        network.patches[..., :2], corner + np.stack([row, column], axis=-1)
    )  # a patch is 32 x 32 pixels that lie beside each other in the scene


def test_cells_unlike_the_training_data_keep_their_zone_and_say_so():
    cells = map_of(ArrayScene(132, 332), spy(strange=5))
    np.testing.assert_array_equal(cells["lcz"], zones(11, 31))
    np.testing.assert_array_equal(cells["reason"], np.where(cells["lcz"] == 5, Reason.UNLIKE, Reason.MAPPED))


def test_percent_and_how_sure_a_cell_is():
    cell = map_of(ArrayScene(32, 32), spy())[0, 0]
    assert cell["percent"].tolist() == [68] + [2] * 16
    entropy = -(0.68 * np.log(0.68) + 16 * 0.02 * np.log(0.02)) / np.log(17)
    assert cell["quality"].tolist() == [68, 66, round(100 * entropy)]


@pytest.mark.parametrize(("threshold", "classes"), [(0.5, 1), (0.02, 17), (0.9, 1), (None, NO_PERCENT)])
def test_how_many_classes_the_set_of_a_cell_has(threshold, classes):
    [row] = predict_cells(ArrayScene(32, 32), spy(), cell_type(1), threshold=threshold)
    assert row[0]["classes"] == classes


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("outside", Reason.RIM),
        ("sen2", Reason.SENTINEL2_MISSING),
        ("sen1", Reason.SENTINEL1_MISSING),
        ("masked", Reason.MASKED),
    ],
)
def test_one_wrong_pixel_leaves_exactly_the_patches_that_hold_it_without_a_zone(key, reason):
    scene, network = ArrayScene(132, 152, INTENSITIES_ONLY), spy(INTENSITIES_ONLY)
    scene.wrong[key][57, 71] = True
    scene.sen2[:, 57, 71] = scene.sen1[:, 57, 71] = np.nan
    cells = map_of(scene, network)
    row, column = np.indices(cells.shape)
    holds = (10 * row <= 57) & (10 * row + 32 > 57) & (10 * column <= 71) & (10 * column + 32 > 71)
    np.testing.assert_array_equal(cells["reason"], np.where(holds, reason, Reason.MAPPED))
    np.testing.assert_array_equal(cells["lcz"], np.where(holds, 0, zones(*cells.shape)))
    assert (cells["percent"][holds] == 255).all()
    assert np.isfinite(network.patches).all()


def test_missing_radar_is_nothing_to_a_model_that_takes_none():
    scene = ArrayScene(52, 52, INTENSITIES_ONLY)
    scene.wrong["sen1"][:] = True
    assert (map_of(scene, spy())["reason"] == Reason.MAPPED).all()


def test_a_model_gets_the_channels_that_it_takes_in_its_order():
    few = Channels(("VV_lee_intensity",), ("B02", "B03", "B12", "B05"))
    network = spy(few)
    map_of(ArrayScene(32, 32, INTENSITIES_ONLY), network)
    decibel, *reflectance = network.patches[0, 5, 6]
    assert decibel == pytest.approx(10 * np.log10(2))
    assert reflectance == [5, 6, SEN2_BANDS.index("B12") - 2, SEN2_BANDS.index("B05") - 2]


def test_channels_that_the_files_lack_are_named():
    with pytest.raises(UserError, match="VH_lee_intensity, VV_lee_intensity") as refused:
        check_channels(ArrayScene(32, 32), spy(INTENSITIES_ONLY))
    assert refused.value.where == "--s1"


def test_an_area_leaves_the_cells_that_it_does_not_touch_outside():
    scene, network = ArrayScene(132, 132), spy()
    scene.area = box(390_150, 5_819_550, 390_450, 5_819_750)  # cells 1 to 4 across, 2 to 4 down
    reason = map_of(scene, network)["reason"]
    inside = np.zeros((11, 11), bool)
    inside[2:5, 1:5] = True
    np.testing.assert_array_equal(reason, np.where(inside, Reason.MAPPED, Reason.OUTSIDE_AREA))


def test_the_picture_is_the_mean_colour_of_the_cell():
    scene = ArrayScene(42, 42)
    scene.sen2 = np.stack([values / 100 for values in scene.sen2])
    for side in (1, 10):
        picture = map_of(scene, spy(), side)["picture"][1, 0]  # rows 21 to 30, columns 11 to 20
        assert picture.shape == (side, side, 3)
        assert picture[0, 0].tolist() == [0, 1550 if side == 1 else 1100, 2550 if side == 1 else 2100]


@pytest.mark.parametrize(("backbone", "channels"), [("eb_cnn", OPTICAL), ("vit", INTENSITIES_ONLY)])
def test_a_map_that_goes_on_has_the_bits_of_one_made_at_once(backbone, channels, monkeypatch):
    for module in (maps.cells, model.checkpoint):
        monkeypatch.setattr(module, "BATCH", 32)
    scene, network = ArrayScene(92, 132, channels), classifier_of(backbone, channels)
    scene.sen2 = np.random.default_rng(0).uniform(0, 0.5, scene.sen2.shape).astype(np.float32)
    scene.wrong["masked"][40, 80] = True
    whole = map_of(scene, network)
    first = 5
    before = int(np.isin(whole[:first]["reason"], WITH_ZONE).sum())
    assert before % 32
    assert map_of(scene, network, first=first, before=before).tobytes() == whole[first:].tobytes()


def test_memory_grows_with_the_width_alone():
    def peak(height):
        scene, network = ArrayScene(height, 52), spy()
        network.__dict__["seen"] = deque(maxlen=1)
        tracemalloc.start()
        for _ in predict_cells(scene, network, cell_type(1)):
            pass
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    assert peak(1532) < 1.1 * peak(732)
