"""Stores the maps of a region in a folder, or in a bucket of an S3-compatible store."""

import hashlib
import mimetypes
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bp_lcz.errors import TemporaryError, UserError, one_line
from bp_lcz.files import staged_file
from bp_lcz.maps.outputs import REPORT

TILES = "tiles"
"""Folder of the tiles' maps in a region."""


class Store(ABC):
    """A region's files by their names, such as ``tiles/32UQD/lcz.tif``.

    Attributes:
        address: address of the store in messages.
    """

    address: str

    @abstractmethod
    def place(self, tile: str) -> Path:
        """The folder in which the map of a tile is made. It is the same in each run on a machine."""

    @abstractmethod
    def send(self, tile: str) -> None:
        """Copy a map from its place into the store. Its report comes last, so a map with a report is complete."""

    @abstractmethod
    def read(self, name: str) -> bytes | None:
        """The content of a file; None if it does not exist."""

    @abstractmethod
    def write(self, name: str, content: bytes) -> None:
        """Write a file in one step."""


class Folder(Store):
    """A folder that all workers reach under the same path."""

    def __init__(self, folder: Path) -> None:
        self.address, self._folder = str(folder), folder

    def place(self, tile: str) -> Path:
        return self._folder / TILES / tile

    def send(self, tile: str) -> None:
        """Do nothing: the map was made in its place."""

    def read(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, name: str, content: bytes) -> None:
        with staged_file(self._folder / name) as file:
            file.write_bytes(content)


class Bucket(Store):
    """A prefix of a bucket. boto3 takes address and keys of the store from the environment.

    Raises:
        UserError: if boto3 is not installed; in each method, if the store refuses.
        TemporaryError: in each method, if the store does not answer.
    """

    def __init__(self, address: str, scratch: Path) -> None:
        try:
            import boto3
        except ImportError:
            raise UserError(address, "needs boto3: pip install -c constraints.txt -e '.[servers]'") from None
        self.address = address
        self._bucket, _, prefix = address.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._scratch = scratch / hashlib.sha256(address.encode()).hexdigest()[:12]
        with self._told():
            self._client: Any = boto3.session.Session().client("s3")

    def place(self, tile: str) -> Path:
        return self._scratch / tile

    def send(self, tile: str) -> None:
        place = self.place(tile)
        files = sorted((path for path in place.rglob("*") if path.is_file()), key=lambda path: path.name == REPORT)
        for path in files:
            self.write(f"{TILES}/{tile}/{path.relative_to(place).as_posix()}", path.read_bytes())
        shutil.rmtree(place)

    def read(self, name: str) -> bytes | None:
        from botocore.exceptions import ClientError

        with self._told():
            try:
                return self._client.get_object(Bucket=self._bucket, Key=self._prefix + name)["Body"].read()
            except ClientError as error:
                if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                    return None
                raise

    def write(self, name: str, content: bytes) -> None:
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        with self._told():
            self._client.put_object(Bucket=self._bucket, Key=self._prefix + name, Body=content, ContentType=kind)

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Turn errors of the store into one line."""
        from botocore.exceptions import BotoCoreError, ClientError, ConnectionError, HTTPClientError

        try:
            yield
        except ClientError as error:
            code = error.response["Error"]["Code"]
            kind = TemporaryError if code in ("SlowDown", "InternalError", "ServiceUnavailable", "503") else UserError
            raise kind(self.address, f"the store refuses: {one_line(error)}") from None
        except (ConnectionError, HTTPClientError) as error:
            raise TemporaryError(self.address, f"the store does not answer ({one_line(error)})") from None
        except (BotoCoreError, ValueError) as error:
            raise UserError(self.address, f"{one_line(error)}; set AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, …") from None


def store_of(out: str, scratch: Path) -> Store:
    """The store of an address.

    Args:
        out: a folder, or ``s3://bucket/prefix``.
        scratch: folder of this machine in which maps for a bucket are made.

    Raises:
        UserError: if the address has another scheme.
    """
    if re.match(r"s3://[^/]", out):
        return Bucket(out.rstrip("/"), scratch)
    if "://" in out:
        raise UserError(out, "expected a folder or s3://bucket/prefix")
    return Folder(Path(out))
