"""Sentinel-2 view of a scene: spectra of surfaces, light and shade, atmosphere, point spread, 20 m bands."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.ndimage import gaussian_filter

# Surface reflectance in B2 B3 B4 B5 B6 B7 B8 B8A B11 B12: rounded approximations of spectra of the kind collected in
# the ECOSTRESS library (Meerdink et al. 2019) and the urban library of Herold et al. (2004), not copies of entries.
ENDMEMBERS: dict[str, tuple[float, ...]] = {
    "clear_water": (0.035, 0.030, 0.016, 0.013, 0.010, 0.009, 0.008, 0.007, 0.004, 0.003),
    "turbid_water": (0.070, 0.095, 0.085, 0.070, 0.042, 0.038, 0.030, 0.024, 0.006, 0.004),
    "broadleaf": (0.025, 0.048, 0.027, 0.075, 0.225, 0.285, 0.300, 0.320, 0.165, 0.075),
    "conifer": (0.018, 0.030, 0.021, 0.046, 0.125, 0.155, 0.170, 0.180, 0.085, 0.040),
    "leafless": (0.050, 0.062, 0.075, 0.095, 0.130, 0.145, 0.160, 0.178, 0.210, 0.145),
    "green_grass": (0.035, 0.068, 0.048, 0.110, 0.260, 0.315, 0.335, 0.355, 0.230, 0.120),
    "dry_grass": (0.070, 0.105, 0.145, 0.180, 0.220, 0.245, 0.265, 0.285, 0.340, 0.230),
    "green_crop": (0.032, 0.065, 0.038, 0.100, 0.300, 0.380, 0.400, 0.420, 0.200, 0.095),
    "ripe_crop": (0.075, 0.110, 0.155, 0.190, 0.225, 0.248, 0.270, 0.290, 0.340, 0.235),
    "green_scrub": (0.035, 0.058, 0.050, 0.090, 0.180, 0.210, 0.225, 0.240, 0.210, 0.120),
    "dry_scrub": (0.070, 0.090, 0.115, 0.140, 0.170, 0.185, 0.200, 0.215, 0.290, 0.220),
    "dark_soil": (0.050, 0.066, 0.088, 0.105, 0.120, 0.133, 0.143, 0.155, 0.210, 0.160),
    "bright_soil": (0.105, 0.150, 0.210, 0.240, 0.260, 0.280, 0.295, 0.312, 0.390, 0.320),
    "red_soil": (0.050, 0.080, 0.160, 0.190, 0.210, 0.228, 0.243, 0.260, 0.340, 0.270),
    "sand": (0.180, 0.240, 0.300, 0.325, 0.340, 0.352, 0.362, 0.375, 0.430, 0.380),
    "pale_rock": (0.130, 0.155, 0.180, 0.195, 0.205, 0.210, 0.215, 0.220, 0.260, 0.240),
    "dark_rock": (0.065, 0.075, 0.085, 0.092, 0.098, 0.102, 0.106, 0.110, 0.140, 0.125),
    "asphalt": (0.072, 0.084, 0.095, 0.102, 0.110, 0.117, 0.121, 0.127, 0.150, 0.130),
    "concrete": (0.150, 0.178, 0.205, 0.218, 0.230, 0.238, 0.243, 0.250, 0.275, 0.235),
    "cinder": (0.050, 0.054, 0.060, 0.064, 0.068, 0.072, 0.076, 0.080, 0.100, 0.098),
    "tile_roof": (0.060, 0.082, 0.145, 0.175, 0.195, 0.212, 0.227, 0.243, 0.290, 0.240),
    "dark_roof": (0.055, 0.060, 0.065, 0.069, 0.073, 0.077, 0.080, 0.083, 0.100, 0.095),
    "gravel_roof": (0.120, 0.139, 0.158, 0.168, 0.178, 0.186, 0.191, 0.198, 0.225, 0.190),
    "metal_roof": (0.300, 0.315, 0.325, 0.330, 0.335, 0.335, 0.335, 0.340, 0.340, 0.310),
    "zinc_roof": (0.165, 0.178, 0.192, 0.197, 0.202, 0.206, 0.207, 0.211, 0.222, 0.195),
    "rust_roof": (0.090, 0.110, 0.150, 0.172, 0.192, 0.208, 0.220, 0.232, 0.280, 0.240),
    "white_roof": (0.480, 0.520, 0.540, 0.545, 0.550, 0.550, 0.550, 0.550, 0.440, 0.380),
    "blue_roof": (0.210, 0.190, 0.145, 0.145, 0.180, 0.210, 0.230, 0.245, 0.240, 0.200),
}

# Surfaces of a scene. Several are blends of end members that a city sets (season, soil, water).
MATERIALS = (
    "water", "tree", "tree_other", "grass", "crop", "ripe", "scrub", "soil", "sand", "rock",
    "asphalt", "concrete", "dark_ground", "tile_roof", "dark_roof", "gravel_roof", "metal_roof", "zinc_roof",
    "rust_roof", "white_roof", "blue_roof",
)  # fmt: skip
MATERIAL = {name: code for code, name in enumerate(MATERIALS)}

WAVELENGTH = np.array([0.490, 0.560, 0.665, 0.705, 0.740, 0.783, 0.842, 0.865, 1.610, 2.190])  # micrometres
AT_20_M = np.array([False, False, False, True, True, True, False, True, True, True])
# Optical depth of the molecules (Teillet 1990); about 0.36 of it comes back to the sensor at mid latitudes.
RAYLEIGH_DEPTH = 0.00877 * WAVELENGTH**-4.05
RAYLEIGH_PATH = 0.36 * RAYLEIGH_DEPTH
# Share of the light that comes from the sky and still reaches shaded ground.
DIFFUSE = np.clip(0.13 + 0.055 * (WAVELENGTH / 0.55) ** -3, 0.06, 0.40)
# Ozone in the visible; water vapour in B5, B6 and most of all in the wide B8, which B8A was cut to avoid; a little
# of several gases in the short-wave bands.
GAS_TRANSMISSION = np.array([0.985, 0.945, 0.965, 0.955, 0.945, 0.975, 0.925, 0.990, 0.965, 0.925])

PixelBands = Float[np.ndarray, "row column 10"]


@dataclass(frozen=True)
class Sky:
    """Atmosphere of a city's acquisition."""

    aerosol: float  # optical depth at 0.55 micrometres
    angstrom: float  # exponent of its decay with wavelength
    sun_factor: float  # illumination against the nominal one


