"""Addresses: this machine is reached directly whatever proxies are set, and a file becomes the URL of a database."""

import importlib.util
import ipaddress
import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

from bp_lcz.errors import UserError

_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_BYPASS = ("no_proxy", "NO_PROXY")


def is_local(host: str | None) -> bool:
    """Whether only this machine can be reached at an address, or reach it."""
    with suppress(ValueError):
        return ipaddress.ip_address(host or "").is_loopback
    return host == "localhost"


def keep_loopback_direct() -> None:
    """Let no library of this process or its children send a request for this machine to a proxy.

    ``NO_PROXY`` gets the names of this machine and is brought into a form that all libraries take: httpx, and so
    Prefect, fails at brackets, ports and ranges of IPv6.
    """
    stated = [entry.strip() for name in _BYPASS for entry in os.environ.get(name, "").split(",")]
    kept = [*filter(None, map(_plain, stated)), *_LOOPBACK]
    os.environ.update(dict.fromkeys(_BYPASS, "*" if "*" in kept else ",".join(dict.fromkeys(kept))))


def _plain(entry: str) -> str | None:
    """An entry of ``NO_PROXY`` that every library takes; None for one that some of them fail at and none knows."""
    bracketed = re.fullmatch(r"\[([^]]*)\](:\d+)?", entry)
    address = bracketed[1] if bracketed else entry
    if address.count(":") > 1:
        with suppress(ValueError):
            return str(ipaddress.IPv6Address(address.partition("%")[0]))
        return None
    with suppress(UnicodeError):
        return address if address.isascii() else address.encode("idna").decode()
    return None


def refuse_or_drop_socks(url: str | None) -> None:
    """Settle SOCKS proxies, at which httpx fails without socksio even for a server that needs no proxy.

    Args:
        url: of the server that httpx will ask; None is one on this machine, for which they are dropped.

    Raises:
        UserError: if the server is elsewhere.
    """
    if importlib.util.find_spec("socksio"):
        return
    for name, value in list(os.environ.items()):
        if name.lower().endswith("_proxy") and value.lower().startswith("socks"):
            if url and not is_local(urlsplit(url).hostname):
                raise UserError(
                    name, f"a SOCKS proxy on the way to {urlsplit(url).hostname} needs `pip install socksio`"
                )
            del os.environ[name]


def sqlite_url(file: Path, driver: str = "sqlite") -> str:
    """URL of an SQLite file for SQLAlchemy, whatever characters its path has.

    A path in which a URL would read something else is quoted as a whole, its slashes too: MLflow makes the folder of
    what it takes for the path, and so makes none.
    """
    path = str(file.absolute())
    return f"{driver}:///{quote(path, safe='') if set('%?#') & set(path) else path}"
