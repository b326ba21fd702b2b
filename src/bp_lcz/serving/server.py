"""The scoring server: MLflow's own application behind a gate that lets only well-formed patches through.

MLflow's application has no limit on bodies, reads them before it looks at them, and takes float64 alone. The gate in
front of it reads a body up to a limit, has it checked in a process of bounded memory, and hands on what that one has
encoded itself.

Loading a registered model runs the code that was registered with it: the registry is trusted. See docs/security.md.
"""

import asyncio
import ipaddress
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import closing, suppress
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float

from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError, one_line
from bp_lcz.patches.transform import first_not_finite
from bp_lcz.serving.client import JSON, PARQUET, encode_parquet

MIB = 2**20
_KEYS = ("sen1", "sen2")
_BODY_SECONDS = 60
_DISCARD_SECONDS = 5
_MOST_CONNECTIONS = 32
_MEMORY_PER_BODY = 32
"""Bytes that checking may take for each of --max-body: JSON of numbers such as 0.1 takes 28, parquet 15."""
_LEAST_MEMORY = 128 * MIB
_CHECK_SECONDS = 60
_ALLOCATORS = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # Arrow's others reserve more than they use
    "MALLOC_ARENA_MAX": "1",  # so that finding no memory is quick: orjson may find none a million times before it ends
}
_OPEN = {("GET", "/health"), ("GET", "/ping"), ("GET", "/version")}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]


def serve(workspace: Path, name: str, alias: str, host: str, port: int, max_body: int) -> None:
    """Serve a registered model until interrupted.

    Args:
        workspace: checkout or workspace, whose store holds the model.
        name: of the registered model.
        alias: of the version; what it means is settled once, at the start.
        host: address to listen on.
        port: 0 for any free one.
        max_body: most bytes of a request.

    Raises:
        UserError: if there is no such model, its artifacts are gone, or the address is taken.
    """
    import mlflow
    import uvicorn
    from mlflow.exceptions import MlflowException
    from mlflow.pyfunc import scoring_server

    from bp_lcz.registry.connection import open_store
    from bp_lcz.registry.fetch import find_version

    with open_store(workspace) as client:
        version = find_version(client, f"models:/{name}@{alias}")
        served = f"{name}/{version.version}"
        try:
            model = mlflow.pyfunc.load_model(f"models:/{served}")
        except (MlflowException, OSError, UserError) as error:
            reason = one_line(error)
            raise UserError(served, f"cannot be loaded from the artifact store ({reason})") from None
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"{host}:{port}", f"cannot listen there ({error.strerror or error})") from None
    shapes = {spec.name: spec.shape[1:] for spec in model.metadata.get_input_schema().inputs}
    local = _is_loopback(host)
    address = f"[{host}]" if ":" in host else host
    print(f"serving {served} (@{alias}) on http://{address}:{listener.getsockname()[1]}", flush=True)
    if not local:
        print(f"note: {host} can be reached from other machines and nothing asks who calls", file=sys.stderr)
    with closing(Checker({key: shapes[key][-1] for key in _KEYS}, max_body)) as checker:
        gate = Gate(scoring_server.init(model), checker, max_body, served, only_local_names=local)
        config = uvicorn.Config(
            gate, log_level="warning", limit_concurrency=_MOST_CONNECTIONS, server_header=False, lifespan="off"
        )
        uvicorn.Server(config).run(sockets=[listener])


class RefusedError(Exception):
    """Why a request is not answered, with its HTTP status, and whether part of its body is still to come."""

    def __init__(self, status: int, reason: str, is_unread: bool = False) -> None:
        super().__init__(reason)
        self.status = status
        self.is_unread = is_unread


