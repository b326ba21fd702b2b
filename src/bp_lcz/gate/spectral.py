"""Checks from correlations whether Sentinel-2 bands have the right names.

Reflectances at near wavelengths rise and fall together from patch to patch. Those of B08 and B8A, 23 nm apart, are
almost equal, while B12 behaves differently. In the right order, the correlations of neighbours have about the largest
sum of all orders. Two exchanged bands break up to four of these pairs.
"""

from itertools import combinations

import numpy as np
from jaxtyping import Float

Swap = tuple[int, int, float]


def neighbour_correlation(means: Float[np.ndarray, "patch band"]) -> Float[np.ndarray, " band"]:
    """Correlation of each band with its most correlated neighbour; 0 for a band that does not vary."""
    near = np.diagonal(_correlation(means), offset=1)
    return np.maximum(np.append(near, -np.inf), np.append(-np.inf, near))


def swaps(means: Float[np.ndarray, "patch band"], gain: float) -> list[Swap]:
    """The exchanges of two bands that bring the bands into spectral order.

    Args:
        means: mean reflectance of each patch, with bands in the order of the wavelengths of their names.
        gain: smallest rise of the sum of neighbours' correlations that justifies an exchange.

    Returns:
        Positions of the two bands and the rise, the largest first; empty for bands in order.
    """
    correlation = _correlation(means)
    order = np.arange(means.shape[1])
    found: list[Swap] = []
    while len(found) < means.shape[1]:
        here = _along(correlation, order)
        candidates = [
            (_along(correlation, _exchanged(order, i, j)) - here, i, j) for i, j in combinations(range(len(order)), 2)
        ]
        best, i, j = max(candidates, default=(0.0, 0, 0))
        if best < gain:
            break
        order = _exchanged(order, i, j)
        found.append((i, j, best))
    return found


def _correlation(means: Float[np.ndarray, "patch band"]) -> Float[np.ndarray, "band band"]:
    centred = means - means.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    scaled = np.divide(centred, norm, out=np.zeros_like(centred), where=norm > 0)
    return scaled.T @ scaled


def _along(correlation: Float[np.ndarray, "band band"], order: np.ndarray) -> float:
    return float(correlation[order[:-1], order[1:]].sum())


def _exchanged(order: np.ndarray, i: int, j: int) -> np.ndarray:
    changed = order.copy()
    changed[[i, j]] = order[[j, i]]
    return changed
