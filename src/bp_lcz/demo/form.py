"""Ground scenes of the simulator: cover, height and light of each 2.5 m subpixel of a patch.

A scene is built by lattices and not by loops over objects. Rotated and slightly warped coordinates are cut into blocks,
lots and crowns, and each subpixel looks up the properties of its object. So a scene takes a few milliseconds, however
many objects it has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy.special import ndtri

from bp_lcz.demo.makeup import CLUTTER, FORMS, LANDSCAPES, Buildings, Landscape, Number, Range
from bp_lcz.demo.optical import MATERIAL

PIXEL = 10.0  # metres
SUBPIXELS_PER_PIXEL = 4
SUBPIXEL = PIXEL / SUBPIXELS_PER_PIXEL
PATCH_PIXELS = 32
# Room for shadows, point spread and the 7x7 speckle filter; even, so that the 20 m grid stays aligned.
MARGIN_PIXELS = 4
SCENE_PIXELS = PATCH_PIXELS + 2 * MARGIN_PIXELS
CROWN_COVER = 0.8  # share of the ground under a lattice of crowns with every position taken
SCENE_SUBPIXELS = SCENE_PIXELS * SUBPIXELS_PER_PIXEL
PITCHED_BELOW = 12.0  # metres; taller roofs are flat


@dataclass(frozen=True)
class Style:
    """How a city builds: one draw per city, shared by its patches."""

    sun_elevation: float  # degrees
    sun_azimuth: float  # degrees, clockwise from north
    heading: float  # of the main streets, radians
    scale: float  # of lots and streets
    height: float  # factor on building heights
    trees: float  # factor on tree cover
    roofs: dict[str, float]  # factor on the frequency of each roof material
    ground: dict[str, float]  # factor on the share of each ground cover
    variant: float  # 0..1, preference between the layouts of a class


@dataclass
class Scene:
    """Subpixels of 2.5 m, north up; x to the east along columns, y to the south along rows."""

    material: UInt8[np.ndarray, "subpixel subpixel"]
    brightness: Float[np.ndarray, "subpixel subpixel"]  # factor on the reflectance of the material
    height: Float[np.ndarray, "subpixel subpixel"]  # metres above ground
    lit: Bool[np.ndarray, "subpixel subpixel"]
    is_building: Bool[np.ndarray, "subpixel subpixel"]
    heading: float  # of walls, radians from east, clockwise on screen


_along = np.arange(SCENE_SUBPIXELS, dtype=np.float32) * np.float32(SUBPIXEL)
_y, _x = _along[:, None], _along[None, :]


def smooth_noise(rng: np.random.Generator, size: Number) -> Float[np.ndarray, "subpixel subpixel"]:
    """Gaussian noise of about zero mean and unit variance whose features are `size` metres wide."""
    step = max(size / SUBPIXEL, 1.0)
    knots = int(np.ceil(SCENE_SUBPIXELS / step)) + 2
    coarse = rng.standard_normal((knots, knots), dtype=np.float32)
    at = np.arange(SCENE_SUBPIXELS, dtype=np.float32) / np.float32(step) + np.float32(rng.random())
    low = at.astype(np.intp)
    part = at - low
    # Bilinear interpolation of white noise keeps (2/3)^2 of the variance on average.
    coarse *= np.float32(1.5)
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    slope = np.diff(rows, axis=1)
    return rows[:, low] + slope[:, low] * part


def pixel_mean(subpixels: Float[np.ndarray, "subpixel subpixel"]) -> Float[np.ndarray, "pixel pixel"]:
    """Mean over the subpixels of each 10 m pixel."""
    rows = subpixels[0::4] + subpixels[1::4] + subpixels[2::4] + subpixels[3::4]
    return (rows[:, 0::4] + rows[:, 1::4] + rows[:, 2::4] + rows[:, 3::4]) / SUBPIXELS_PER_PIXEL**2


def _draw(rng: np.random.Generator, bounds: Range) -> float:
    return float(rng.uniform(*bounds))


def _choose(rng: np.random.Generator, weights: dict[str, Number], factors: dict[str, float], size: int) -> np.ndarray:
    """Materials drawn by their frequency times the city's factor."""
    share = np.array([weight * factors.get(name, 1.0) for name, weight in weights.items()])
    codes = np.array([MATERIAL[name] for name in weights], dtype=np.uint8)
    return codes[np.searchsorted(np.cumsum(share / share.sum())[:-1], rng.random(size))]


TABLE = 1024


def _key(*index: np.ndarray) -> np.ndarray:
    """A pseudo-random table row (0..TABLE-1) for each integer position."""
    mixed = index[0].astype(np.int32) * 73
    for number, part in enumerate(index[1:]):
        mixed = mixed + part.astype(np.int32) * (179, 283, 419)[number]
    return (mixed + (mixed >> 3)) & (TABLE - 1)


