"""Networks that others have published, by address and checksum."""

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from bp_lcz.errors import TemporaryError, UserError
from bp_lcz.model.sen2lcz_weights import PUBLISHED_SHA256, convert_sen2lcz
from bp_lcz.so2sat.mirrors import BrokenError, RefusedError, open_at

MOST_BYTES = 2**24


@dataclass(frozen=True)
class Published:
    """Weights on a server.

    Attributes:
        url: of the file.
        sha256: of its bytes.
        convert: makes a checkpoint of it.
    """

    url: str
    sha256: str
    convert: Callable[[Path, Path], Path]


PRETRAINED = {
    "sen2lcz-mf": Published(
        "https://raw.githubusercontent.com/ChunpingQiu/benchmark-on-So2SatLCZ42-dataset-a-simple-tour/"
        "7675acd4895a8a5e87c7a3f90407b8f6772aa8ed/results/_32_weights.best.hdf5",
        PUBLISHED_SHA256,
        convert_sen2lcz,
    )
}


def write_pretrained(name: str, out: Path, url: str | None = None, file: Path | None = None) -> Path:
    """Make a checkpoint of published weights.

    Args:
        name: a key of `PRETRAINED`.
        out: folder to make, readable with ``load_classifier``.
        url: another address of the same bytes: ftp, http, https or rsync.
        file: the same bytes on this machine; then nothing is downloaded.

    Returns:
        The folder.

    Raises:
        TemporaryError: if the server cannot be reached or breaks off.
        UserError: if the name is unknown, the folder exists, the server refuses, or the bytes are others.
    """
    if name not in PRETRAINED:
        raise UserError(name, f"no published model; known: {', '.join(PRETRAINED)}")
    if out.exists():
        raise UserError(out, "exists already; remove it or choose another folder")
    published = PRETRAINED[name]
    if file is not None:
        _check(file, file, published.sha256)
        return published.convert(file, out)
    address = url or published.url
    with tempfile.TemporaryDirectory() as scratch:
        brought = Path(scratch) / f"{name}.hdf5"
        _bring(address, brought)
        _check(brought, address, published.sha256)
        return published.convert(brought, out)


def _bring(url: str, target: Path) -> None:
    elsewhere = (
        "fetch the file by other means and give it to `bp-lcz pretrained --file`, `bp-lcz prove --weights` or "
        "`make paper WEIGHTS=`"
    )
    try:
        with target.open("wb") as file, open_at(url, 0, file) as stream:
            for block in stream.blocks:
                if not stream.stored:
                    file.write(block)
                if file.tell() > MOST_BYTES:  # `_check` says so
                    return
        if stream.total is not None and target.stat().st_size < stream.total:
            raise BrokenError("the connection closed too early")
    except BrokenError as error:
        raise TemporaryError(url, f"{error}; run again, or {elsewhere}") from None
    except RefusedError as error:
        raise UserError(url, f"{error}; {elsewhere}") from None


def _check(file: Path, where: object, sha256: str) -> None:
    try:
        with file.open("rb") as opened:
            content = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UserError(where, f"cannot be read: {(error.strerror or str(error)).lower()}") from None
    if len(content) > MOST_BYTES:
        raise UserError(where, f"has more than {MOST_BYTES:,} bytes, so it is another file")
    if (found := hashlib.sha256(content).hexdigest()) != sha256:
        page = "a page in place of the weights: " * content.lstrip()[:1].startswith(b"<")
        raise UserError(where, f"{page or 'is not the published file: '}sha256 {found}; expected {sha256}")
