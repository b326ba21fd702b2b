"""The page of a region: its zones, and each tile with its state and areas. It needs no server."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote

from bp_lcz.maps.cells import Reason
from bp_lcz.maps.outputs import CELL_KM2
from bp_lcz.maps.page import PAGE as MAP
from bp_lcz.records import MapReport
from bp_lcz.regions.store import TILES
from bp_lcz.scheme import ZONES
from bp_lcz.templates import template_environment

PAGE = "index.html"
WAITS = "waits"
"""State of a tile that is not started."""


@dataclass(frozen=True)
class Picture:
    """A picture of a UTM zone of the region as PNG, and the virtual raster that it shows."""

    crs: str
    raster: str
    png: bytes

    @property
    def content(self) -> str:
        """The PNG as text for the page."""
        return base64.b64encode(self.png).decode("ascii")


def region_page(
    title: str,
    counts: Sequence[int],
    pictures: Sequence[Picture],
    reports: Mapping[str, MapReport],
    states: Mapping[str, str],
    notices: Sequence[str],
) -> str:
    """The page as HTML.

    Args:
        title: title of the region.
        counts: cells of each zone, in the order of `ZONES`. Overlaps count once.
        pictures: a picture of each UTM zone.
        reports: reports of the tiles that have a map, by name.
        states: state of each tile by name, or the reason why it has no map.
        notices: warnings that come first.
    """
    return (
        template_environment("bp_lcz.regions")
        .get_template(f"{PAGE}.j2")
        .render(
            title=title,
            waits=WAITS,
            notices=notices,
            pictures=pictures,
            zones=[(zone, count * CELL_KM2) for zone, count in zip(ZONES, counts, strict=True) if count],
            whole=sum(counts) * CELL_KM2,
            tiles=[
                {
                    "name": name,
                    "state": state,
                    "link": f"{TILES}/{quote(name)}/{MAP}" if name in reports else None,
                    "zones": _zones(reports[name]) if name in reports else [],
                    "unlike": unlike_share(reports[name]) if name in reports else None,
                }
                for name, state in sorted(states.items())
            ],
        )
    )


def unlike_share(report: MapReport) -> float:
    """Share of a tile's mapped cells that are unlike the training data."""
    return report.reasons[Reason.UNLIKE.word] / sum(report.zones.values())


def _zones(report: MapReport) -> list[tuple[str, str, float]]:
    """Code, colour and km2 of each zone of a tile."""
    return [
        (zone.code, zone.color, report.zones[zone.code] * CELL_KM2) for zone in ZONES if report.zones.get(zone.code)
    ]
