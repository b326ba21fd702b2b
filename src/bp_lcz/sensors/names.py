"""How tools and products name the bands of Sentinel-1 and Sentinel-2."""

import re
from datetime import UTC, datetime
from typing import Any

from bp_lcz.bands import SEN2_BANDS, Level

L1C_BANDS = ("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B8A", "B09", "B10", "B11", "B12")
ORDERS = {10: SEN2_BANDS, 12: tuple(band for band in L1C_BANDS if band != "B10"), 13: L1C_BANDS}
_COMMON = {
    "COASTAL": "B01", "BLUE": "B02", "GREEN": "B03", "RED": "B04", "REDEDGE1": "B05", "REDEDGE2": "B06",
    "REDEDGE3": "B07", "NIR": "B08", "NIR08": "B8A", "NIR09": "B09", "CIRRUS": "B10", "SWIR16": "B11", "SWIR22": "B12",
}  # fmt: skip
"""Common names of bands in STAC's extension eo, as Earth Search uses them."""


def band_name(text: str) -> str:
    """The band that a description names, such as ``B02`` for ``20180710T101029_B2_10m``; empty unless it names one.

    Numbers (``B2``, ``B02``, ``Band 2``, ``2``) go before common names (``blue``, ``rededge1``, ``nir08``).
    """
    plain = re.sub(r"\bBAND[\s-]*(?=\d)", "B", text.upper().replace("_", " "))
    words = re.split(r"[^A-Z0-9]+", re.sub(r"\bRED[\s-]*EDGE[\s-]*", "REDEDGE", plain).strip())
    if len(words) == 1 and words[0][:1].isdigit():
        words = [f"B{words[0]}"]
    numbered = [match for match in (re.fullmatch(r"B0?(\d{1,2})(A?)", word) for word in words) if match]
    found = {f"B{int(match[1])}A" if match[2] else f"B{int(match[1]):02d}" for match in numbered}
    if not found and not {"INFRA", "NARROW"} & set(words):  # "near infra-red" is not red; "narrow nir" is another band
        found = {_COMMON[word] for word in words if word in _COMMON}
    return found.pop() if len(found) == 1 and found <= set(L1C_BANDS) else ""


def level_of(text: str) -> Level | None:
    """The processing level of Sentinel-2 that a text names, such as ``Level-1C`` or ``MSIL2A``."""
    found = re.search(r"1C|2A", text)
    return None if found is None else "L1C" if found[0] == "1C" else "L2A"


def moment(text: object) -> str | None:
    """A time in the form of RFC 3339, in UTC and whole seconds; None if the text is not a date or a time."""
    try:
        found = datetime.fromisoformat(str(text))
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return found.replace(microsecond=0).isoformat().replace("+00:00", "Z")


def polarisation(text: str) -> str:
    """``VV`` or ``VH`` if a text names exactly one of them, else an empty text."""
    found = set(re.split(r"[^A-Z0-9]+", text.upper())) & {"VH", "VV"}
    return found.pop() if len(found) == 1 else ""


def naming_texts(dataset: Any) -> list[str] | None:
    """Descriptions of the bands; None if they do not differ, as some tools give all bands the same description."""
    texts = [text or "" for text in dataset.descriptions]
    return texts if any(texts) and (len(set(texts)) > 1 or len(texts) == 1) else None


def why_by_order(dataset: Any) -> str:
    """Why bands without `naming_texts` are named by their order, for the line of what was found."""
    shared = dataset.descriptions[0]
    return "by their order, since " + (f"all are called {shared}" if shared else "no description names them")