def _ground(rng: np.random.Generator, scape: Landscape, style: Style) -> tuple[np.ndarray, np.ndarray]:
    """Material and brightness of open ground: fields in parcels, or irregular patches."""
    names = list(scape.ground)
    share = np.array([scape.ground[n] * style.ground.get(n, 1.0) for n in names])
    share = rng.gamma(share * 2.0 / scape.ground_spread + 0.2)
    # Shares of a standard normal field.
    edges = ndtri(np.cumsum(share / share.sum())[:-1]).astype(np.float32)
    codes = np.array([MATERIAL[n] for n in names], dtype=np.uint8)
    grain = _draw(rng, scape.grain)
    texture = smooth_noise(rng, grain)
    fine = rng.standard_normal((SCENE_SUBPIXELS, SCENE_SUBPIXELS), dtype=np.float32)
    if scape.parcel is None:
        place = 0.8 * texture + 0.45 * smooth_noise(rng, grain / 3) + 0.4 * fine
        material = codes[np.searchsorted(edges, place)]
        uneven = 0.06 * np.exp(rng.normal(0, 0.5))
        brightness = 1 + np.float32(uneven) * (texture + fine)
    else:
        angle = style.heading + rng.normal(0, 0.3)
        wide, long = _draw(rng, scape.parcel), _draw(rng, scape.parcel)
        u = _x * np.float32(np.cos(angle)) + _y * np.float32(np.sin(angle)) + 6 * smooth_noise(rng, 150)
        v = _y * np.float32(np.cos(angle)) - _x * np.float32(np.sin(angle)) + 6 * smooth_noise(rng, 150)
        column = np.floor((u + rng.uniform(0, wide)) / wide).astype(np.int32)
        shift = rng.uniform(0, long, TABLE).astype(np.float32)
        row = np.floor((v + shift[column & (TABLE - 1)]) / long).astype(np.int32)
        key = _key(column, row)
        material = codes[np.searchsorted(edges, rng.standard_normal(TABLE))][key]
        field = rng.normal(1, rng.uniform(0.04, 0.14), TABLE).astype(np.float32)
        brightness = field[key] + 0.04 * texture + 0.03 * fine
        spots = (texture + 0.6 * fine) > 1.9
        material[spots] = codes[0]
    if scape.relief:
        slope = np.diff(smooth_noise(rng, rng.uniform(40, 120)), axis=1, append=0.0)
        slope[:, -1] = slope[:, -2]
        brightness = brightness * (1 + scape.relief * np.clip(slope / (slope.std() + 1e-6), -2.5, 2.5))
    return material, brightness.astype(np.float32)


@dataclass
class _Lots:
    """Which lot each subpixel is in (row of the tables of random properties) and where in it, metres."""

    key: np.ndarray
    from_u: np.ndarray  # from the lot's centre, along the street
    from_v: np.ndarray
    edge: np.ndarray  # to the nearest edge of the block
    street: np.ndarray  # whether the subpixel is in a street
    width: float
    depth: float


def _lay_out(rng: np.random.Generator, form: Buildings, style: Style, angle: float) -> _Lots:
    """Cut rotated and warped coordinates into blocks between streets, and blocks into lots."""
    sway = np.float32(_draw(rng, form.bend) / 2)
    cosine, sine = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    u = _x * cosine + _y * sine + sway * smooth_noise(rng, 130)
    v = _y * cosine - _x * sine + sway * smooth_noise(rng, 130)
    width = _draw(rng, form.lot) * style.scale
    # Perimeter blocks have lots as deep as wide; `depth` is that of their wings.
    depth = width if form.layout == "perimeter" else _draw(rng, form.depth) * style.scale
    street = _draw(rng, form.street) * float(np.sqrt(style.scale))
    long = int(rng.integers(*form.lots, endpoint=True)) * width
    deep = int(rng.integers(*form.rows, endpoint=True)) * depth
    v += rng.uniform(0, deep + street)
    block_row = np.floor(v / (deep + street))
    # Blocks of one row are shifted against the next: streets across do not always line up.
    shift = rng.uniform(0, (long + street) * form.jitter + 1, TABLE).astype(np.float32)
    u += shift[block_row.astype(np.int32) & (TABLE - 1)]
    block_column = np.floor(u / (long + street))
    in_u, in_v = u - block_column * (long + street), v - block_row * (deep + street)
    lot_u, lot_v = np.floor(in_u / width), np.floor(in_v / depth)
    return _Lots(
        key=_key(block_column, block_row, lot_u, lot_v),
        from_u=in_u - (lot_u + 0.5) * width,
        from_v=in_v - (lot_v + 0.5) * depth,
        edge=np.minimum(np.minimum(in_u, long - in_u), np.minimum(in_v, deep - in_v)),
        street=(in_u > long) | (in_v > deep),
        width=width,
        depth=depth,
    )


