"""Reads one file on a mirror from an offset, by ftp, http, https or rsync.

Proxies are those of the environment (`http_proxy`, `https_proxy`, `ftp_proxy`, `no_proxy`, `RSYNC_PROXY`).
Passwords come from the address, from `~/.netrc` or, for rsync, from `RSYNC_PASSWORD`.
"""

import errno
import ftplib
import netrc
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import IO

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import HTTPError

from bp_lcz.so2sat.releases import without_password

BLOCK = 2**20
TIMEOUT = 60.0
"""Seconds without a byte after which a connection counts as broken."""

SCHEMES = ("ftp", "http", "https", "rsync")


class BrokenError(Exception):
    """The connection broke or the server is busy: worth another attempt."""


class RefusedError(Exception):
    """Another attempt would end the same way."""


class AbsentError(RefusedError):
    """The mirror has no such file."""


@dataclass(frozen=True)
class Stream:
    """A file on its way.

    Attributes:
        start: offset of the first byte; 0 if the server cannot begin elsewhere.
        total: bytes of the whole file on the mirror, or None if the mirror does not tell.
        blocks: the bytes; raises `BrokenError` if the connection breaks with an error.
        stored: whether the bytes are in the target file already (rsync writes by itself).
    """

    start: int
    total: int | None
    blocks: Iterator[bytes]
    stored: bool = False


@contextmanager
def open_at(url: str, offset: int, target: IO[bytes]) -> Iterator[Stream]:
    """Open a file on a mirror at an offset.

    Args:
        url: address of the file.
        offset: number of bytes that are not needed again.
        target: target file with `offset` bytes; only rsync uses it.

    Raises:
        BrokenError: if the connection cannot be made now.
        RefusedError: if it can never be made; `AbsentError` if the file is not there.
        OSError: if rsync cannot write the target.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        scheme, _ = parts.scheme, parts.port
    except ValueError as error:
        raise RefusedError(f"{without_password(url)}: no address ({error})") from None
    if scheme not in SCHEMES:
        raise RefusedError(f"{url}: no address of {', '.join(SCHEMES)}")
    if scheme == "rsync":
        opened = _open_rsync(url, offset, target)
    elif scheme == "ftp" and not _proxy(url):
        opened = _open_ftp(url, offset)
    else:
        opened = _open_http(url, offset)
    with opened as stream:
        yield stream


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for an address."""
    parts = urllib.parse.urlsplit(url)
    if urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    return urllib.request.getproxies().get(parts.scheme)


