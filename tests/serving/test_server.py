"""The scoring server over a small network, driven as ASGI and over real sockets, and its client."""

import asyncio
import errno
import functools
import json
import os
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow.parquet as pq
import pytest
import requests
import torch

from bp_lcz.bands import ALL_CHANNELS
from bp_lcz.model import checkpoint
from bp_lcz.model.bp_lcz import BPLCZ
from bp_lcz.model.checkpoint import Classified, Classifier, load_classifier, write_checkpoint
from bp_lcz.params import load_params
from bp_lcz.records import Likeness
from bp_lcz.scheme import CLASS_COUNT
from bp_lcz.serving import client, server
from bp_lcz.serving.client import Client
from bp_lcz.serving.predict import predict_file
from bp_lcz.serving.server import JSON, MOST_JSON, application, listen, web_server
from bp_lcz.serving.wire import NPY, decode_arrays, encode_arrays
from tests.conftest import ROOT
from tests.records import described
from tests.refusals import refuses, states

LIMIT = 2**20
LOCAL = "127.0.0.1:5001"
SEN1, SEN2 = (np.random.default_rng(seed).random((2, 32, 32, count)) for seed, count in ((1, 8), (2, 10)))
PATCHES = encode_arrays(SEN1, SEN2)


def encode_json(sen1: np.ndarray, sen2: np.ndarray) -> bytes:
    return json.dumps({"inputs": {"sen1": sen1.tolist(), "sen2": sen2.tolist()}}).encode()


@functools.cache
def network() -> Classifier:
    form = load_params(ROOT / "params.yaml").trial("eb_cnn-plain")
    torch.manual_seed(1)
    small = form.model_copy(update={"backbone_options": {"widths": [4]}})
    width = len(ALL_CHANNELS.names)
    empty = BPLCZ(small, ALL_CHANNELS, torch.zeros(CLASS_COUNT, 7, 0), torch.zeros(width), torch.ones(width))
    return Classifier(empty.eval().requires_grad_(False), ALL_CHANNELS, described(small), "cpu")


class Asked:
    """One request of the application, and what came of it.

    Args:
        body: in one piece or some; None never comes.
    """

    def __init__(
        self,
        body: bytes | list[bytes] | None = b"",
        content_type: str | None = NPY,
        *,
        path: str = "/invocations",
        method: str = "POST",
        host: str = LOCAL,
        length: int | None = None,
        local: bool = True,
        classifier: Classifier | None = None,
        app: Any = None,
    ) -> None:
        self._parts = [body] if isinstance(body, bytes) else list(body or [])
        self._comes = body is not None
        self.parts_read = 0
        headers = {"host": host, "content-length": str(sum(map(len, self._parts)) if length is None else length)}
        if content_type:
            headers["content-type"] = content_type
        self._scope = {
            "type": "http",
            "method": method,
            "path": path,
            "query_string": b"",
            "headers": [(key.encode(), value.encode()) for key, value in headers.items()],
        }
        asyncio.run(self.by(app or application(classifier or network(), "demo/1", LIMIT, only_local_names=local)))

    async def by(self, app: Any) -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await app(self._scope, self._receive, send)
        self.status = sent[0]["status"]
        self.headers = dict(sent[0]["headers"])
        self.content = b"".join(message.get("body", b"") for message in sent[1:])
        assert (self.headers[b"x-model"], self.headers[b"x-level"]) == (b"demo/1", b"unknown")

    async def _receive(self) -> dict[str, Any]:
        if not self._comes:
            await asyncio.sleep(60)
        self.parts_read += 1
        if not self._parts:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._parts.pop(0), "more_body": bool(self._parts)}

    @property
    def error(self) -> str:
        return json.loads(self.content)["error"]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_are_answered_with_the_bytes_of_the_network(dtype: type) -> None:
    asked = Asked(encode_arrays(SEN1.astype(dtype), SEN2))
    assert (asked.status, asked.headers[b"content-type"]) == (200, NPY.encode())
    [found] = decode_arrays(asked.content, predictions=(CLASS_COUNT,))
    assert found.tobytes() == network().predict_proba(SEN1, SEN2).tobytes()


