"""How the data head every result: light, since the report needs nothing else of the data."""

from collections.abc import Mapping
from typing import Any

LEAKY_SPLIT = "leaky split"
"""Patches of two splits show the same ground."""


def leak_mark(leakage: Mapping[str, Any]) -> str:
    """``leaky split`` for an entry ``leakage`` of a summary, manifest or result whose splits overlap, else nothing."""
    return LEAKY_SPLIT if leakage["status"] != "none" else ""
