"""The gate before the scoring application, and the client; the real application runs in tests/integration."""

import asyncio
import functools
import io
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bp_lcz.errors import UserError
from bp_lcz.serving.client import JSON, PARQUET, Client, encode_json, encode_parquet
from bp_lcz.serving.server import MIB, Checker, Gate

LIMIT = 4 * MIB
SEN1, SEN2 = (np.random.default_rng(seed).random((2, 32, 32, count)) for seed, count in ((1, 8), (2, 10)))


@functools.cache
def checker() -> Checker:
    return Checker({"sen1": 8, "sen2": 10}, LIMIT)


@pytest.fixture(scope="module", autouse=True)
def _end_checker() -> Iterator[None]:
    yield
    checker().close()


class Server:
    """A gate before an application that keeps what reaches it."""

    def __init__(self, local: bool = True) -> None:
        self.reached: list[tuple[dict[bytes, bytes], bytes]] = []
        self.parts_read = 0
        self._gate = Gate(self._application, checker(), LIMIT, "demo/1", only_local_names=local)

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        self.reached.append((dict(scope["headers"]), body))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answer"})

    def ask(
        self,
        body: bytes | list[bytes] = b"",
        content_type: str | None = PARQUET,
        path: str = "/invocations",
        method: str = "POST",
        **headers: str,
    ) -> tuple[int, bytes]:
        parts = body if isinstance(body, list) else [body]
        waiting = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
        waiting[-1]["more_body"] = False
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            self.parts_read += 1
            return waiting.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        named = {"host": "127.0.0.1:5001", **({"content-type": content_type} if content_type else {}), **headers}
        scope = {
            "type": "http",
            "method": method,
            "path": path,
            "headers": [(key.replace("_", "-").encode(), value.encode()) for key, value in named.items()],
        }
        asyncio.run(self._gate(scope, receive, send))
        assert dict(sent[0]["headers"])[b"x-model"] == b"demo/1"
        return sent[0]["status"], sent[1]["body"]

    def reason(self, *arguments: Any, **named: Any) -> tuple[int, str]:
        status, body = self.ask(*arguments, **named)
        assert not self.reached, "what is refused never reaches the application"
        return status, json.loads(body)["error"]


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def flat(images: np.ndarray, dtype: str = "float64") -> list[np.ndarray]:
    return list(images.reshape(len(images), -1).astype(dtype))


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (encode_parquet(SEN1, SEN2), PARQUET),
        (encode_json(SEN1, SEN2), JSON),
        (encode_json(SEN1, SEN2), "application/json; charset=utf-8"),
        (parquet(sen1=flat(SEN1), sen2=flat(SEN2), note=["a", "b"]), PARQUET),
    ],
)
def test_patches_reach_the_application_as_they_were(body: bytes, content_type: str) -> None:
    server = Server()
    assert server.ask(body, content_type) == (200, b"answer")
    [(headers, received)] = server.reached
    assert headers[b"content-type"] == PARQUET.encode()
    assert int(headers[b"content-length"]) == len(received)
    frame = pd.read_parquet(io.BytesIO(received))
    np.testing.assert_array_equal(np.stack(frame["sen1"]).reshape(SEN1.shape), SEN1)
    np.testing.assert_array_equal(np.stack(frame["sen2"]).reshape(SEN2.shape), SEN2)


@pytest.mark.parametrize(
    "encode", [encode_json, lambda a, b: parquet(sen1=flat(a, "float32"), sen2=flat(b, "float32"))]
)
def test_float32_becomes_the_type_of_the_signature(encode: Callable[..., bytes]) -> None:
    server = Server()
    content_type = JSON if encode is encode_json else PARQUET
    assert server.ask(encode(SEN1.astype(np.float32), SEN2.astype(np.float32)), content_type)[0] == 200
    frame = pd.read_parquet(io.BytesIO(server.reached[0][1]))
    received = np.stack(frame["sen1"])
    assert received.dtype == np.float64
    np.testing.assert_array_equal(received.astype(np.float32).reshape(SEN1.shape), SEN1.astype(np.float32))


