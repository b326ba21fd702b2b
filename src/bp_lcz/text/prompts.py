"""The class x group texts of band group prompting."""

from bp_lcz.bands import GROUPS
from bp_lcz.scheme import ZONES


def class_texts(template: str) -> list[str]:
    """Fill the template for every class; its only field is ``{class}``.

    Example:
        >>> class_texts("a photo of a {class}")[16]
        'a photo of a water'
    """
    return [template.replace("{class}", zone.name.lower()) for zone in ZONES]


def prompt_texts(template: str) -> tuple[tuple[str, ...], ...]:
    """Fill the template for every class and every band group.

    All seven groups are written whatever channels a data set has: a trial later takes the columns of its own
    groups, so one prompt table serves every data set.

    Args:
        template: text with the fields ``{class}`` and ``{group}``.

    Returns:
        17 tuples (classes in So2Sat's order) of 7 texts (groups in the order of ``bands.GROUPS``).

    Example:
        >>> prompt_texts("a photo of a {class} with {group} bands")[16][3]
        'a photo of a water with RGB bands'

    Source: the template is the paper's (Lan et al. 2025); class names are lower case inside a sentence.
    """
    of_class = (template.replace("{class}", zone.name.lower()) for zone in ZONES)
    return tuple(tuple(text.replace("{group}", group) for group in GROUPS) for text in of_class)
