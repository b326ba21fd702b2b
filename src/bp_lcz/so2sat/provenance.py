"""How the data head every result: light, since the report needs nothing else of the data."""

from collections.abc import Mapping
from typing import Any

from bp_lcz.so2sat.releases import SO2SAT_V2

LEAKY_SPLIT = "leaky split"
"""Patches of two splits show the same ground."""

_WARNINGS = {"simulated": "simulated data", "weak labels": "weak labels", "unstated": "provenance not stated"}


def leak_mark(leakage: Mapping[str, Any]) -> str:
    """``leaky split`` for an entry ``leakage`` of a summary, manifest or result whose splits overlap, else nothing."""
    return LEAKY_SPLIT if leakage["status"] != "none" else ""


def is_comparable(summary: Mapping[str, Any]) -> bool:
    """Whether results on a data set may be set against the paper's: only on the official So2Sat v2."""
    is_official = summary["kind"] == "unstated" and summary["release"] == SO2SAT_V2
    return is_official and not leak_mark(summary["leakage"])


def warning(summary: Mapping[str, Any]) -> str:
    """Why numbers of a data set say little about the world, in a few words; empty for the official So2Sat v2."""
    if is_comparable(summary):
        return ""
    return ", ".join(filter(None, [leak_mark(summary["leakage"]), _WARNINGS[summary["kind"]]]))
