"""Real servers on this machine that behave badly in the ways that real ones do."""

import gzip
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclass
class Manners:
    """How an HTTP server behaves, and what it was asked.

    Attributes:
        ranges: whether it honours a Range.
        breaks: how many answers end in the middle of the body.
        busy: how many answers are 503.
        busy_after_break: how many are, after a broken one.
        status: answers every request with this status, if not 0.
        page: the answer, of status 200 and unknown length, to each request for a part.
        tells_length: whether answers have a Content-Length.
        asked: path and Range of each request.
    """

    ranges: bool = True
    breaks: int = 0
    busy: int = 0
    busy_after_break: int = 0
    status: int = 0
    page: bytes | None = None
    tells_length: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)


@contextmanager
def http_server(folder: Path, manners: Manners) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            manners.asked.append((self.path, wanted))
            file = folder / self.path.lstrip("/")
            if manners.status or manners.busy > 0 or not file.is_file():
                manners.busy -= 1
                self.send_error(manners.status or (404 if not file.is_file() else 503))
                return
            if wanted and manners.page is not None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(manners.page)
                return
            content = file.read_bytes()
            start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and manners.ranges else 0
            self.send_response(206 if wanted and manners.ranges else 200)
            if wanted and manners.ranges:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            if manners.tells_length:
                self.send_header("Content-Length", str(len(content) - start))
            self.end_headers()
            body = content[start:]
            if manners.breaks > 0 and len(body) > 1:
                manners.breaks -= 1
                manners.busy += manners.busy_after_break
                body = body[: len(body) // 2]
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def ftp_server(folder: Path, breaks: int = 0, rest: bool = True) -> Iterator[tuple[str, list[int]]]:
    """Address of an FTP server, and the offsets at which transfers began; the first `breaks` of them end half way."""
    from pyftpdlib.authorizers import DummyAuthorizer
    from pyftpdlib.handlers import DTPHandler, FTPHandler
    from pyftpdlib.servers import ThreadedFTPServer

    left = [breaks]
    offsets: list[int] = []

    class Breaking(DTPHandler):
        ac_out_buffer_size = 4096

        def push_with_producer(self, producer: object) -> None:
            file = producer.file
            offsets.append(file.tell())
            if left[0] > 0:
                left[0] -= 1
                rest_of_file = file.read()
                self.push(rest_of_file[: len(rest_of_file) // 2])
                self.close_when_done()
            else:
                super().push_with_producer(producer)

    authorizer = DummyAuthorizer()
    authorizer.add_user("m1", "m1", str(folder))
    handler = type("Handler", (FTPHandler,), {"authorizer": authorizer, "dtp_handler": Breaking, "use_sendfile": False})
    if not rest:
        handler.proto_cmds = {key: value for key, value in FTPHandler.proto_cmds.items() if key != "REST"}
    server = ThreadedFTPServer(("127.0.0.1", 0), handler)
    port = server.socket.getsockname()[1]
    threading.Thread(target=server.serve_forever, kwargs={"timeout": 0.02, "handle_exit": False}, daemon=True).start()
    try:
        yield f"ftp://m1:m1@127.0.0.1:{port}", offsets
    finally:
        server.close_all()


@contextmanager
def rsync_server(folder: Path, scratch: Path) -> Iterator[str]:
    """Address of an rsync daemon's module that asks for the user m1 with the password m1."""
    binary = shutil.which("rsync")
    assert binary
    (scratch / "secrets").write_text("m1:m1\n")
    (scratch / "secrets").chmod(0o600)
    port = free_port()
    (scratch / "rsyncd.conf").write_text(
        f"use chroot = no\naddress = 127.0.0.1\nport = {port}\n[m1]\npath = {folder}\nread only = yes\n"
        f"auth users = m1\nsecrets file = {scratch / 'secrets'}\n"
        + ("uid = 0\ngid = 0\n" if os.getuid() == 0 else "")  # by default root becomes nobody
    )
    daemon = subprocess.Popen(
        [binary, "--daemon", "--no-detach", f"--config={scratch / 'rsyncd.conf'}", f"--log-file={scratch / 'log'}"],
        stdin=subprocess.DEVNULL,
    )
    try:
        for _ in range(200):
            with socket.socket() as client:
                if client.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"rsync://m1:m1@127.0.0.1:{port}/m1"
    finally:
        daemon.terminate()
        daemon.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def gzipped(source: Path, target: Path) -> Path:
    """The files of a folder, gzipped into another."""
    target.mkdir()
    for file in source.iterdir():
        (target / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1))
    return target
