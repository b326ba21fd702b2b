"""The 17 local climate zones of Stewart and Oke (2012), in the order of So2Sat's one-hot labels."""

from dataclasses import dataclass


@dataclass(frozen=True)
class LocalClimateZone:
    """One class of the scheme.

    Attributes:
        code: its number or letter in the literature, ``1`` to ``10`` and ``A`` to ``G``.
        name: the English name, capitalised as in Stewart and Oke.
        color: the standard colour of LCZ maps (WUDAPT), as ``#rrggbb``.
    """

    code: str
    name: str
    color: str

    @property
    def is_built(self) -> bool:
        """Whether it is one of the ten built zones (``1`` to ``10``) rather than a land-cover zone."""
        return self.code.isdigit()


ZONES: tuple[LocalClimateZone, ...] = (
    LocalClimateZone("1", "Compact high-rise", "#8c0000"),
    LocalClimateZone("2", "Compact mid-rise", "#d10000"),
    LocalClimateZone("3", "Compact low-rise", "#ff0000"),
    LocalClimateZone("4", "Open high-rise", "#bf4d00"),
    LocalClimateZone("5", "Open mid-rise", "#ff6600"),
    LocalClimateZone("6", "Open low-rise", "#ff9955"),
    LocalClimateZone("7", "Lightweight low-rise", "#faee05"),
    LocalClimateZone("8", "Large low-rise", "#bcbcbc"),
    LocalClimateZone("9", "Sparsely built", "#ffccaa"),
    LocalClimateZone("10", "Heavy industry", "#555555"),
    LocalClimateZone("A", "Dense trees", "#006a00"),
    LocalClimateZone("B", "Scattered trees", "#00aa00"),
    LocalClimateZone("C", "Bush, scrub", "#648525"),
    LocalClimateZone("D", "Low plants", "#b9db79"),
    LocalClimateZone("E", "Bare rock or paved", "#000000"),
    LocalClimateZone("F", "Bare soil or sand", "#fbf7ae"),
    LocalClimateZone("G", "Water", "#6a6aff"),
)
CODES: tuple[str, ...] = tuple(zone.code for zone in ZONES)
NAMES: tuple[str, ...] = tuple(zone.name for zone in ZONES)
COLORS: tuple[str, ...] = tuple(zone.color for zone in ZONES)
CLASS_COUNT = len(ZONES)
BUILT: tuple[int, ...] = tuple(i for i, zone in enumerate(ZONES) if zone.is_built)
NATURAL: tuple[int, ...] = tuple(i for i, zone in enumerate(ZONES) if not zone.is_built)