class Gate:
    """ASGI application that checks requests and passes the good ones on.

    Args:
        app: MLflow's scoring application.
        checker: of bodies.
        max_body: most bytes of a request.
        served: name and version of the model, sent as the header ``x-model``.
        only_local_names: refuse requests whose Host is another than this machine's: a page in a browser could reach
            a local server under a name of its own.
    """

    def __init__(self, app: App, checker: "Checker", max_body: int, served: str, only_local_names: bool) -> None:
        self._app = app
        self._checker = checker
        self._max_body = max_body
        self._served = served.encode()
        self._only_local_names = only_local_names
        self._turn = asyncio.Semaphore(1)  # one request has all cores, and memory holds one at a time

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return

        async def send_named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), (b"x-model", self._served)]
            await send(message)

        try:
            await self._answer(scope, receive, send_named)
        except RefusedError as refused:
            body = json.dumps({"error": str(refused)}).encode()
            headers = [(b"content-type", JSON.encode()), (b"content-length", str(len(body)).encode())]
            if refused.is_unread:
                headers.append((b"connection", b"close"))
                await self._discard(scope, receive)
            await send_named({"type": "http.response.start", "status": refused.status, "headers": headers})
            await send_named({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {key.lower(): value.decode("latin-1") for key, value in scope["headers"]}
        if self._only_local_names and not _is_loopback(_host_name(headers.get(b"host", ""))):
            raise RefusedError(403, f"Host {headers.get(b'host', '')!r} is not this machine")
        request = (scope["method"], scope["path"])
        if request in _OPEN:
            await self._app(scope, receive, send)
            return
        if request != ("POST", "/invocations"):
            raise RefusedError(404, "not found; there are GET /health, /ping, /version and POST /invocations")
        content_type = headers.get(b"content-type", "").partition(";")[0].strip().lower()
        if content_type not in (JSON, PARQUET):
            raise RefusedError(415, f"content type {content_type or 'missing'}; expected {JSON} or {PARQUET}")
        body = await self._read(headers, receive)
        async with self._turn:
            checked = await asyncio.to_thread(self._checker.encode_checked, content_type, body)
            del body
            kept = [(key, value) for key, value in scope["headers"] if key.lower() not in _REWRITTEN]
            new = [(b"content-type", PARQUET.encode()), (b"content-length", str(len(checked)).encode())]
            parts = [{"type": "http.request", "body": checked, "more_body": False}]

            async def receive_checked() -> MutableMapping[str, Any]:
                return parts.pop() if parts else await receive()

            await self._app({**scope, "headers": kept + new}, receive_checked, send)

    async def _read(self, headers: dict[bytes, str], receive: Receive) -> bytes:
        """The body, as long as it keeps to the limit."""
        length = headers.get(b"content-length")
        if length is not None and not length.isdecimal():
            raise RefusedError(400, "Content-Length is no number")
        if length is not None and int(length) > self._max_body:
            raise RefusedError(413, f"body of {int(length):,} bytes; at most {self._max_body:,} (--max-body)", True)
        body = bytearray()
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        raise RefusedError(400, "the body ended early")
                    body += message.get("body", b"")
                    if len(body) > self._max_body:
                        unread = bool(message.get("more_body", False))
                        raise RefusedError(413, f"body of more than {self._max_body:,} bytes (--max-body)", unread)
                    if not message.get("more_body", False):
                        return bytes(body)
        except TimeoutError:
            raise RefusedError(408, f"the body took longer than {_BODY_SECONDS} s") from None

    async def _discard(self, scope: Scope, receive: Receive) -> None:
        """Let a client that only reads after it has sent come to its end, but not for long and into no memory."""
        if any(key.lower() == b"expect" for key, _ in scope["headers"]):
            return  # it waits for leave to send
        discarded = 0
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                while discarded <= self._max_body:
                    message = await receive()
                    discarded += len(message.get("body", b""))
                    if message["type"] == "http.disconnect" or not message.get("more_body", False):
                        return


class Checker:
    """A process that decodes and checks bodies, one at a time: only decoding shows how much memory a body takes.

    It starts at once, ends with this process, and is replaced after a body that was too much for it.

    Args:
        channels: number of channels of ``sen1`` and ``sen2``.
        max_body: most bytes of a body, and of parquet's patches once decoded.
    """

    def __init__(self, channels: dict[str, int], max_body: int) -> None:
        memory = max(_MEMORY_PER_BODY * max_body, _LEAST_MEMORY)
        self._arguments = [json.dumps(channels), str(max_body), str(memory)]
        self._start()

    def encode_checked(self, content_type: str, body: bytes) -> bytes:
        """The body's patches in the one form that the scoring application is given.

        Args:
            content_type: `JSON` or `PARQUET`.
            body: as it came.

        Raises:
            RefusedError: if these are no patches, or take too much memory or time.
        """
        try:
            self._pipe.send_bytes(content_type.encode())
            self._pipe.send_bytes(body)
            if not self._pipe.poll(_CHECK_SECONDS):
                raise TimeoutError
            status = int(self._pipe.recv_bytes())
            answer = self._pipe.recv_bytes()
        except (EOFError, OSError):
            self.close()
            self._start()
            raise RefusedError(413, "takes too much memory or time to decode; send fewer patches at a time") from None
        if status != 200:
            raise RefusedError(status, answer.decode())
        return answer

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.kill()
        self._process.wait()

    def _start(self) -> None:
        self._pipe, other = Pipe()
        with other:
            run = f"from bp_lcz.serving.server import check_bodies; check_bodies({other.fileno()})"
            # A session of its own: Ctrl-C is for the server, and the end of the pipe for this process.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", run, *self._arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | _ALLOCATORS,
                pass_fds=[other.fileno()],
                start_new_session=True,
            )


def check_bodies(pipe: int) -> None:
    """Answer what `Checker` sends until it is gone or a body takes too much memory; the arguments are its own.

    Args:
        pipe: file descriptor of this end.
    """
    channels, max_body, memory = (json.loads(argument) for argument in sys.argv[1:])
    patches = _Patches(channels, max_body)
    _bound_memory(memory)
    with Connection(pipe) as server, suppress(EOFError, OSError, MemoryError):
        while True:
            content_type = server.recv_bytes().decode()
            try:
                status, answer = 200, patches.encode_checked(content_type, server.recv_bytes())
            except RefusedError as refused:
                status, answer = refused.status, str(refused).encode()
            server.send_bytes(str(status).encode())
            server.send_bytes(answer)
            del answer


def _bound_memory(more: int) -> None:
    """Let this process allocate ``more`` bytes beyond what it has, where the system can tell and bound that (Linux)."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # libraries that find no memory abort
    with suppress(FileNotFoundError, ValueError):  # no /proc; a lower bound is set already
        now = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_DATA, (now + more, now + more))


class _Patches:
    """The patches of a body, decoded and checked."""

    def __init__(self, channels: dict[str, int], max_body: int) -> None:
        self._shapes = {key: (PATCH_SIDE, PATCH_SIDE, channels[key]) for key in _KEYS}
        self._max_body = max_body

    def encode_checked(self, content_type: str, body: bytes) -> bytes:
        """As `Checker.encode_checked`, and MemoryError."""
        read = self._from_json if content_type == JSON else self._from_parquet
        images = read(body)
        count = len(images["sen1"])
        if count != len(images["sen2"]):
            raise RefusedError(400, f"sen1 has {count} patches, sen2 {len(images['sen2'])}")
        if count == 0:
            raise RefusedError(400, "no patches")
        for key, values in images.items():
            if (patch := first_not_finite(values)) is not None:
                raise RefusedError(400, f"{key}: patch {patch} has values that are not finite")
        return encode_parquet(images["sen1"], images["sen2"])

    def _from_json(self, body: bytes) -> dict[str, Float[np.ndarray, "patch 32 32 channel"]]:
        try:
            content = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            if "Not enough memory" in str(error):
                raise MemoryError from None
            raise RefusedError(400, f"not valid JSON: {error}") from None
        inputs = content.get("inputs") if isinstance(content, dict) and len(content) == 1 else None
        if not isinstance(inputs, dict) or set(inputs) != set(_KEYS):
            raise RefusedError(400, 'expected {"inputs": {"sen1": [...], "sen2": [...]}}')
        images = {}
        for key, shape in self._shapes.items():
            try:
                values = np.asarray(inputs.pop(key))  # the lists take more than all that follows
            except ValueError:
                raise RefusedError(400, f"{key}: not a rectangular array") from None
            if values.ndim != 4 or values.shape[1:] != shape:
                raise RefusedError(400, f"{key}: shape {values.shape}; expected (N, {', '.join(map(str, shape))})")
            if values.dtype.kind not in "fiu" and values.size:
                raise RefusedError(400, f"{key}: holds something other than numbers")
            images[key] = values.astype(np.float64, copy=False)
        # NumPy takes a truth value among numbers for 0 or 1. No key or number of what came so far has these letters.
        if b"true" in body or b"false" in body:
            raise RefusedError(400, "holds true or false among the numbers")
        return images

    def _from_parquet(self, body: bytes) -> dict[str, Float[np.ndarray, "patch 32 32 channel"]]:
        try:
            file = pq.ParquetFile(pa.BufferReader(body))
            self._check_footer(file)
            table = file.read(columns=list(_KEYS), use_threads=False)
        except MemoryError:
            raise
        except (pa.ArrowException, OSError, ValueError) as error:
            raise RefusedError(400, f"not readable parquet: {one_line(error)}") from None
        images = {}
        for key, shape in self._shapes.items():
            column = table.column(key).combine_chunks()
            lengths = column.value_lengths().to_numpy(zero_copy_only=False)
            values = column.flatten()
            if column.null_count or values.null_count:
                raise RefusedError(400, f"{key}: has null values")
            wrong = np.flatnonzero(lengths != int(np.prod(shape)))
            if wrong.size:
                expected = f"{int(np.prod(shape))} ({' x '.join(map(str, shape))})"
                raise RefusedError(
                    400, f"{key}: patch {wrong[0]} has {lengths[wrong[0]]:.0f} values; expected {expected}"
                )
            images[key] = values.to_numpy(zero_copy_only=False).reshape(-1, *shape)
        return images

    def _check_footer(self, file: pq.ParquetFile) -> None:
        """What the footer says of form and size, before a value is decoded: a small body can hold large columns."""
        schema, metadata = file.schema_arrow, file.metadata
        decoded = 0
        for key, shape in self._shapes.items():
            if len(schema.get_all_field_indices(key)) != 1:
                raise RefusedError(400, f"expected one column {key}; found {', '.join(schema.names[:8]) or 'none'}")
            kind = schema.field(key).type
            is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)
            if not is_list or not (pa.types.is_float32(kind.value_type) or pa.types.is_float64(kind.value_type)):
                raise RefusedError(400, f"{key}: column of {kind}; expected flat lists of float32 or float64")
            decoded += metadata.num_rows * int(np.prod(shape)) * kind.value_type.bit_width // 8
            values = sum(
                group.column(at).num_values
                for group in (metadata.row_group(number) for number in range(metadata.num_row_groups))
                for at in range(group.num_columns)
                if group.column(at).path_in_schema.split(".")[0] == key
            )
            if values != metadata.num_rows * int(np.prod(shape)):
                expected = f"(N, {', '.join(map(str, shape))})"
                raise RefusedError(
                    400, f"{key}: {values} values in {metadata.num_rows} patches; expected {expected}, flattened"
                )
        if decoded > self._max_body:
            raise RefusedError(413, f"patches of {decoded:,} bytes; at most {self._max_body:,} (--max-body)")


_REWRITTEN = (b"content-type", b"content-length", b"transfer-encoding", b"content-encoding")


def _host_name(header: str) -> str:
    """A Host header without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