@dataclass(frozen=True)
class Season:
    """Conditions that determine the spectra of a city besides its materials; all are shares 0..1."""

    dryness: float
    leafless: float
    conifer: float
    turbidity: float
    soil: tuple[float, float, float]  # dark, bright, red
    rock_pale: float
    vigour: float


def city_spectra(season: Season) -> Float[np.ndarray, "material 10"]:
    """Reflectance of every material in a city."""
    end = {name: np.array(values) for name, values in ENDMEMBERS.items()}

    def blend(first: str, second: str, share: float) -> np.ndarray:
        return (1 - share) * end[first] + share * end[second]

    dry, bare = season.dryness, season.leafless
    leafy = blend("broadleaf", "leafless", min(1.0, bare + 0.25 * dry))
    names = ("dark_soil", "bright_soil", "red_soil")
    soil = sum(share * end[name] for share, name in zip(season.soil, names, strict=True))
    spectra = {
        "water": blend("clear_water", "turbid_water", season.turbidity),
        "tree": leafy,
        "tree_other": season.conifer * end["conifer"] + (1 - season.conifer) * leafy,
        "grass": blend("green_grass", "dry_grass", dry),
        "crop": season.vigour * end["green_crop"] + (1 - season.vigour) * blend("green_grass", "ripe_crop", dry),
        "ripe": end["ripe_crop"],
        "scrub": blend("green_scrub", "dry_scrub", 0.3 + 0.7 * dry),
        "soil": soil,
        "rock": blend("dark_rock", "pale_rock", season.rock_pale),
        "dark_ground": end["cinder"],
    }
    return np.stack([spectra[name] if name in spectra else end[name] for name in MATERIALS])