def _footprints(rng: np.random.Generator, form: Buildings, style: Style, lots: _Lots) -> np.ndarray:
    """Whether a building stands on each subpixel."""
    cover = _draw(rng, form.cover)
    occupied = rng.random(TABLE) < _draw(rng, form.occupied)
    if form.layout == "perimeter":
        wing = _draw(rng, form.depth) * style.scale
        # Rear buildings stand in some courtyards.
        rear = rng.random(TABLE) < (cover - 0.4) * 1.5
        inside = (lots.edge < wing) | ((lots.edge > wing + 7) & rear[lots.key])
    else:
        vary_u, vary_v = rng.uniform(0.82, 1.18, (2, TABLE))
        # Share of the lot's width that the building takes; rows leave no gap, slabs a narrow one.
        long = {"row": 1.02, "slab": rng.uniform(0.78, 0.96), "detached": np.sqrt(cover)}[form.layout]
        lot = np.array([[lots.width], [lots.depth]])
        size = lot * np.stack([np.minimum(long * vary_u, 1.02), np.minimum(cover / long * vary_v, 1.0)])
        if form.layout == "row":
            size[0] = 1.02 * lots.width
        move = rng.uniform(-1, 1, (2, TABLE)) * form.jitter * np.maximum(lot - size, 0) / 2
        (move_u, move_v), (half_u, half_v) = (t.astype(np.float32)[:, lots.key] for t in (move, size / 2))
        inside = (np.abs(lots.from_u - move_u) < half_u) & (np.abs(lots.from_v - move_v) < half_v)
    return inside & occupied[lots.key] & ~lots.street


def _raise_buildings(scene: Scene, rng: np.random.Generator, form: Buildings, style: Style) -> None:
    """Lay out streets and lots along the city's heading, and put a building into each occupied lot."""
    scene.heading = style.heading + rng.choice([0.0, np.pi / 2]) + rng.normal(0, 0.25)
    lots = _lay_out(rng, form, style, scene.heading)
    inside = _footprints(rng, form, style, lots)
    height = np.exp(rng.normal(0, form.height_spread, TABLE)) * _draw(rng, form.height) * style.height
    # A patch is more uniform than its city: two or three roof materials, each house with its own brightness.
    common = rng.dirichlet(np.full(len(form.roofs), 0.8)) + 0.08
    roofs: dict[str, Number] = {
        name: weight * share for (name, weight), share in zip(form.roofs.items(), common, strict=True)
    }
    roof = _choose(rng, roofs, style.roofs, TABLE)
    spread = form.roof_spread * np.exp(rng.normal(0, 0.5))
    shade = np.exp(rng.normal(0, spread, TABLE)).astype(np.float32)
    # The two halves of a pitched roof see the sun at different angles.
    pitch = np.float32(0.14 * np.cos(np.radians(style.sun_azimuth) - scene.heading)) * np.sign(lots.from_v)
    pitched = shade * (height < PITCHED_BELOW)

    np.copyto(scene.material, MATERIAL[form.road], where=lots.street)
    np.copyto(scene.brightness, 1.0, where=lots.street)
    np.copyto(scene.material, roof[lots.key], where=inside)
    np.copyto(scene.brightness, shade[lots.key] + pitch * pitched[lots.key], where=inside)
    np.copyto(scene.height, height.astype(np.float32)[lots.key], where=inside)
    scene.is_building |= inside


