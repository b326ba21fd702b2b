"""Bodies over real sockets: long ones lie whole in the scope, and whatever a client does the next request is answered."""

import hashlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bp_lcz.serving.bodies import REST
from bp_lcz.serving.server import listen, web_server

MOST = 4 * 2**20
LONG = np.random.default_rng(1).bytes(300_000)


class Counting:
    """An application that tells in how many parts a body came, and its digest; it refuses some without reading."""

    def __init__(self) -> None:
        self.gone = threading.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        parts: list[bytes] = []
        more = scope["path"] != "/refuse"
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.gone.set()
                return
            parts.append(message["body"])
            more = message["more_body"]
        told = told_of(len(parts), b"".join(parts) + scope.pop(REST, b""))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(told))]})
        await send({"type": "http.response.body", "body": told})


def told_of(parts: int, body: bytes) -> bytes:
    return f"{parts:6} {hashlib.sha256(body).hexdigest()}".encode()


def head(length: int, path: str = "/") -> bytes:
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode()


app = Counting()


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    with listen("127.0.0.1", 0) as listener:
        web = web_server(app, MOST)
        thread = threading.Thread(target=web.run, args=([listener],), daemon=True)
        thread.start()
        yield listener.getsockname()
        web.should_exit = True
        thread.join()


@pytest.fixture
def connection(address: tuple[str, int]) -> Iterator[socket.socket]:
    with socket.create_connection(address, timeout=30) as made:
        yield made


def answers_of(connection: socket.socket) -> Iterator[bytes]:
    with connection.makefile("rb") as answers:
        while True:
            while answers.readline().strip():
                pass
            yield answers.read(len(told_of(0, b"")))


def answer_of(connection: socket.socket) -> bytes:
    return next(answers_of(connection))


def test_a_long_body_comes_in_one_part_and_the_next_on_the_connection_too(connection: socket.socket) -> None:
    for body in (LONG, LONG[:-1], LONG * 13):
        connection.sendall(head(len(body)) + body)
        assert answer_of(connection) == told_of(1, body)


def test_it_may_come_little_by_little(connection: socket.socket) -> None:
    connection.sendall(head(len(LONG))[:20])
    for piece in (head(len(LONG))[20:], LONG[:1], LONG[1:70_000], LONG[70_000:-1], LONG[-1:]):
        time.sleep(0.01)
        connection.sendall(piece)
    assert answer_of(connection) == told_of(1, LONG)


def test_requests_that_do_not_wait_for_answers_get_them_in_turn(connection: socket.socket) -> None:
    sender = threading.Thread(target=connection.sendall, args=((head(len(LONG)) + LONG + head(5) + b"short") * 3,))
    sender.start()
    answers = answers_of(connection)
    for _ in range(3):
        assert next(answers).split()[1] == told_of(1, LONG).split()[1]  # in parts, where some lay in the parser before
        assert next(answers) == told_of(1, b"short")
    sender.join()


def test_one_above_the_limit_is_given_as_it_comes(connection: socket.socket) -> None:
    body = bytes(MOST + 1)
    connection.sendall(head(len(body)) + body)
    parts, _, digest = answer_of(connection).strip().partition(b" ")
    assert int(parts) > 1
    assert digest == hashlib.sha256(body).hexdigest().encode()


def test_the_rest_of_one_that_is_refused_is_dropped(connection: socket.socket) -> None:
    connection.sendall(head(len(LONG), "/refuse") + LONG[:10])
    assert answer_of(connection) == told_of(0, b"")
    connection.sendall(LONG[10:] + head(len(LONG)) + LONG)
    assert answer_of(connection) == told_of(1, LONG)


def test_the_application_hears_that_one_ends_early(address: tuple[str, int]) -> None:
    app.gone.clear()
    with socket.create_connection(address, timeout=30) as made:
        made.sendall(head(len(LONG)) + LONG[:200_000])
    assert app.gone.wait(30)


def test_what_is_promised_takes_no_memory(address: tuple[str, int]) -> None:
    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096

    before = resident()
    made = [socket.create_connection(address, timeout=30) for _ in range(20)]
    for one in made:
        one.sendall(head(MOST) + b"x")
    with socket.create_connection(address, timeout=30) as last:
        last.sendall(head(1) + b"x")
        assert answer_of(last) == told_of(1, b"x")
    grown = resident() - before
    for one in made:
        one.close()
    assert grown < 5 * MOST
