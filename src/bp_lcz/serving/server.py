"""The scoring server: a classifier behind a small FastAPI application.

Patches come as plain arrays, which take no more memory than their bytes. Decoded JSON takes many times its size, so it
is only for a few patches by hand, and its size is limited. Nothing of a registered model is executed.
"""

import asyncio
import json
import socket
import sys
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from importlib.metadata import version
from math import inf
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import uvicorn
from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from jaxtyping import Bool

from bp_lcz.addresses import is_local
from bp_lcz.bands import PATCH_SIDE
from bp_lcz.errors import UserError, limit_of, one_line
from bp_lcz.model.checkpoint import Classifier
from bp_lcz.model.memory import share_one_heap
from bp_lcz.patches.likeness import too_many_unlike
from bp_lcz.serving.bodies import REST, whole_bodies
from bp_lcz.serving.predict import load_model
from bp_lcz.serving.wire import NPY, decode_arrays, encode_arrays

JSON = "application/json"
MOST_JSON = 4 * 2**20
"""Most bytes of JSON: eleven patches with all digits. Decoded nested lists take 60 times as much."""

_BODY_SECONDS = _A_MINUTE = 60
_LOOK = 256
"""Number of patches after which the log may warn that too many are unlike the training data."""
_MOST_CONNECTIONS = 32
_JSON_FORM = 'expected {"inputs": {"sen1": [...], "sen2": [...]}} with nothing but numbers in the lists'
_FOREIGN = "the Host of the request is not this machine"
_PATHS = "not found; this server answers GET /health, /ping, /version and POST /invocations"


def serve_model(workspace: Path, model: str, host: str, port: int, max_body: int) -> None:
    """Serve a model until interrupted.

    Args:
        workspace: checkout or workspace, whose store holds a registered model.
        model: model as `load_model` takes it. An alias is resolved once, at the start.
        host: address to listen on.
        port: 0 for any free one.
        max_body: most bytes of a request.

    Raises:
        UserError: if there is no such model, its artifacts are gone or changed, or the address is taken.
    """
    share_one_heap()
    network = ThreadPoolExecutor(1)  # it also loads the model: torch starts threads for each thread that uses it
    classifier, name = network.submit(load_model, workspace, model).result()
    listener = listen(host, port)
    local = is_local(host)
    address = f"[{host}]" if ":" in host else host
    print(f"serving {name} on http://{address}:{listener.getsockname()[1]}", flush=True)
    if not local:
        print(f"note: other machines can reach {host}, and the server asks nobody for a password", file=sys.stderr)
    app = application(classifier, name, max_body, network, only_local_names=local)
    web_server(app, max_body).run(sockets=[listener])


def listen(host: str, port: int) -> socket.socket:
    """A socket for the web server.

    Raises:
        UserError: if the address is taken, or does not belong to this machine.
    """
    try:
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise UserError(f"{host}:{port}", f"cannot listen there ({error.strerror or error})") from None
    # Connections inherit this. Otherwise the body of an answer waits 40 ms until the client has acknowledged the head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def web_server(app: Callable[..., Awaitable[None]], max_body: int) -> uvicorn.Server:
    """The web server. It does not depend on which other event loops and parsers are installed.

    Args:
        app: an ASGI application.
        max_body: most bytes of a request.
    """
    return _Server(
        uvicorn.Config(
            app,
            http=whole_bodies(max_body),
            loop="asyncio",
            log_level="warning",
            limit_concurrency=_MOST_CONNECTIONS,
            server_header=False,
            lifespan="off",
        )
    )


