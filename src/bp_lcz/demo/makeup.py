"""Composition of each local climate zone: ranges of buildings, ground and trees from which a patch is drawn.

Ranges of form follow Stewart & Oke (2012), Bulletin of the AMS 93(12):1879-1900, tables 2 and 3; neighbouring
classes overlap as they do there.
"""

from __future__ import annotations

from dataclasses import dataclass

Number = int | float
Range = tuple[Number, Number]


@dataclass(frozen=True)
class Buildings:
    """One way of building up a block: metres, shares of lots, relative frequencies of roof materials."""

    layout: str  # detached | row | slab | perimeter
    lot: Range  # lot width along the street
    depth: Range  # lot depth, or wing depth of a perimeter block
    lots: tuple[int, int]  # lots per block along the street, at least and at most
    rows: tuple[int, int]  # rows of lots per block
    cover: Range  # share of the lot under the roof
    height: Range
    street: Range  # width
    occupied: Range  # share of lots that are built
    jitter: float  # 0: buildings in line; 1: anywhere in the lot
    bend: Range  # metres by which streets wander
    roofs: dict[str, Number]
    height_spread: float = 0.2  # standard deviation of log height within a patch
    roof_spread: float = 0.16  # standard deviation of log roof brightness within a patch
    road: str = "asphalt"


@dataclass(frozen=True)
class Landscape:
    """What covers the ground, from open land to the yards between buildings."""

    ground: dict[str, Number]  # relative shares
    tree_cover: Range
    crown: Range = (5.0, 8.0)  # spacing of crowns, metres
    tree_height: Range = (4.0, 10.0)
    grain: Range = (8.0, 30.0)  # size of ground patches, metres
    parcel: Range | None = None  # side of fields, metres; None: irregular ground
    relief: float = 0.0  # relative brightness of slopes
    ground_spread: float = 2.0  # how much shares differ between patches
    clutter: Range = (0.0, 0.0)  # share of the open ground under vehicles, containers, tanks and heaps


# fmt: off
FLAT: dict[str, Number] = {"gravel_roof": 4.0, "concrete": 3.0, "dark_roof": 3.0,
                           "white_roof": 0.5, "metal_roof": 0.6, "tile_roof": 1.5}
PITCHED: dict[str, Number] = {"tile_roof": 4.0, "dark_roof": 3.5, "gravel_roof": 1.5,
                              "metal_roof": 0.6, "rust_roof": 0.5}
OLD_TOWN: dict[str, Number] = {"tile_roof": 4.0, "dark_roof": 3.0, "gravel_roof": 3.0,
                               "metal_roof": 0.7, "concrete": 1.0}
HALLS: dict[str, Number] = {"metal_roof": 3.5, "white_roof": 1.2, "gravel_roof": 3.0,
                            "blue_roof": 0.8, "dark_roof": 1.0, "concrete": 1.5}
PLANT: dict[str, Number] = {"metal_roof": 1.5, "rust_roof": 3.0, "dark_roof": 2.5, "concrete": 2.0,
                            "blue_roof": 0.6, "gravel_roof": 1.0}
CLUTTER: dict[str, Number] = {"metal_roof": 2.0, "white_roof": 1.0, "rust_roof": 2.0,
                              "blue_roof": 1.0, "dark_ground": 3.0, "zinc_roof": 2.0}
SHACKS: dict[str, Number] = {"zinc_roof": 5.0, "rust_roof": 3.0, "metal_roof": 0.6, "gravel_roof": 1.0}