def _plant_trees(scene: Scene, rng: np.random.Generator, scape: Landscape, style: Style) -> None:
    """Plant round crowns on a jittered lattice, in clumps. They cover ground but no roofs."""
    cover = _draw(rng, scape.tree_cover)
    if cover < CROWN_COVER:
        cover *= style.trees * float(np.exp(rng.normal(0, 0.3)))
    if cover <= 0:
        return
    spacing = _draw(rng, scape.crown)
    column, row = np.floor(_x / spacing), np.floor(_y / spacing)
    key = _key(column, row)
    from_x, from_y = _x - (column + 0.5) * spacing, _y - (row + 0.5) * spacing
    move = rng.uniform(-0.22, 0.22, (2, TABLE)).astype(np.float32) * np.float32(spacing)
    radius = (rng.uniform(0.42, 0.72, TABLE) * spacing).astype(np.float32)
    distance2 = (from_x - move[0][key]) ** 2 + (from_y - move[1][key]) ** 2
    radius2 = (radius**2)[key]
    in_crown = distance2 < radius2
    clump = 0.75 * smooth_noise(rng, 45) + (0.66 * rng.standard_normal(TABLE)).astype(np.float32)[key]
    trees = in_crown & (clump < ndtri(min(cover / CROWN_COVER, 1.0)))
    if cover > CROWN_COVER:
        trees |= clump < ndtri(min(cover, 1.0))
    trees &= ~scene.is_building
    height = (np.exp(rng.normal(0, 0.25, TABLE)) * _draw(rng, scape.tree_height)).astype(np.float32)
    kind = np.where(rng.random(TABLE) < 0.5, MATERIAL["tree"], MATERIAL["tree_other"]).astype(np.uint8)
    np.copyto(scene.material, kind[key], where=trees)
    np.copyto(scene.brightness, rng.normal(1, 0.15, TABLE).astype(np.float32)[key], where=trees)
    dome = np.sqrt(np.maximum(1 - distance2 / (1.3 * radius2), 0.1))
    np.copyto(scene.height, height[key] * dome, where=trees)


def _place_clutter(scene: Scene, rng: np.random.Generator, scape: Landscape, style: Style) -> None:
    """Put objects on open yards: vehicles and containers of some metres, round tanks and heaps of tens of metres."""
    share = _draw(rng, scape.clutter)
    if share <= 0:
        return
    for size, high in ((rng.uniform(5, 9), 3.0), (rng.uniform(18, 40), 9.0)):
        column, row = np.floor(_x / size), np.floor(_y / size)
        key = _key(column, row)
        from_x, from_y = _x - (column + 0.5) * size, _y - (row + 0.5) * size
        near = from_x**2 + from_y**2 < (0.45 * size) ** 2 if high > 5 else np.abs(from_y) < 0.3 * size
        here = near & (rng.random(TABLE) < share)[key] & ~scene.is_building
        np.copyto(scene.material, _choose(rng, CLUTTER, style.roofs, TABLE)[key], where=here)
        np.copyto(scene.brightness, np.exp(rng.normal(0, 0.2, TABLE)).astype(np.float32)[key], where=here)
        np.copyto(scene.height, high, where=here)
        scene.is_building |= here


def _overlap(shift: int) -> tuple[slice, slice]:
    """Slices of subpixels that are shifted by `shift`, and of the subpixels that they are shifted from."""
    return (
        slice(max(0, shift), SCENE_SUBPIXELS + min(0, shift)),
        slice(max(0, -shift), SCENE_SUBPIXELS - max(0, shift)),
    )


def cast_shadows(height: Float[np.ndarray, "subpixel subpixel"], style: Style) -> Bool[np.ndarray, "subpixel subpixel"]:
    """Whether each subpixel has a free straight line to the sun."""
    azimuth, slope = np.radians(style.sun_azimuth), np.tan(np.radians(style.sun_elevation))
    reach = min(float(height.max()) / slope, MARGIN_PIXELS * PIXEL * 2)
    blocked = np.zeros_like(height)
    distance = SUBPIXEL
    while distance <= reach:
        # Towards the sun: east is +x, north is -y.
        east, north = float(np.sin(azimuth)), float(np.cos(azimuth))
        dx, dy = round(distance * east / SUBPIXEL), round(-distance * north / SUBPIXEL)
        there, here = zip(_overlap(dy), _overlap(dx), strict=True)
        np.maximum(blocked[here], height[there] - np.float32(distance * slope), out=blocked[here])
        distance += SUBPIXEL if distance < 40 else 2 * SUBPIXEL
    return blocked <= height + 0.3


def build_scene(code: str, style: Style, rng: np.random.Generator) -> Scene:
    """A scene of the given class in a city of the given style.

    Args:
        code: class code, "1" to "10" or "A" to "G".
        style: how the city builds.
        rng: the patch's own generator.
    """
    scapes, forms = LANDSCAPES[code], FORMS.get(code, ())
    pick = int(np.clip(style.variant + rng.normal(0, 0.3), 0, 0.999) * len(scapes))
    scape = scapes[pick]
    material, brightness = _ground(rng, scape, style)
    empty = np.zeros((SCENE_SUBPIXELS, SCENE_SUBPIXELS), dtype=np.float32)
    scene = Scene(material, brightness, empty, empty > 0, empty > 0, style.heading)
    if forms:
        form = forms[int(np.clip(style.variant + rng.normal(0, 0.3), 0, 0.999) * len(forms))]
        _raise_buildings(scene, rng, form, style)
    _place_clutter(scene, rng, scape, style)
    _plant_trees(scene, rng, scape, style)
    scene.lit = cast_shadows(scene.height, style)
    return scene