def spoiled(value: float) -> np.ndarray:
    images = SEN2.copy()
    images[1, 3, 3, 3] = value
    return images


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (encode_parquet(SEN1[..., :7], SEN2), PARQUET, "sen1: 14336 values in 2 patches; expected (N, 32, 32, 8), flattened"),
        (encode_parquet(SEN1, spoiled(np.nan)), PARQUET, "sen2: patch 1 has values that are not finite"),
        (encode_parquet(SEN1, spoiled(-np.inf)), PARQUET, "sen2: patch 1 has values that are not finite"),
        (encode_parquet(SEN1, spoiled(1e300)), PARQUET, "sen2: patch 1 has values that are not finite"),
        (encode_json(SEN1, spoiled(1e300)), JSON, "sen2: patch 1 has values that are not finite"),
        (encode_parquet(SEN1[:0], SEN2[:0]), PARQUET, "no patches"),
        (parquet(sen1=flat(SEN1)), PARQUET, "expected one column sen2; found sen1"),
        (parquet(sen1=["a", "b"], sen2=flat(SEN2)), PARQUET, "sen1: column of string; expected flat lists"),
        (parquet(sen1=[flat(SEN1)[0][:-1], np.append(flat(SEN1)[1], 0)], sen2=flat(SEN2)), PARQUET, "sen1: patch 0 has 8191 values; expected 8192 (32 x 32 x 8)"),
        (b"PAR1 no more", PARQUET, "not readable parquet: "),
        (encode_json(SEN1, SEN2[..., :9]), JSON, "sen2: shape (2, 32, 32, 9); expected (N, 32, 32, 10)"),
        (encode_json(SEN1, SEN2[:1]), JSON, "sen1 has 2 patches, sen2 1"),
        (encode_json(SEN1, spoiled(np.nan)), JSON, "sen2: holds something other than numbers"),
        (b'{"inputs": {"sen1": [NaN], "sen2": []}}', JSON, "not valid JSON: "),
        (b'{"inputs": {"sen1": [[1], [2, 3]], "sen2": []}}', JSON, "sen1: not a rectangular array"),
        (encode_json(SEN1, spoiled(-7.0)).replace(b"-7.0", b"true"), JSON, "holds true or false among the numbers"),
        (encode_json(SEN1, spoiled(-7.0)).replace(b"-7.0", b"null"), JSON, "sen2: holds something other than numbers"),
        (b'{"instances": []}', JSON, 'expected {"inputs": {"sen1": [...], "sen2": [...]}}'),
        (b"[" * 100_000, JSON, "not valid JSON: "),
        (b"", JSON, "not valid JSON: "),
    ],
)  # fmt: skip
def test_what_is_no_patch_gets_400_with_a_reason(body: bytes, content_type: str, reason: str) -> None:
    status, found = Server().reason(body, content_type)
    assert status == 400
    assert found.startswith(reason)


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    server = Server()
    status, reason = server.reason(b"x", content_length=str(LIMIT + 1))
    assert (status, reason) == (413, f"body of {LIMIT + 1:,} bytes; at most {LIMIT:,} (--max-body)")
    server = Server()
    server.reason(b"x", content_length=str(LIMIT + 1), expect="100-continue")
    assert server.parts_read == 0, "what asks first is not told to send"
    endless = [b"x" * 2**20] * 1000  # in pieces, without a length
    status, reason = server.reason(endless)
    assert (status, reason) == (413, f"body of more than {LIMIT:,} bytes (--max-body)")
    assert server.parts_read <= 2 * (LIMIT // 2**20 + 1), "a little more is thrown away, so that the client can listen"
    assert server.reason(b"x", content_length="-1") == (400, "Content-Length is no number")


def test_a_small_body_that_decodes_to_much_is_refused_before_it_is_decoded() -> None:
    zeros = [np.zeros(1024 * 8)] * 200
    body = parquet(sen1=zeros, sen2=[np.zeros(1024 * 10)] * 200)
    assert len(body) < LIMIT / 4
    status, reason = Server().reason(body)
    assert status == 413
    assert reason.startswith("patches of 29,491,200 bytes; at most ")


def bomb(**options: Any) -> bytes:
    """Parquet whose footer tells of one patch, and whose page decodes to 192 MiB."""

    def varint(value: int, width: int = 1) -> bytes:
        digits = [value >> shift & 0x7F for shift in range(0, 7 * max(width, -(-value.bit_length() // 7)), 7)]
        return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])

    def one_row(count: int) -> pa.Array:
        return pa.ListArray.from_arrays(pa.array([0, count], pa.int32()), pa.array(np.zeros(count)))

    count, out = 192 * MIB // 8, io.BytesIO()
    table = pa.table({"sen1": one_row(count), "sen2": one_row(1024 * 10)})
    pq.write_table(table, out, write_statistics=False, data_page_size=2**30, write_batch_size=2**30, **options)
    body = out.getvalue()
    start = len(body) - 8 - int.from_bytes(body[-8:-4], "little")
    true = varint(2 * count)  # Thrift's zigzag
    assert true in body[start:]
    return body[:start] + body[start:].replace(true, varint(2 * 1024 * 8, len(true)), 1)


BOMBS: dict[str, Callable[[], tuple[bytes, str]]] = {
    "dictionary": lambda: (bomb(compression="none", use_dictionary=True), PARQUET),
    "zstd": lambda: (bomb(compression="zstd", use_dictionary=False), PARQUET),
    "lists": lambda: (b'{"inputs": {"sen1": [' + b"[]," * (LIMIT // 3 - 20) + b'[]], "sen2": []}}', JSON),
    "dicts": lambda: (b'{"inputs": {"sen1": [' + b"{}," * (LIMIT // 3 - 20) + b'{}], "sen2": []}}', JSON),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_a_body_that_takes_much_memory_is_refused_and_the_next_is_answered(kind: str) -> None:
    body, content_type = BOMBS[kind]()
    assert len(body) <= LIMIT
    server = Server()
    status, reason = server.reason(body, content_type)
    assert status in (400, 413), reason
    assert server.ask(encode_parquet(SEN1, SEN2)) == (200, b"answer")


def test_a_lost_checking_process_is_replaced() -> None:
    checker()._process.kill()
    refused = (413, "takes too much memory or time to decode; send fewer patches at a time")
    assert Server().reason(encode_parquet(SEN1, SEN2)) == refused
    assert Server().ask(encode_parquet(SEN1, SEN2)) == (200, b"answer")


def test_a_body_that_takes_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bp_lcz.serving.server._CHECK_SECONDS", 0)
    assert Server().reason(encode_json(SEN1, SEN2), JSON)[0] == 413


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux bounds the memory")
def test_checking_takes_bounded_memory(tmp_path: Path) -> None:
    names = []
    for kind, make in BOMBS.items():
        body, content_type = make()
        (tmp_path / kind).write_bytes(body)
        names.append((kind, content_type))
    script = f"""
import resource
from pathlib import Path
from bp_lcz.serving.server import Checker, RefusedError
for name, content_type in {names}:
    checker = Checker({{"sen1": 8, "sen2": 10}}, {LIMIT})
    try:
        checker.encode_checked(content_type, Path(name).read_bytes())
    except RefusedError as refused:
        print(refused.status)
    checker.close()
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
    ran = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True, check=True)
    *statuses, peak = map(int, ran.stdout.split())
    assert len(statuses) == len(names)
    assert all(status in (400, 413) for status in statuses)
    assert peak * 1024 < 256 * MIB, "imports take 70 MiB, and 128 more are allowed"


def test_the_checking_process_hears_no_ctrl_c_and_ends_with_the_server() -> None:
    script = """
import os, signal, sys
from bp_lcz.serving.client import PARQUET
from bp_lcz.serving.server import Checker, RefusedError
checker = Checker({"sen1": 8, "sen2": 10}, 2**20)
signal.signal(signal.SIGINT, lambda *_: None)
os.killpg(0, signal.SIGINT)
try:
    checker.encode_checked(PARQUET, b"")
except RefusedError as refused:
    print(refused.status, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    command = [sys.executable, "-c", script]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as server:  # the checking process holds stderr, too: it comes to its end with the last of both
        assert server.communicate(timeout=60) == (b"400\n", b"")


def test_the_checking_process_imports_little() -> None:
    script = "import sys, bp_lcz.serving.server; print({'torch', 'mlflow', 'pandas'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_other_types_and_paths_are_refused_and_health_is_answered() -> None:
    assert Server().reason(b"x", "text/csv")[0] == 415
    assert Server().reason(b"x", None)[0] == 415
    assert Server().reason(method="GET", path="/docs")[0] == 404
    assert Server().reason(method="GET")[0] == 404
    for path in ("/health", "/ping", "/version"):
        assert Server().ask(method="GET", path=path) == (200, b"answer")


def test_a_local_server_answers_to_local_names_only() -> None:
    for host in ("evil.example:5001", "", "127.0.0.1.evil.example"):
        assert Server().reason(method="GET", path="/health", host=host)[0] == 403
    for host in ("localhost:5001", "127.0.0.1", "[::1]:5001"):
        assert Server().ask(method="GET", path="/health", host=host)[0] == 200
    assert Server(local=False).ask(method="GET", path="/health", host="lcz.example")[0] == 200


def test_the_client_says_what_is_wrong() -> None:
    with pytest.raises(UserError, match="ftp://x: expected http://host:port"):
        Client("ftp://x")
    with pytest.raises(UserError, match="sen1: has 2 patches, sen2 1"):
        Client("http://127.0.0.1:1").predict_proba(SEN1, SEN2[:1])
    with pytest.raises(UserError, match=r"http://127.0.0.1:1: no answer \(.*refused"):
        Client("http://127.0.0.1:1").predict_proba(SEN1, SEN2)
    assert not Client("http://127.0.0.1:1").is_healthy()


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Address of a server that says the same to everyone."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as request:
                head = list(takewhile(bytes.strip, request))
                # An unread rest would reset the connection, and the client would never see the answer.
                request.read(
                    sum(int(line.split(b":")[1]) for line in head if line.lower().startswith(b"content-length:"))
                )
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def http(content: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(content), content)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", r"no answer \(SSH-2.0"),
        (http(b"[]")[:-1], r"no answer \(IncompleteRead"),
        (http(b"<html>"), r"no answer \("),
        (http(b"{}"), "an answer without predictions; is this a scoring server"),
        (http(b"[]"), "an answer without predictions; is this a scoring server"),
        (http(b'{"predictions": [1]}'), r"predictions of shape \(1,\) for 2 patches"),
    ],
)
def test_the_client_says_that_it_is_no_scoring_server(answer: bytes, reason: str) -> None:
    with answering(answer) as url, pytest.raises(UserError, match=f"^{url}: {reason}"):
        Client(url).predict_proba(SEN1, SEN2)


def test_what_speaks_no_http_is_not_healthy() -> None:
    with answering(b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        assert not Client(url).is_healthy()
    for url in ("http://localhost:port", "http://a..b"):
        assert not Client(url).is_healthy()
        with pytest.raises(UserError, match=f"^{url}: no answer"):
            Client(url).predict_proba(SEN1, SEN2)


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_the_client_names_the_patch_by_the_callers_number(value: float) -> None:
    sen1, sen2 = np.zeros((120, 32, 32, 8)), np.zeros((120, 32, 32, 10), np.float64)
    sen2[100, 1, 2, 3] = value
    with pytest.raises(UserError, match="^sen2: patch 100 has values that are not finite$"):
        Client("http://127.0.0.1:1").predict_proba(sen1, sen2)


@pytest.mark.parametrize(
    ("sen1", "reason"),
    [
        ([], r"shape \(0,\); expected \(N, 32, 32, channels\)"),
        ([[1.0], [2.0, 3.0]], "not a rectangular array"),
        (SEN1[:, :16], r"shape \(2, 16, 32, 8\); expected \(N, 32, 32, channels\)"),
        (SEN1.astype(np.int64), "holds int64; expected floating-point numbers"),
        (SEN1.astype(bool), "holds bool; expected"),
        (SEN1.astype(str), "holds <U32; expected"),
        (SEN1.astype(object), "holds object; expected"),
    ],
)
def test_the_client_refuses_what_is_no_array_of_patches(sen1: Any, reason: str) -> None:
    with pytest.raises(UserError, match=f"^sen1: {reason}"):
        Client("http://127.0.0.1:1").predict_proba(sen1, SEN2)


@pytest.mark.parametrize("encoding", ["parquet", "json"])
def test_the_client_takes_lists_and_every_float_type(encoding: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    server, client = Server(), Client("http://127.0.0.1:1", encoding)

    def invoke(sen1: np.ndarray, sen2: np.ndarray) -> np.ndarray:
        assert server.ask(client._encode(sen1, sen2), client._content_type)[0] == 200
        return np.zeros((len(sen1), 17), np.float32)

    monkeypatch.setattr(client, "_invoke", invoke)
    for sen1 in (SEN1.tolist(), SEN1.astype(">f8"), SEN1.astype(np.longdouble)):
        assert client.predict_proba(sen1, SEN2.tolist()).shape == (2, 17)
    for _, body in server.reached:
        received = np.stack(pd.read_parquet(io.BytesIO(body))["sen1"])
        np.testing.assert_array_equal(received.reshape(SEN1.shape), SEN1)