# Layout, lot, depth, lots, rows, cover, height,
# street, occupied, jitter, bend, roofs, spread of height (and of roof brightness).
FORMS: dict[str, tuple[Buildings, ...]] = {
    "1": (
        Buildings("detached", (28, 48), (28, 48), (2, 4), (2, 2), (0.45, 0.66), (22, 80),
                  (10, 20), (0.85, 1), 0.4, (0, 12), FLAT, 0.5),
        Buildings("slab", (40, 60), (24, 34), (2, 4), (2, 4), (0.45, 0.60), (22, 60),
                  (10, 18), (0.9, 1), 0.3, (0, 8), FLAT, 0.35),
    ),
    "2": (
        Buildings("perimeter", (14, 26), (11, 17), (4, 7), (3, 5), (0.5, 0.7), (9, 27),
                  (10, 18), (0.92, 1), 0.0, (0, 25), OLD_TOWN, 0.15),
        Buildings("detached", (14, 24), (14, 24), (3, 6), (2, 3), (0.5, 0.72), (9, 27),
                  (6, 12), (0.9, 1), 0.3, (0, 25), FLAT, 0.25),
    ),
    "3": (
        Buildings("row", (7, 13), (9, 15), (6, 12), (2, 2), (0.5, 0.7), (3, 9),
                  (5, 9), (0.9, 1), 0.2, (2, 40), PITCHED, 0.2),
        Buildings("detached", (9, 15), (10, 17), (5, 10), (2, 4), (0.5, 0.7), (3, 9),
                  (4, 8), (0.88, 1), 0.4, (5, 45), PITCHED, 0.25),
    ),
    "4": (
        Buildings("slab", (55, 85), (42, 68), (2, 3), (2, 3), (0.17, 0.30), (26, 50),
                  (9, 16), (0.8, 1), 0.6, (0, 15), FLAT, 0.25),
        Buildings("detached", (44, 68), (44, 68), (2, 4), (2, 3), (0.17, 0.30), (26, 60),
                  (9, 16), (0.8, 1), 0.6, (0, 15), FLAT, 0.3),
    ),
    "5": (
        Buildings("slab", (50, 80), (36, 58), (2, 4), (2, 4), (0.22, 0.36), (12, 24),
                  (8, 15), (0.8, 1), 0.5, (0, 20), FLAT, 0.2),
        Buildings("detached", (34, 56), (34, 56), (2, 4), (2, 3), (0.22, 0.36), (11, 22),
                  (8, 14), (0.8, 1), 0.5, (0, 25), OLD_TOWN, 0.25),
    ),
    "6": (
        Buildings("detached", (13, 22), (18, 30), (5, 9), (2, 2), (0.2, 0.36), (3, 9),
                  (6, 11), (0.85, 1), 0.5, (5, 50), PITCHED, 0.2),
        Buildings("row", (8, 12), (22, 32), (6, 10), (2, 2), (0.25, 0.38), (5, 9),
                  (6, 10), (0.85, 1), 0.3, (5, 40), PITCHED, 0.15),
    ),
    "7": (
        Buildings("detached", (5, 8.5), (5, 8.5), (6, 14), (3, 6), (0.65, 0.88), (2, 4),
                  (2, 4), (0.88, 1), 0.6, (10, 50), SHACKS, 0.15, 0.08, "soil"),
    ),
    "8": (
        Buildings("slab", (60, 130), (45, 90), (1, 3), (1, 2), (0.32, 0.54), (5, 11),
                  (12, 22), (0.8, 1), 0.6, (0, 10), HALLS, 0.2),
        Buildings("detached", (50, 95), (50, 95), (2, 3), (1, 2), (0.32, 0.5), (4, 10),
                  (12, 20), (0.75, 1), 0.6, (0, 10), HALLS, 0.25),
    ),
    "9": (
        Buildings("detached", (45, 95), (45, 95), (2, 5), (2, 2), (0.05, 0.13), (3, 9),
                  (4, 7), (0.5, 0.85), 0.8, (10, 60), PITCHED, 0.2),
    ),
    "10": (
        Buildings("detached", (40, 90), (40, 90), (2, 3), (1, 3), (0.22, 0.4), (5, 15),
                  (10, 20), (0.6, 0.9), 0.7, (0, 15), PLANT, 0.45),
        Buildings("slab", (60, 120), (30, 55), (1, 3), (2, 3), (0.22, 0.4), (5, 14),
                  (10, 18), (0.65, 0.9), 0.7, (0, 12), PLANT, 0.4),
    ),
}

