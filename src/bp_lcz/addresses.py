"""Addresses: reaches this machine directly despite proxies, and turns files into URLs of databases."""

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
    """Whether an address is that of this machine alone (loopback)."""
    with suppress(ValueError):
        return ipaddress.ip_address(host or "").is_loopback
    return host == "localhost"


def keep_loopback_direct() -> None:
    """Make all libraries of this process and its children reach this machine without a proxy.

    ``NO_PROXY`` gets the names of this machine, in a form that all libraries accept. httpx, and so Prefect, fails at
    brackets, ports and ranges of IPv6.
    """
    stated = [entry.strip() for name in _BYPASS for entry in os.environ.get(name, "").split(",")]
    kept = [*filter(None, map(_plain, stated)), *_LOOPBACK]
    os.environ.update(dict.fromkeys(_BYPASS, "*" if "*" in kept else ",".join(dict.fromkeys(kept))))


def _plain(entry: str) -> str | None:
    """An entry of ``NO_PROXY`` in a form that every library accepts; None for one that no library understands."""
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
    """Refuse SOCKS proxies, or remove them for a server on this machine.

    Without socksio, httpx fails at a SOCKS proxy even for a server that needs no proxy.

    Args:
        url: address of the server that httpx will ask; None means a server on this machine.

    Raises:
        UserError: if the server is on another machine.
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

    A path with special characters of URLs is quoted as a whole, including its slashes. MLflow creates the folder of
    what it reads as the path, and so creates none.
    """
    path = str(file.absolute())
    return f"{driver}:///{quote(path, safe='') if set('%?#') & set(path) else path}"