def test_json_is_answered_in_json_with_the_same_numbers() -> None:
    for content_type in (JSON, "application/json; charset=utf-8"):
        asked = Asked(encode_json(SEN1[:1], SEN2[:1]), content_type)
        assert asked.status == 200
        found = np.array(json.loads(asked.content)["predictions"], np.float32)
        np.testing.assert_array_equal(found, network().predict_proba(SEN1[:1], SEN2[:1]))


def test_the_answer_has_the_bytes_of_bp_lcz_predict(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    write_checkpoint(model, network().network, network().description)
    sen1, sen2 = (np.random.default_rng(3).random((20, 32, 32, count)) for count in (8, 10))
    with h5py.File(tmp_path / "city.h5", "w") as file:
        file["sen1"], file["sen2"] = sen1, sen2
    predict_file(tmp_path, str(model), tmp_path / "city.h5", tmp_path / "p.parquet")
    table = pq.read_table(tmp_path / "p.parquet")
    predicted = np.stack([table[f"p_{number}"].to_numpy() for number in range(1, CLASS_COUNT + 1)], axis=1)
    with listening(application(load_classifier(model), "demo/1", 8 * LIMIT, only_local_names=True)) as url:
        assert Client(url).predict_proba(sen1, sen2).tobytes() == predicted.tobytes()
    assert client.BATCH == checkpoint.BATCH, "of as many patches at once the last bits are the same"


def spoiled(value: float) -> np.ndarray:
    images = SEN2.copy()
    images[1, 3, 3, 3] = value
    return images


@pytest.mark.parametrize(
    ("body", "content_type", "where"),
    [
        (encode_arrays(SEN1[..., :7], SEN2), NPY, "sen1"),
        (encode_arrays(SEN1[:, :16], SEN2), NPY, "sen1"),
        (encode_arrays(SEN1, spoiled(np.nan)), NPY, "sen2: patch 1"),
        (encode_arrays(SEN1, spoiled(-np.inf)), NPY, "sen2: patch 1"),
        (encode_arrays(SEN1, spoiled(1e300)), NPY, "sen2: patch 1"),
        (encode_arrays(SEN1[:0], SEN2[:0]), NPY, "sen1"),
        (encode_arrays(SEN1, SEN2[:1]), NPY, "sen1"),
        (encode_arrays(SEN1), NPY, "sen2"),
        (PATCHES[:-1], NPY, "sen2"),
        (PATCHES + b"more", NPY, "sen2"),
        (b"no array", NPY, "sen1"),
        (b"", NPY, "sen1"),
        (encode_json(SEN1, SEN2[..., :9]), JSON, "sen2"),
        (encode_json(SEN1, SEN2[:1]), JSON, "sen1"),
        (encode_json(SEN1, spoiled(np.nan)), JSON, "sen2: patch 1"),
        (encode_json(SEN1, spoiled(1e300)), JSON, "sen2: patch 1"),
        (encode_json(SEN1, spoiled(-7.0)).replace(b"-7.0", b"1e999"), JSON, "sen2: patch 1"),
        (encode_json(SEN1, spoiled(-7.0)).replace(b"-7.0", b"9" * 400), JSON, JSON),
        (encode_json(SEN1, spoiled(-7.0)).replace(b"-7.0", b"true"), JSON, JSON),
        (encode_json(SEN1, spoiled(-7.0)).replace(b"-7.0", b"null"), JSON, "sen2: patch 1"),
        (encode_json(SEN1, spoiled(-7.0)).replace(b"-7.0", b'"1"'), JSON, JSON),
        ('{"inputs": {"sen1": [[[[true]]]], "sen2": []}}'.encode("utf-16"), JSON, JSON),
        (b'{"inputs": {"sen1": [[1], [2, 3]], "sen2": []}}', JSON, JSON),
        (b'{"inputs": {"sen1": [], "sen2": []}}', JSON, "sen1"),
        (b'{"inputs": {"sen1": 1, "sen2": {}}}', JSON, JSON),
        (b'{"instances": []}', JSON, JSON),
        (b'["inputs", "sen1", "sen2"]', JSON, JSON),
        (b'{"inputs": ["sen1", "sen2"]}', JSON, JSON),
        (b"[" * 100_000, JSON, JSON),
        (b'{"inputs": {"sen1": ' + b"[" * 100_000, JSON, JSON),
        (b"", JSON, JSON),
    ],
)  # fmt: skip
def test_what_is_no_patch_gets_400_with_a_reason(body: bytes, content_type: str, where: str) -> None:
    asked = Asked(body, content_type)
    assert asked.status == 400
    assert asked.error.startswith(where)
    assert "\n" not in asked.error


def test_a_body_over_the_limit_is_refused_before_it_is_read() -> None:
    refused = Asked(b"x", length=LIMIT + 1)
    assert (refused.status, refused.parts_read) == (413, 0)
    assert states(refused.error, f"{LIMIT + 1:,}")
    assert states(refused.error, f"{LIMIT:,}")
    assert Asked(b"x", content_type=JSON, length=MOST_JSON + 1).status == 413
    longer = Asked([bytes(1000)] * 100, length=1500)
    assert (longer.status, longer.parts_read) == (400, 2)


def test_a_body_that_ends_early_or_takes_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Asked([], length=100).status == 400
    monkeypatch.setattr(server, "_BODY_SECONDS", 0.05)
    assert Asked(None, length=100).status == 408


HOSTILE = {
    "lists": b'{"inputs": {"sen1": [' + b"[]," * 60_000 + b'[]], "sen2": []}}',
    "lists in lists": b'{"inputs": {"sen1": [' + (b"[" * 90 + b"]" * 90 + b",") * 1000 + b'[]], "sen2": []}}',
    "dicts": b'{"inputs": {"sen1": [' + b"{}," * 60_000 + b'{}], "sen2": []}}',
    "numbers": b'{"inputs": {"sen1": [' + b".1,".join([b"0"] * 45_000) + b'], "sen2": []}}',
    "a long string": b'{"inputs": {"sen1": ["' + b"x" * 90_000 + b'"' + b',"a"' * 22_000 + b'], "sen2": []}}',
    "a long number": b'{"inputs": {"sen1": [0.' + b"1" * 180_000 + b'], "sen2": []}}',
    "a long whole number": b'{"inputs": {"sen1": [' + b"1" * 180_000 + b'], "sen2": []}}',
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_json_takes_bounded_memory_and_time_and_the_next_is_answered(kind: str) -> None:
    body = HOSTILE[kind]
    tracemalloc.start()
    start = time.process_time()
    refused = Asked(body, JSON)
    spent, (_, peak) = time.process_time() - start, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert refused.status == 400
    assert peak < 60 * len(body)
    assert spent < 5
    assert Asked(PATCHES).status == 200


def test_other_types_and_paths_are_refused_and_health_is_answered() -> None:
    assert Asked(b"x", "text/csv").status == 415
    assert Asked(b"x", None).status == 415
    assert Asked(method="GET", path="/docs").status == 404
    assert Asked(method="GET").status == 404
    for path in ("/health", "/ping", "/version"):
        assert Asked(method="GET", path=path).status == 200


def test_a_local_server_answers_to_local_names_only() -> None:
    for host in ("evil.example:5001", "", "127.0.0.1.evil.example", "0.0.0.0"):
        for path in ("/health", "/nothing"):
            assert Asked(method="GET", path=path, host=host).status == 403
    for host in ("localhost:5001", "127.0.0.1", "[::1]:5001"):
        assert Asked(method="GET", path="/health", host=host).status == 200
    assert Asked(method="GET", path="/health", host="lcz.example", local=False).status == 200


def test_answers_tell_how_many_patches_are_unlike_and_the_log_warns_once_in_a_while(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert b"x-unlike" not in Asked(PATCHES).headers  # the model does not know
    likeness = Likeness(centre=(0.0,) * 18, scale=(1.0,) * 18, mixing=None, limit=0.0)
    description = network().description.model_copy(update={"likeness": likeness})
    knowing = replace(network(), description=description)
    monkeypatch.setattr(server, "_LOOK", 4)
    app = application(knowing, "demo/1", LIMIT, only_local_names=True)
    for body, content_type in ((PATCHES, NPY), (encode_json(SEN1, SEN2), JSON)):
        answer = Asked(body, content_type, app=app)
        assert (answer.status, answer.headers[b"x-unlike"]) == (200, b"2")
    lines = capsys.readouterr().err.splitlines()
    assert [("4 of 4" in line) for line in lines] == [True]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("could not create a primitive")])
def test_a_request_for_which_memory_lacks_is_told_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def fail(*_: object) -> Classified:
        raise error

    monkeypatch.setattr(Classifier, "classify", fail)
    answer = Asked(PATCHES)
    assert (answer.status, "memory" in answer.error) == (503, True)
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_connections_for_which_files_lack_are_a_line_a_minute(capsys: pytest.CaptureFixture[str]) -> None:
    served = web_server(application(network(), "demo/1", LIMIT, only_local_names=True), LIMIT)
    loop = asyncio.new_event_loop()
    for _ in range(3):
        served._tell(loop, {"message": "accept", "exception": OSError(errno.EMFILE, os.strerror(errno.EMFILE))})
    loop.close()
    assert ["ulimit -n" in line for line in capsys.readouterr().err.splitlines()] == [True]


def test_one_request_is_computed_at_a_time_and_health_is_answered_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_end, at_work, most = threading.Event(), threading.Event(), [], []

    def compute(_: Classifier, sen1: np.ndarray, sen2: np.ndarray) -> Classified:
        at_work.append(None)
        most.append(len(at_work))
        began.set()
        assert may_end.wait(30)
        at_work.pop()
        return np.zeros((len(sen1), CLASS_COUNT), np.float32), np.zeros(len(sen1), bool)

    monkeypatch.setattr(Classifier, "classify", compute)
    with listening(application(network(), "demo/1", LIMIT, only_local_names=True)) as url:
        threads = [threading.Thread(target=Client(url).predict_proba, args=(SEN1, SEN2)) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert began.wait(30)
        healthy = Client(url, timeout=30.0).is_healthy()
        may_end.set()
        for thread in threads:
            thread.join()
    assert healthy
    assert most == [1, 1, 1]


@contextmanager
def listening(app: Any) -> Iterator[str]:
    """Address of an application behind the real web server."""
    with listen("127.0.0.1", 0) as listener:
        web = web_server(app, 8 * LIMIT)
        thread = threading.Thread(target=web.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            web.should_exit = True
            thread.join()


def test_no_part_of_an_answer_waits_for_word_of_the_one_before() -> None:
    with (
        listen("127.0.0.1", 0) as listener,
        socket.create_connection(listener.getsockname()),
        listener.accept()[0] as connection,
    ):
        assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with listening(application(network(), "demo/1", LIMIT, only_local_names=True)) as address:
        yield address


def test_a_client_that_sends_before_it_reads_hears_why_it_is_refused(url: str) -> None:
    with requests.Session() as session:
        session.trust_env = False
        for _ in range(2):
            refused = session.post(f"{url}/invocations", bytes(8 * LIMIT), headers={"Content-Type": NPY}, timeout=30)
            assert refused.status_code == 413
        parts = (b"x" * 1000 for _ in range(10))
        assert session.post(f"{url}/invocations", parts, headers={"Content-Type": NPY}, timeout=30).status_code == 411
        refused = session.post(f"{url}/invocations", b"x", headers={"Content-Type": "text/csv"}, timeout=30)
        assert refused.status_code == 415


def test_what_asks_first_is_not_told_to_send_too_much(url: str) -> None:
    head = f"POST /invocations HTTP/1.1\r\nHost: {LOCAL}\r\nExpect: 100-continue\r\nContent-Type: {NPY}\r\n"
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: {LIMIT + 1}\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as connection:
        connection.sendall(f"{head}Content-Length: -1\r\n\r\n".encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 400 ")


def test_chunks_say_no_length_of_their_own(url: str) -> None:
    head = f"POST /invocations HTTP/1.1\r\nHost: {LOCAL}\r\nContent-Type: {NPY}\r\nTransfer-Encoding: chunked\r\n"
    for length, status in (("Content-Length: 10\r\n", b"400"), ("", b"411")):
        with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2])), timeout=30) as connection:
            connection.sendall(f"{head}{length}\r\n1000\r\n".encode() + bytes(0x1000) + b"\r\n1000\r\n")
            assert connection.recv(1000).split()[1] == status


