"""The class x group texts of band group prompting."""

from bp_lcz.bands import GROUPS
from bp_lcz.params import Wording
from bp_lcz.scheme import ZONES

FORMS: dict[str, tuple[str, str, str, str]] = {
    "1": ("more than 25", "40 to 60", "40 to 60", "less than 10"),
    "2": ("10 to 25", "40 to 70", "30 to 50", "less than 20"),
    "3": ("3 to 10", "40 to 70", "20 to 50", "less than 30"),
    "4": ("more than 25", "20 to 40", "30 to 40", "30 to 40"),
    "5": ("10 to 25", "20 to 40", "30 to 50", "20 to 40"),
    "6": ("3 to 10", "20 to 40", "20 to 50", "30 to 60"),
    "7": ("2 to 4", "60 to 90", "less than 20", "less than 30"),
    "8": ("3 to 10", "30 to 50", "40 to 50", "less than 20"),
    "9": ("3 to 10", "10 to 20", "less than 20", "60 to 80"),
    "10": ("5 to 15", "20 to 30", "20 to 40", "40 to 50"),
    "A": ("3 to 30", "less than 10", "less than 10", "more than 90"),
    "B": ("3 to 15", "less than 10", "less than 10", "more than 90"),
    "C": ("less than 2", "less than 10", "less than 10", "more than 90"),
    "D": ("less than 1", "less than 10", "less than 10", "more than 90"),
    "E": ("less than 0.25", "less than 10", "more than 90", "less than 10"),
    "F": ("less than 0.25", "less than 10", "less than 10", "more than 90"),
    "G": ("no", "less than 10", "less than 10", "more than 90"),
}
"""Height of buildings or plants in m; built, impervious and pervious share of the ground in percent, of each zone.
Source: Stewart and Oke (2012), tables of geometric and surface cover properties."""

SIGHTS: dict[str, str] = {
    "VH": "VH radar (volume scattering of vegetation and of buildings at an angle)",
    "VV": "VV radar (roughness of surfaces and echoes of walls)",
    "PolSAR": "PolSAR radar (phase between VH and VV, number of reflections)",
    "RGB": "RGB (colours that an eye sees)",
    "VRE": "VRE red edge (chlorophyll of leaves)",
    "NIR": "NIR near infrared (amount of leaves, darkness of water)",
    "SWIR": "SWIR short-wave infrared (moisture, roofs and bare ground)",
}
"""What each band group sees, in the words of this project."""


def class_texts(template: str, wording: Wording = "names") -> list[str]:
    """Fill the template for every class; its only field is ``{class}``.

    Example:
        >>> class_texts("a photo of a {class}")[16]
        'a photo of a water'
    """
    return [template.replace("{class}", text) for text in _classes(wording)]


def prompt_texts(template: str, wording: Wording = "names") -> tuple[tuple[str, ...], ...]:
    """Fill the template for every class and every band group.

    All seven groups are written whatever channels a data set has: a trial later takes the columns of its own
    groups, so one prompt table serves every data set.

    Args:
        template: text with the fields ``{class}`` and ``{group}``.
        wording: of the fields.

    Returns:
        17 tuples (classes in So2Sat's order) of 7 texts (groups in the order of ``bands.GROUPS``).

    Example:
        >>> prompt_texts("a photo of a {class} with {group} bands")[16][3]
        'a photo of a water with RGB bands'

    Source: the template is the paper's (Lan et al. 2025); class names are lower case inside a sentence.
    """
    groups = [group if wording == "names" else SIGHTS[group] for group in GROUPS]
    return tuple(tuple(text.replace("{group}", group) for group in groups) for text in class_texts(template, wording))


def _classes(wording: Wording) -> list[str]:
    names = [zone.name.lower() for zone in ZONES]
    if wording == "names":
        return names
    forms = (FORMS[zone.code] for zone in ZONES)
    return [
        f"{name} ({height} m high, {built} % built, {sealed} % sealed, {pervious} % pervious ground)"
        for name, (height, built, sealed, pervious) in zip(names, forms, strict=True)
    ]