class _Server(uvicorn.Server):
    """Logs a limit of the machine at most once a minute. asyncio would log a traceback for each waiting connection."""

    _told = -inf

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        asyncio.get_running_loop().set_exception_handler(self._tell)
        await super().startup(sockets)

    def _tell(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        limit, now = limit_of(context.get("exception")), loop.time()
        if limit is None:
            loop.default_exception_handler(context)
        elif now - self._told > _A_MINUTE:
            self._told = now
            print(f"error: {limit}", file=sys.stderr, flush=True)


class _Seen:
    """Counts patches that are unlike the training data. After each `_LOOK` patches the log gets at most one line."""

    def __init__(self) -> None:
        self._patches = self._unlike = 0

    def add(self, unlike: Bool[np.ndarray, " patch"]) -> None:
        """Count the patches of a request."""
        self._patches, self._unlike = self._patches + len(unlike), self._unlike + int(unlike.sum())
        if self._patches >= _LOOK:
            if warning := too_many_unlike(self._unlike, self._patches):
                print(f"warning: {warning}", file=sys.stderr, flush=True)
            self._patches = self._unlike = 0


class RefusedError(Exception):
    """Why a request is not answered, with its HTTP status."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def application(
    classifier: Classifier, name: str, max_body: int, network: Executor | None = None, *, only_local_names: bool
) -> FastAPI:
    """The application that answers with a classifier's probabilities.

    Args:
        classifier: the model.
        name: name of the model, sent as the header ``x-model``. Another header gives its level of Sentinel-2.
        max_body: most bytes of a request.
        network: executor with one thread, in which the classifier runs.
        only_local_names: refuse requests whose Host is not a name of this machine. Otherwise a page in a browser could
            reach a local server under a foreign name.
    """
    network = network or ThreadPoolExecutor(1)  # one request at a time has all cores and memory
    headers = {"x-model": quote(name), "x-level": classifier.description.level or "unknown"}
    seen = _Seen()
    shapes = {
        key: (PATCH_SIDE, PATCH_SIDE, len(bands))
        for key, bands in (("sen1", classifier.channels.sen1), ("sen2", classifier.channels.sen2))
    }

    def is_foreign(request: Request) -> bool:
        return only_local_names and not is_local(_host_name(request.headers.get("host", "")))

    async def check_host(request: Request) -> None:
        if is_foreign(request):
            raise RefusedError(403, _FOREIGN)

    # No middleware: with it, Starlette makes a task for each part of a body.
    app = FastAPI(openapi_url=None, dependencies=[Depends(check_host)])

    @app.get("/health")
    @app.get("/ping")
    async def health() -> Response:
        return Response(headers=headers)

    @app.get("/version")
    async def own_version() -> Response:
        return PlainTextResponse(version("bp-lcz"), headers=headers)

    @app.post("/invocations")
    async def invocations(request: Request) -> Response:
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (NPY, JSON):
            raise RefusedError(415, f"content type {kind or 'missing'}; expected {NPY} or {JSON}")
        body = await _read(request, max_body if kind == NPY else min(MOST_JSON, max_body))
        try:
            return await asyncio.get_running_loop().run_in_executor(network, classify, kind, body)
        except (MemoryError, OSError, RuntimeError) as error:
            if (limit := limit_of(error)) is None:
                raise
            print(f"error: {limit}", file=sys.stderr, flush=True)
            raise RefusedError(503, limit) from None

    def classify(kind: str, body: bytes | memoryview) -> Response:
        sen1, sen2 = _decode_json(bytes(body)) if kind == JSON else decode_arrays(body, **shapes)
        if len(sen1) == 0:
            raise UserError("sen1", "no patches")
        probability, unlike = classifier.classify(sen1, sen2)
        seen.add(unlike)
        told = headers | ({"x-unlike": str(int(unlike.sum()))} if classifier.description.likeness else {})
        if kind == JSON:
            return JSONResponse({"predictions": probability.tolist()}, headers=told)
        return Response(encode_arrays(probability), headers=told, media_type=NPY)

    def refusal(status: int, reason: str) -> Response:
        return JSONResponse({"error": reason}, status, headers)

    @app.exception_handler(RefusedError)
    async def refuse(_: Request, error: RefusedError) -> Response:
        return refusal(error.status, str(error))

    @app.exception_handler(UserError)
    async def refuse_patches(_: Request, error: UserError) -> Response:
        return refusal(400, str(error))

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def refuse_path(request: Request, _: Exception) -> Response:
        return refusal(403, _FOREIGN) if is_foreign(request) else refusal(404, _PATHS)

    return app


async def _read(request: Request, limit: int) -> bytes | memoryview:
    """The body of a request, whose length must be stated. A refused body is not read."""
    length = request.headers.get("content-length", "")
    if not length.isdecimal():
        raise RefusedError(411, "Content-Length is missing")
    if int(length) > limit:
        raise RefusedError(413, f"body of {int(length):,} bytes; at most {limit:,}")
    parts, there = [], 0
    try:
        async with asyncio.timeout(_BODY_SECONDS):
            more = True
            while more:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise RefusedError(400, "the body ended early")
                parts.append(message.get("body", b""))
                there += len(parts[-1])
                if there > int(length):  # with Transfer-Encoding, Content-Length means nothing
                    raise RefusedError(400, "the body is longer than Content-Length says")
                more = message.get("more_body", False)
    except TimeoutError:
        raise RefusedError(408, f"the body took longer than {_BODY_SECONDS} s") from None
    parts = [part for part in (*parts, request.scope.pop(REST, b"")) if part]
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _decode_json(body: bytes) -> list[np.ndarray]:
    """The patches of MLflow's ``inputs``; the classifier checks their shapes and values."""
    # NumPy would turn all numbers into long strings for one long string among them, and true into 1.
    if body.count(b'"') != 6 or any(word in body for word in (b"true", b"false")):
        raise UserError(JSON, _JSON_FORM)
    try:
        inputs = json.loads(body.decode())["inputs"]
        # The lists take most of the memory, so each is dropped as soon as it is an array.
        return [np.asarray(inputs.pop(key), np.float64) for key in ("sen1", "sen2")]
    except (KeyError, TypeError, AttributeError):
        raise UserError(JSON, _JSON_FORM) from None
    except (ValueError, OverflowError, RecursionError) as error:
        raise UserError(JSON, f"no JSON of rectangular arrays ({one_line(error)})") from None


def _host_name(header: str) -> str:
    """A Host header without its port."""
    if header.startswith("["):
        return header[1:].partition("]")[0]
    return header.partition(":")[0]
