"""Sentinel-1 view of a scene: polarimetric covariance of surfaces, single-look speckle, refined-Lee filter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Complex, Float

from bp_lcz.demo.form import MARGIN_PIXELS, SUBPIXEL, Scene, pixel_mean
from bp_lcz.demo.optical import MATERIALS

# Backscatter of surfaces at C band near 38 degrees (linear sigma nought, VV then VH), after Ulaby & Dobson (1989)
# and medians of public Sentinel-1 scenes; walls: see `covariance`.
BACKSCATTER: dict[str, tuple[float, float]] = {
    "water": (0.016, 0.0012),
    "tree": (0.150, 0.038),
    "tree_other": (0.135, 0.034),
    "grass": (0.085, 0.015),
    "crop": (0.100, 0.022),
    "ripe": (0.075, 0.013),
    "scrub": (0.090, 0.019),
    "soil": (0.065, 0.0075),
    "sand": (0.025, 0.0025),
    "rock": (0.130, 0.017),
    "asphalt": (0.022, 0.0025),
    "concrete": (0.035, 0.0040),
    "dark_ground": (0.090, 0.012),
    "tile_roof": (0.140, 0.024),
    "dark_roof": (0.110, 0.020),
    "gravel_roof": (0.120, 0.020),
    "metal_roof": (0.220, 0.030),
    "zinc_roof": (0.190, 0.032),
    "rust_roof": (0.180, 0.032),
    "white_roof": (0.150, 0.020),
    "blue_roof": (0.200, 0.028),
}
_SIGMA = np.array([BACKSCATTER[name] for name in MATERIALS])
LEE_WINDOW = 7
INTENSITY_FLOOR = 1e-6

Power = Float[np.ndarray, "row column"]


@dataclass(frozen=True)
class Radar:
    """Acquisition of a city."""

    gain: float  # linear factor from calibration and incidence
    look: float  # azimuth of the line of sight, degrees clockwise from north
    wind: float  # factor on the backscatter of water
    wet: float  # factor on soil and plants


def covariance(
    scene: Scene, radar: Radar, rng: np.random.Generator
) -> tuple[Power, Power, Complex[np.ndarray, "row column"]]:
    """Expected |VH|^2, |VV|^2 and VH conj(VV) of the scene's 10 m pixels."""
    factor = np.array([_weather(name, radar) for name in MATERIALS])
    # Moisture, roughness and incidence differ between patches of one scene, for each surface on its own.
    sigma = _SIGMA * (factor * np.exp(rng.normal(0, 0.35, len(MATERIALS))))[:, None]

    vv, vh = pixel_mean(sigma[:, 0][scene.material]), pixel_mean(sigma[:, 1][scene.material])
    wall = pixel_mean(_walls(scene, radar))
    # Walls square to the line of sight send a double bounce back in VV; turned walls depolarise, most at 45 degrees.
    turn = (np.radians(radar.look) - scene.heading + np.pi / 4) % (np.pi / 2) - np.pi / 4
    aligned = np.exp(-((turn / 0.22) ** 2))
    # Point scatterers: a few corners, rails and roofs carry most of the power (Pareto tail).
    points = np.minimum(rng.pareto(1.0, vv.shape), 1e5)
    strength = wall * np.exp(rng.normal(0.6, 0.5)) * (0.35 + 0.07 * points)
    vv = vv + strength * (0.35 + 2.2 * aligned)
    vh = vh + strength * (0.09 + 0.09 * np.abs(np.sin(2 * turn)))
    # Natural surfaces keep reflection symmetry (no correlation of VH and VV); turned walls break it.
    built = strength / (strength + 0.1)
    rho = built * (0.1 + 0.5 * np.sin(2 * turn)) * np.exp(1j * rng.uniform(-0.6, 0.6))
    vh, vv = vh * radar.gain, vv * radar.gain
    return vh, vv, rho * np.sqrt(vh * vv)


def _weather(material: str, radar: Radar) -> float:
    if material == "water":
        return radar.wind
    return 1.0 if material.endswith("roof") else radar.wet


def _walls(scene: Scene, radar: Radar) -> np.ndarray:
    """Square root of wall height where a building faces the radar, per subpixel."""
    look = np.radians(radar.look)
    dx, dy = round(1.5 * float(np.sin(look))), round(-1.5 * float(np.cos(look)))
    built = np.where(scene.is_building, scene.height, 0)
    step = built - np.roll(built, (dy, dx), axis=(0, 1))
    return np.sqrt(np.maximum(step, 0)) * SUBPIXEL / 4


def speckle(
    c11: Power,
    c22: Power,
    c12: Complex[np.ndarray, "row column"],
    rng: np.random.Generator,
) -> tuple[Complex[np.ndarray, "row column"], Complex[np.ndarray, "row column"]]:
    """One look of circular complex Gaussian scattering with the given covariance: VH and VV amplitudes."""
    shape = (2, c11.shape[0] + 2, c11.shape[1])
    white = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
    # Azimuth resolution is coarser than the pixel: neighbours along the track are correlated.
    along = 0.35 * white[:, :-2] + white[:, 1:-1] + 0.35 * white[:, 2:]
    along /= np.sqrt(1 + 2 * 0.35**2)
    vh = np.sqrt(c11) * along[0]
    slope = np.conj(c12) / np.maximum(c11, 1e-12)
    rest = np.sqrt(np.maximum(c22 - np.abs(slope) ** 2 * c11, 0))
    return vh, slope * vh + rest * along[1]


