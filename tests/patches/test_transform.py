import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bp_lcz.bands import ALL_CHANNELS, Channels
from bp_lcz.patches.transform import first_not_finite, transform
from tests.so2sat.patches import random_patches


def one(band, value):
    """The transformed value of one Sentinel-1 channel."""
    channels = Channels((band,), ALL_CHANNELS.sen2)
    sen1 = np.full((1, 32, 32, 1), value)
    return transform(sen1, np.zeros((1, 32, 32, 10)), channels)[0, 0, 0, 0]


@pytest.mark.parametrize(("power", "decibel"), [(1.0, 0.0), (0.1, -10.0), (100.0, 20.0), (1e-5, -50.0)])
def test_intensities_are_in_decibel(power, decibel):
    assert one("VH_lee_intensity", power) == pytest.approx(decibel, abs=1e-5)


@pytest.mark.parametrize("power", [0.0, -1.0, 1e-12, -np.inf, np.nan])
def test_power_that_has_no_logarithm_is_at_the_floor(power):
    assert one("VV_lee_intensity", power) == -50.0


@pytest.mark.parametrize(
    ("band", "scale"),
    [
        ("VH_real", 0.1),
        ("VH_imag", 0.1),
        ("VV_real", 0.1),
        ("VV_imag", 0.1),
        ("C12_lee_real", 0.01),
        ("C12_lee_imag", 0.01),
    ],
)
@pytest.mark.parametrize("value", [-3.0, -0.02, 0.0, 0.5, 8000.0])
def test_amplitudes_and_covariances_are_in_signed_logarithm(band, scale, value):
    assert one(band, value) == pytest.approx(np.sign(value) * np.log1p(abs(value) / scale), rel=1e-5)


def test_reflectance_is_unchanged_and_follows_sentinel_1():
    sen1, sen2, _ = random_patches(3, dtype=np.float32)
    values = transform(sen1, sen2, ALL_CHANNELS)
    assert values.shape == (3, 32, 32, 18)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values[..., 8:], sen2)


def test_input_is_not_written_to():
    sen1, sen2, _ = random_patches(3, dtype=np.float32)
    copies = sen1.copy(), sen2.copy()
    transform(sen1, sen2, ALL_CHANNELS)
    np.testing.assert_array_equal(sen1, copies[0])
    np.testing.assert_array_equal(sen2, copies[1])


def test_double_and_single_precision_give_the_same_bits():
    sen1, sen2, _ = random_patches(5, dtype=np.float64)
    np.testing.assert_array_equal(
        transform(sen1, sen2, ALL_CHANNELS),
        transform(sen1.astype(np.float32), sen2.astype(np.float32), ALL_CHANNELS),
    )


def test_a_patch_does_not_depend_on_the_others_of_its_batch():
    sen1, sen2, _ = random_patches(9)
    batch = transform(sen1, sen2, ALL_CHANNELS)
    for i in range(9):
        np.testing.assert_array_equal(transform(sen1[i : i + 1], sen2[i : i + 1], ALL_CHANNELS)[0], batch[i])


@given(arrays(np.float32, 8, elements=st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_finite_values_stay_finite(pixel):
    sen1 = np.broadcast_to(pixel, (1, 32, 32, 8))
    values = transform(sen1, np.zeros((1, 32, 32, 10), dtype=np.float32), ALL_CHANNELS)
    assert np.isfinite(values).all()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -3.5e38])
def test_the_first_patch_that_is_not_finite_as_float32_is_found(value):
    images = np.zeros((150, 2, 2, 3))
    assert first_not_finite(images) is None
    images[70, 1, 0, 2] = images[149] = value
    assert first_not_finite(images) == 70


def test_what_float32_holds_is_finite_and_no_channels_are_too():
    assert first_not_finite(np.full((2, 1, 1, 1), np.finfo(np.float32).max, np.float64)) is None
    assert first_not_finite(np.zeros((2, 32, 32, 0))) is None