def test_the_client_gives_the_probabilities_of_the_network(url: str) -> None:
    expected = network().predict_proba(SEN1, SEN2)
    for sen1 in (SEN1, SEN1.tolist(), SEN1.astype(">f8"), SEN1.astype(np.longdouble), SEN1[::-1][::-1]):
        np.testing.assert_array_equal(Client(url).predict_proba(sen1, SEN2), expected)
    assert Client(url).predict_proba(SEN1[:0], SEN2[:0]).shape == (0, CLASS_COUNT)
    with refuses(url, 400, "sen1", "(2, 32, 32, 7)"):
        Client(url).predict_proba(SEN1[..., :7], SEN2)
    with refuses(url, 413):
        Client(url).predict_proba(np.repeat(SEN1, 20, axis=0), np.repeat(SEN2, 20, axis=0))


def test_the_client_asks_for_a_loopback_address_through_no_proxy(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for address in (url, url.replace("127.0.0.1", "localhost")):
        assert Client(address).is_healthy()
        assert Client(address).predict_proba(SEN1, SEN2).shape == (2, CLASS_COUNT)
    with refuses("http://lcz.invalid:5001", "no answer"):
        Client("http://lcz.invalid:5001").predict_proba(SEN1, SEN2)


def test_calls_in_a_with_statement_share_a_connection() -> None:
    app, seen = application(network(), "demo/1", LIMIT, only_local_names=True), set()

    async def noting(scope: Any, receive: Any, send: Any) -> None:
        seen.add(scope["client"])
        await app(scope, receive, send)

    with listening(noting) as url:
        with Client(url) as kept:
            assert kept.is_healthy()
            kept.predict_proba(SEN1, SEN2)
            assert len(seen) == 1
        for number in (2, 3):
            kept.predict_proba(SEN1, SEN2)
            assert len(seen) == number


def test_the_client_imports_little() -> None:
    script = "import sys, bp_lcz.serving.client; print({'torch', 'mlflow', 'pandas', 'fastapi'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True).stdout == "set()\n"


def test_the_client_says_what_is_wrong() -> None:
    for address in ("ftp://x", "x:5001", "http://", "http://[::1"):
        with refuses(address, "http://host:port"):
            Client(address)
    with refuses("sen1", 2, "sen2", 1):
        Client("http://127.0.0.1:1").predict_proba(SEN1, SEN2[:1])
    with refuses("http://127.0.0.1:1", "no answer", "refused"):
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


def http(content: bytes, status: str = "200 OK", header: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\n{header}Content-Length: {len(content)}\r\n\r\n".encode() + content


@pytest.mark.parametrize(
    ("answer", "facts"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", ["no answer", "SSH-2.0"]),
        (http(b"[]")[:-1], ["no answer", "IncompleteRead"]),
        (http(b"<html>"), ["without predictions"]),
        (http(encode_arrays(SEN1)), ["without predictions"]),
        (http(encode_arrays(np.zeros((1, CLASS_COUNT)))), ["1 predictions", "2 patches"]),
        (http(b"<html>", "404 Not Found"), ["404: Not Found"]),
        (http(b"[]", "500 Oops"), ["500: Oops"]),
        (http(b"", "302 Found", "Location: http://lcz.invalid/\r\n"), ["302: Found"]),
    ],
)
def test_the_client_says_that_it_is_no_scoring_server(answer: bytes, facts: list[str]) -> None:
    with answering(answer) as url, refuses(url, *facts):
        Client(url).predict_proba(SEN1, SEN2)


def test_what_speaks_no_http_is_not_healthy() -> None:
    with answering(b"SSH-2.0-OpenSSH_9.2\r\n") as url:
        assert not Client(url).is_healthy()
    for url in ("http://localhost:port", "http://a..b"):
        assert not Client(url).is_healthy()
        with refuses(url, "no answer"):
            Client(url).predict_proba(SEN1, SEN2)


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_the_client_names_the_patch_by_the_callers_number(value: float) -> None:
    sen1, sen2 = np.zeros((120, 32, 32, 8)), np.zeros((120, 32, 32, 10), np.float64)
    sen2[100, 1, 2, 3] = value
    with refuses("sen2", "patch 100", "finite"):
        Client("http://127.0.0.1:1").predict_proba(sen1, sen2)


@pytest.mark.parametrize(
    ("sen1", "fact"),
    [
        ([], "(0,)"),
        ([[1.0], [2.0, 3.0]], "rectangular"),
        (SEN1[:, :16], "(2, 16, 32, 8)"),
        (SEN1.astype(np.int64), "int64"),
        (SEN1.astype(bool), "bool"),
        (SEN1.astype(str), "<U32"),
        (SEN1.astype(object), "object"),
    ],
)
def test_the_client_refuses_what_is_no_array_of_patches(sen1: Any, fact: str) -> None:
    with refuses("sen1", fact):
        Client("http://127.0.0.1:1").predict_proba(sen1, SEN2)