def surface_reflectance(
    material: UInt8[np.ndarray, "y x"],
    brightness: Float[np.ndarray, "y x"],
    lit: Bool[np.ndarray, "y x"],
    spectra: Float[np.ndarray, "material 10"],
    subpixels: int,
) -> PixelBands:
    """Mean reflectance of pixels of `subpixels` x `subpixels` subpixels, relative to full light.

    Shaded subpixels get only light from the sky.

    Args:
        material: position of each subpixel's surface in `spectra`.
        brightness: factor on the subpixel's reflectance.
        lit: whether the sun reaches the subpixel.
        spectra: reflectance of each material.
        subpixels: subpixels along a side of a pixel.
    """
    rows, columns = material.shape[0] // subpixels, material.shape[1] // subpixels
    pixels = rows * columns
    present = np.flatnonzero(np.bincount(material.ravel(), minlength=len(spectra)))
    count = len(present)
    compact = np.zeros(len(spectra), dtype=np.int64)
    compact[present] = np.arange(count)
    pixel = (np.arange(material.shape[0]) // subpixels)[:, None] * columns + np.arange(material.shape[1]) // subpixels
    slot = (pixel * count + compact[material]).ravel()
    bright = np.maximum(brightness, 0.2).ravel().astype(float)
    total = np.bincount(slot, bright, pixels * count)
    sunlit = np.bincount(slot, bright * lit.ravel(), pixels * count)
    light = np.concatenate([total.reshape(pixels, count), sunlit.reshape(pixels, count)], axis=1) / subpixels**2
    colour = np.concatenate([spectra[present] * DIFFUSE, spectra[present] * (1 - DIFFUSE)])
    # einsum instead of BLAS: the same bits whatever the number of threads.
    return np.einsum("pm,mb->pb", light, colour).reshape(rows, columns, len(WAVELENGTH))


def top_of_atmosphere(surface: PixelBands, sky: Sky) -> PixelBands:
    """Add path radiance and light scattered from the surroundings, and subtract losses by scattering and gases."""
    aerosol = sky.aerosol * (WAVELENGTH / 0.55) ** -sky.angstrom
    path = RAYLEIGH_PATH + 0.07 * aerosol
    scattered = 1 - np.exp(-(0.5 * RAYLEIGH_DEPTH + 0.35 * aerosol))
    transmitted = (1 - 0.5 * scattered) * GAS_TRANSMISSION * sky.sun_factor
    around = surface.mean(axis=(0, 1))
    seen = (1 - scattered) * surface + scattered * around
    return path + transmitted * seen


def sentinel2(surface: PixelBands, sky: Sky, margin: int, rng: np.random.Generator) -> Float[np.ndarray, "32 32 10"]:
    """Top-of-atmosphere reflectance as stored in So2Sat: 20 m bands on the 10 m grid, steps of 1e-4, up to 2.8."""
    radiance = top_of_atmosphere(surface, sky)
    # The modulation transfer of the instrument at Nyquist is about 0.25, a Gaussian of 0.4 pixels.
    sharp = gaussian_filter(radiance[..., ~AT_20_M], (0.4, 0.4, 0))
    rows, columns = surface.shape[:2]
    coarse = radiance[..., AT_20_M].reshape(rows // 2, 2, columns // 2, 2, -1).mean(axis=(1, 3))
    coarse = gaussian_filter(coarse, (0.35, 0.35, 0))
    out = np.empty_like(radiance)
    out[..., ~AT_20_M] = sharp
    out[..., AT_20_M] = coarse.repeat(2, axis=0).repeat(2, axis=1)
    inner = out[margin : rows - margin, margin : columns - margin]
    inner = inner + rng.normal(0, 0.0008, inner.shape) * np.where(AT_20_M, 0.0, 1.0)
    return np.clip(np.round(inner, 4), 0.0001, 2.8)