LANDSCAPES: dict[str, tuple[Landscape, ...]] = {
    "1": (
        Landscape({"asphalt": 4, "concrete": 3, "grass": 0.8, "soil": 0.3}, (0.02, 0.1)),
    ),
    "2": (
        Landscape({"asphalt": 4, "concrete": 2.5, "grass": 1.2, "soil": 0.6}, (0.03, 0.12)),
    ),
    "3": (
        Landscape({"asphalt": 3, "concrete": 2.5, "grass": 1.4, "soil": 1.3}, (0.03, 0.14), (4, 6), (3, 7)),
    ),
    "4": (
        Landscape({"asphalt": 2, "concrete": 1.6, "grass": 5, "soil": 1}, (0.15, 0.40), grain=(15, 40)),
    ),
    "5": (
        Landscape({"asphalt": 2, "concrete": 1.6, "grass": 4.5, "soil": 0.8}, (0.10, 0.30)),
    ),
    "6": (
        Landscape({"asphalt": 0.7, "concrete": 0.7, "grass": 6, "soil": 0.6}, (0.18, 0.42), (4.5, 7)),
    ),
    "7": (
        Landscape({"soil": 6, "concrete": 0.6, "grass": 0.4}, (0.0, 0.06), (4, 6), (3, 6)),
    ),
    "8": (
        Landscape({"asphalt": 5, "concrete": 3, "grass": 1.3, "soil": 0.7}, (0.0, 0.06),
                  grain=(20, 60), clutter=(0.0, 0.08)),
    ),
    "9": (
        Landscape({"grass": 5, "soil": 0.8, "crop": 2.5, "scrub": 1}, (0.18, 0.50), grain=(20, 70),
                  parcel=(50, 130)),
    ),
    "10": (
        Landscape({"asphalt": 2.5, "concrete": 2, "soil": 2.5, "dark_ground": 2, "grass": 1},
                  (0.0, 0.07), grain=(15, 60), clutter=(0.08, 0.35)),
    ),
    "A": (
        Landscape({"grass": 3, "scrub": 3, "soil": 0.5}, (0.86, 1.0), (6, 9), (8, 25), relief=0.12),
    ),
    "B": (
        Landscape({"grass": 6, "scrub": 2, "soil": 0.5}, (0.25, 0.6), (6, 9), (4, 14), (15, 60), relief=0.08),
        Landscape({"grass": 5, "crop": 1.0, "soil": 1.5}, (0.22, 0.55), (7, 10), (3, 8), (15, 60),
                  parcel=(80, 200)),
    ),
    "C": (
        Landscape({"scrub": 4, "grass": 1, "soil": 4, "rock": 1}, (0.0, 0.07), (4, 5), (1.5, 3),
                  (6, 15), relief=0.06),
    ),
    "D": (
        Landscape({"crop": 6, "grass": 3, "ripe": 1.5, "soil": 1.5}, (0.0, 0.02),
                  parcel=(150, 500), grain=(40, 120)),
        Landscape({"grass": 8, "crop": 1.0, "soil": 0.2}, (0.0, 0.03), grain=(40, 120), relief=0.03),
    ),
    "E": (
        Landscape({"asphalt": 3, "concrete": 4, "soil": 0.8}, (0, 0.01), grain=(40, 120), parcel=(50, 110)),
        Landscape({"asphalt": 3, "concrete": 4, "soil": 1}, (0, 0.01), grain=(40, 120)),
        Landscape({"rock": 5, "soil": 2, "sand": 0.5, "dark_ground": 0.5}, (0, 0.01),
                  grain=(40, 120), relief=0.08),
    ),
    "F": (
        Landscape({"sand": 6, "soil": 1.5, "rock": 0.5}, (0, 0.01), grain=(40, 120), relief=0.08),
        Landscape({"sand": 8, "soil": 0.6, "scrub": 0.1}, (0, 0.005), grain=(40, 120), relief=0.10),
    ),
    "G": (
        Landscape({"water": 1}, (0, 0), grain=(60, 200)),
    ),
}
# fmt: on