@contextmanager
def _open_http(url: str, offset: int) -> Iterator[Stream]:
    # Without `identity` a server may compress the answer, and offsets would not be those of the file.
    headers = {"Accept-Encoding": "identity"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    proxy = _proxy(url)
    through = f" through the proxy {_host(proxy)}" if proxy else ""
    with requests.Session() as session:
        session.mount("ftp://", HTTPAdapter())  # an HTTP proxy fetches from FTP servers too
        try:
            response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
        except requests.exceptions.ProxyError as error:
            said = re.search(r"Tunnel connection failed: ([^'\")]*)", str(error))
            raise RefusedError(
                f"the proxy {_host(proxy)} {f'answers {said[1]}' if said else 'cannot be reached'}; "
                "check http_proxy, https_proxy, ftp_proxy and no_proxy"
            ) from None
        except requests.exceptions.SSLError:
            raise RefusedError(f"the certificate of {_host(url)} is not trusted") from None
        except (requests.exceptions.ConnectionError, requests.exceptions.Timeout):
            raise BrokenError(f"no connection to {_host(url)}{through}") from None
        except (requests.exceptions.RequestException, ValueError) as error:
            raise RefusedError(f"{error}{through}") from None
        with response:
            start, total = _http_range(response, offset, through)
            yield Stream(start, total, _http_blocks(response) if response.ok else iter(()))


def _http_range(response: requests.Response, offset: int, through: str) -> tuple[int, int | None]:
    """Offset at which an answer begins, and size of the whole file."""
    status = response.status_code
    said = f"{_host(response.url)} answers {status} {response.reason}{through}"
    if status == 206:
        match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
        if match is None or int(match[1]) != offset:
            raise RefusedError(f"{said} with another range than was asked for")
        return offset, None if match[2] == "*" else int(match[2])
    if status == 416:  # no bytes after the offset: the file is complete, or shorter than what is here
        match = re.fullmatch(r"bytes \*/(\d+)", response.headers.get("Content-Range", ""))
        return offset, int(match[1]) if match else offset
    if status in (404, 410):
        raise AbsentError(said)
    if status in (408, 425, 429) or status >= 500:
        raise BrokenError(said)
    if status != 200:
        raise RefusedError(said)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise RefusedError(f"{_host(response.url)} compresses on the way, though asked not to")
    length = response.headers.get("Content-Length")
    return 0, int(length) if length else None


def _http_blocks(response: requests.Response) -> Iterator[bytes]:
    while True:
        try:
            # read1 returns bytes as they arrive; read would lose up to a block if the connection breaks.
            block = response.raw.read1(BLOCK, decode_content=False)
        except (HTTPError, HTTPException, OSError) as error:
            raise BrokenError(f"{_host(response.url)}: {_cause(error)}") from None
        if not block:
            return
        yield block


@contextmanager
def _open_ftp(url: str, offset: int) -> Iterator[Stream]:
    host = _host(url)
    ftp = ftplib.FTP(timeout=TIMEOUT)
    try:
        try:
            start, total, connection = _ftp_transfer(ftp, urllib.parse.urlsplit(url), offset)
        except (*ftplib.all_errors, EOFError) as error:
            raise BrokenError(f"{host}: {_cause(error)}") from None
        with connection:
            yield Stream(start, total, _ftp_blocks(connection, host))
    finally:
        ftp.close()  # without QUIT: after hours of transfer the control connection may be dead


def _ftp_transfer(
    ftp: ftplib.FTP, parts: urllib.parse.SplitResult, offset: int
) -> tuple[int, int | None, socket.socket]:
    """Offset at which the transfer begins, size of the whole file, and the data connection."""
    host = parts.hostname or ""
    path = urllib.parse.unquote(parts.path).lstrip("/")
    try:
        ftp.connect(host, parts.port or ftplib.FTP_PORT)
        ftp.login(*_login(parts))
        ftp.voidcmd("TYPE I")
    except ftplib.error_perm as error:
        raise RefusedError(f"{host} answers {error}") from None
    try:
        total = ftp.size(path)
    except ftplib.error_perm as error:
        if str(error).startswith("550"):
            raise AbsentError(f"{host} has no {path}") from None
        total = None  # a server without SIZE
    try:
        return offset, total, ftp.transfercmd(f"RETR {path}", rest=offset or None)
    except (ftplib.error_perm, ftplib.error_reply) as error:
        if str(error).startswith("550"):
            raise AbsentError(f"{host} has no {path}") from None
        if not offset:
            raise RefusedError(f"{host} answers {error}") from None
    return 0, total, ftp.transfercmd(f"RETR {path}")  # a server without REST


def _ftp_blocks(connection: socket.socket, host: str) -> Iterator[bytes]:
    while True:
        try:
            block = connection.recv(BLOCK)
        except OSError as error:
            raise BrokenError(f"{host}: {_cause(error)}") from None
        if not block:
            return
        yield block


def _login(parts: urllib.parse.SplitResult) -> tuple[str, str]:
    if parts.username is not None:
        return urllib.parse.unquote(parts.username), urllib.parse.unquote(parts.password or "")
    try:
        entry = netrc.netrc().authenticators(parts.hostname or "")
    except (OSError, netrc.NetrcParseError):
        entry = None
    return (entry[0], entry[2] or "") if entry else ("anonymous", "anonymous@")


@contextmanager
def _open_rsync(url: str, offset: int, target: IO[bytes]) -> Iterator[Stream]:
    binary = shutil.which("rsync")
    if binary is None:
        raise RefusedError("rsync is not installed; install it, or take an ftp or http mirror")
    parts = urllib.parse.urlsplit(url)
    environment = dict(os.environ)
    if parts.password:
        environment["RSYNC_PASSWORD"] = urllib.parse.unquote(parts.password)
    # --append continues in place after the bytes that are there, so blocks can be read as they arrive.
    command = [binary, "--append", "--no-motd", f"--timeout={TIMEOUT:.0f}", "--contimeout=20", "--"]
    command += [without_password(url), target.name]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=said,
            start_new_session=True,  # without a terminal it cannot wait for a password
            pass_fds=(target.fileno(),),  # an orphan keeps the lock on the file that it writes
        )
        try:
            yield Stream(offset, None, _rsync_blocks(process, Path(target.name), offset, said, _host(url)), stored=True)
        finally:
            process.terminate()
            process.wait()


def _rsync_blocks(
    process: subprocess.Popen[bytes], target: Path, offset: int, said: IO[bytes], host: str
) -> Iterator[bytes]:
    with target.open("rb") as file:
        file.seek(offset)
        while True:
            ended = process.poll() is not None  # checked before reading, since the last bytes come before the end
            block = file.read(BLOCK)
            if block:
                yield block
            elif ended:
                break
            else:
                time.sleep(0.1)
    if process.returncode == 0:
        return
    said.seek(0)
    lines = [line for line in said.read().decode(errors="replace").splitlines() if line.strip()]
    text = re.sub(r"^(@ERROR|rsync(error)?)[:\s]*(\[\w+\])?[:\s]*", "", lines[0]) if lines else "no reason given"
    everything = " ".join(lines)
    if "No space left" in everything:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    if process.returncode == 23 and "No such file" in everything:
        raise AbsentError(f"{host} has no such file")
    if process.returncode in (1, 2, 3, 4, 5, 6, 11):  # usage, login, unknown module, files
        raise RefusedError(f"rsync from {host}: {text}")
    raise BrokenError(f"rsync from {host}: {text}")


def _host(url: str | None) -> str:
    parts = urllib.parse.urlsplit(url or "")
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or str(url)


def _cause(error: BaseException) -> str:
    """Why a connection broke, in a few words."""
    if isinstance(error, TimeoutError) or "timed out" in str(error).lower():
        return "no answer for a minute"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return "the connection broke" if not isinstance(error, ftplib.Error) else f"answers {error}"
