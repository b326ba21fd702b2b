"""Numbers of things in words."""

_PLURALS = {"patch": "patches", "class": "classes", "city": "cities", "block of 1 km": "blocks of 1 km"}


def plural(noun: str) -> str:
    """The plural of a noun of this project: ``cities``, ``seeds``."""
    return _PLURALS.get(noun, f"{noun}s")


def counted(count: int, noun: str) -> str:
    """A number of things: ``1 patch``, ``1,200 patches``."""
    return f"{count:,} {noun if count == 1 else plural(noun)}"
