"""The picture under a map."""

import numpy as np

from bp_lcz.maps.cells import cell_type
from bp_lcz.maps.outputs import true_colours


def test_the_picture_loses_its_haze_keeps_its_colours_and_is_black_where_nothing_is_known() -> None:
    cells = np.zeros((6, 8), cell_type(5))
    rng = np.random.default_rng(0)
    ground = rng.integers(0, 1000, cells["picture"].shape)
    ground[:, :4, ..., 0] += 2000
    cells["picture"] = np.add(ground, [300, 600, 1200])
    cells["picture"][0, 0] = 0
    shown = true_colours(cells)
    assert shown.shape == (30, 40, 3)
    assert shown[:5, :5].max() == 0
    assert shown[5:].min() == 1
    red, green, blue = shown[5:, :20].reshape(-1, 3).mean(axis=0)
    assert red > 1.3 * green
    assert abs(green - blue) < 5
    assert np.ptp(shown[5:, 20:].reshape(-1, 3).mean(axis=0)) < 5