def _windows() -> np.ndarray:
    """Eight half windows of 7x7, each with the line through the centre: weights that sum to one per row."""
    offset = np.arange(LEE_WINDOW) - LEE_WINDOW // 2
    y, x = np.meshgrid(offset, offset, indexing="ij")
    halves = [x >= 0, x <= 0, y >= 0, y <= 0, x >= y, x <= y, x >= -y, x <= -y]
    masks = np.stack(halves).reshape(8, -1).astype(float)
    return masks / masks.sum(axis=1, keepdims=True)


_HALF_WINDOWS = _windows()


def refined_lee(
    vh: Complex[np.ndarray, "patch row column"], vv: Complex[np.ndarray, "patch row column"]
) -> tuple[
    Float[np.ndarray, "patch row-6 column-6"],
    Float[np.ndarray, "patch row-6 column-6"],
    Complex[np.ndarray, "patch row-6 column-6"],
]:
    """Polarimetric refined-Lee filter of single-look data.

    The edge direction comes from the span averaged over 3x3 sub-windows; statistics come from the half window on
    the centre's side of the edge; one MMSE weight per pixel, from the span, mixes the pixel with the window mean in
    all elements, so that the filtered covariance stays positive semi-definite.

    Args:
        vh: complex amplitudes; the filter needs three pixels around each pixel that it returns.
        vv: the same of the other channel.

    Returns:
        Filtered |VH|^2, |VV|^2 and VH conj(VV), three pixels smaller on each side.

    Source: Lee, Grunes & de Grandi (1999), IEEE TGRS 37(5):2363-2373.
    """
    # Spelled out in reals: complex products may round differently with the position in the batch.
    c11, c22 = vh.real**2 + vh.imag**2, vv.real**2 + vv.imag**2
    c12_real, c12_imag = vh.real * vv.real + vh.imag * vv.imag, vh.imag * vv.real - vh.real * vv.imag
    span = c11 + c22
    half = LEE_WINDOW // 2

    rows, columns = span.shape[1] - 2 * half, span.shape[2] - 2 * half
    # Means of nine overlapping 3x3 sub-windows with centres two pixels apart.
    cumulative = np.pad(span, ((0, 0), (1, 0), (1, 0))).cumsum(axis=1).cumsum(axis=2)
    strips = cumulative[:, 3:] - cumulative[:, :-3]
    mean3 = (strips[:, :, 3:] - strips[:, :, :-3]) / 9

    def sub(dy: int, dx: int) -> np.ndarray:
        top, left = half + 2 * dy - 1, half + 2 * dx - 1
        return mean3[:, top : top + rows, left : left + columns]

    gradients = np.stack(
        [
            sub(-1, 1) + sub(0, 1) + sub(1, 1) - sub(-1, -1) - sub(0, -1) - sub(1, -1),
            sub(1, -1) + sub(1, 0) + sub(1, 1) - sub(-1, -1) - sub(-1, 0) - sub(-1, 1),
            sub(-1, 0) + sub(-1, 1) + sub(0, 1) - sub(0, -1) - sub(1, -1) - sub(1, 0),
            sub(1, 0) + sub(1, 1) + sub(0, 1) - sub(0, -1) - sub(-1, -1) - sub(-1, 0),
        ]
    )
    edge = np.abs(gradients).argmax(axis=0)
    ahead = [sub(0, 1), sub(1, 0), sub(-1, 1), sub(1, 1)]
    behind = [sub(0, -1), sub(-1, 0), sub(1, -1), sub(-1, -1)]
    centre = sub(0, 0)
    # Halves are ordered: right, left, below, above, x>=y (upper right), x<=y, x>=-y (lower right), x<=-y.
    side = np.stack([np.abs(b - centre) < np.abs(a - centre) for a, b in zip(ahead, behind, strict=True)])
    direction = 2 * edge + np.take_along_axis(side, edge[None], axis=0)[0]
    elements = np.stack([c11, c22, c12_real, c12_imag, span**2])
    mean = np.zeros((len(elements), *direction.shape))
    for number, share in enumerate(_HALF_WINDOWS.T):
        top, left = divmod(number, LEE_WINDOW)
        mean += share[direction] * elements[:, :, top : top + rows, left : left + columns]
    mean_span = mean[0] + mean[1]
    variance = np.maximum(mean[4] - mean_span**2, 0)
    # One look: speckle variance equals the squared mean.
    noise = 1.0
    signal = np.maximum((variance - mean_span**2 * noise) / (1 + noise), 0)
    weight = np.where(variance > 0, signal / np.maximum(variance, 1e-30), 0)
    centres = elements[:4, :, half : half + rows, half : half + columns]
    mixed = mean[:4] + weight * (centres - mean[:4])
    power = np.maximum(mixed[:2], INTENSITY_FLOOR)
    return power[0], power[1], mixed[2] + 1j * mixed[3]


def sentinel1(
    vh: Complex[np.ndarray, "patch row column"], vv: Complex[np.ndarray, "patch row column"]
) -> Float[np.ndarray, "patch 32 32 8"]:
    """The eight So2Sat channels of scenes with a margin of MARGIN_PIXELS."""
    c11, c22, c12 = refined_lee(vh, vv)
    edge, rest = MARGIN_PIXELS, MARGIN_PIXELS - LEE_WINDOW // 2
    amplitude = (slice(None), slice(edge, -edge), slice(edge, -edge))
    filtered = (slice(None), slice(rest, -rest), slice(rest, -rest))
    return np.stack(
        [
            vh[amplitude].real, vh[amplitude].imag, vv[amplitude].real, vv[amplitude].imag,
            c11[filtered], c22[filtered], c12[filtered].real, c12[filtered].imag,
        ],
        axis=-1,
    )  # fmt: skip
