"""Sentinel channels as So2Sat stores them, and the physical band groups that BP-LCZ makes of them.

Source of the order: So2Sat LCZ42 (Zhu et al. 2020). Source of the groups: Lan et al. 2025. This project puts B8A into
NIR and not into the red edge.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from bp_lcz.errors import UserError

SEN1_BANDS: tuple[str, ...] = (
    "VH_real",
    "VH_imag",
    "VV_real",
    "VV_imag",
    "VH_lee_intensity",
    "VV_lee_intensity",
    "C12_lee_real",
    "C12_lee_imag",
)
SEN2_BANDS: tuple[str, ...] = ("B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B11", "B12")

GROUPS: dict[str, tuple[str, ...]] = {
    "VH": ("VH_real", "VH_imag", "VH_lee_intensity"),
    "VV": ("VV_real", "VV_imag", "VV_lee_intensity"),
    "PolSAR": ("C12_lee_real", "C12_lee_imag"),
    "RGB": ("B04", "B03", "B02"),
    "VRE": ("B05", "B06", "B07"),
    "NIR": ("B08", "B8A"),
    "SWIR": ("B11", "B12"),
}

Level = Literal["L1C", "L2A"]
"""Processing level of Sentinel-2: reflectance at the top or at the bottom of the atmosphere."""
SCL_UNUSABLE = (0, 1, 3, 8, 9, 10, 11)
"""Values of the scene classification of Level 2A: no data, defective, cloud shadow, clouds, cirrus, snow."""

PATCH_SIDE = 32
"""Pixels of 10 m along a side of a patch."""


@dataclass(frozen=True)
class Channels:
    """The channels that a data set has, in the order in which its arrays hold them.

    Attributes:
        sen1: names out of ``SEN1_BANDS``.
        sen2: names out of ``SEN2_BANDS``.
    """

    sen1: tuple[str, ...]
    sen2: tuple[str, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """All channels, Sentinel-1 first: the last axis of ``concatenate([sen1, sen2])``."""
        return self.sen1 + self.sen2

    @property
    def groups(self) -> dict[str, tuple[int, ...]]:
        """Positions in ``names`` of the channels of each group; a group without any channel is absent."""
        position = {name: i for i, name in enumerate(self.names)}
        members = {
            group: tuple(position[band] for band in bands if band in position) for group, bands in GROUPS.items()
        }
        return {group: positions for group, positions in members.items() if positions}


ALL_CHANNELS = Channels(SEN1_BANDS, SEN2_BANDS)


def resolve_bands(key: str, channel_count: int, named: Sequence[str] | None, file: str) -> tuple[str, ...]:
    """Names of the channels of ``sen1`` or ``sen2`` in a file.

    Args:
        key: ``sen1`` or ``sen2``.
        channel_count: length of the array's last axis.
        named: the array's attribute ``bands``, or None when it has none.
        file: name for the error message.

    Returns:
        One official band name for each channel.

    Raises:
        UserError: if names are unknown or repeated, or their number is not that of the channels, or if there are no
            names and the number of channels is not the official one.
    """
    official = {"sen1": SEN1_BANDS, "sen2": SEN2_BANDS}[key]
    if named is None:
        if channel_count != len(official):
            raise UserError(
                file,
                f"{key} has {channel_count} channels; expected {len(official)} "
                f"({official[0]} ... {official[-1]}), or an attribute 'bands' naming them",
            )
        return official
    bands = tuple(named)
    if len(bands) != channel_count:
        raise UserError(file, f"{key} has {channel_count} channels but its 'bands' names {len(bands)}")
    unknown = [band for band in bands if band not in official]
    if unknown:
        raise UserError(file, f"{key} has unknown bands {', '.join(unknown)}; known: {', '.join(official)}")
    if len(set(bands)) != len(bands):
        raise UserError(file, f"{key} names a band twice: {', '.join(bands)}")
    return bands
