"""Loopback never goes through a proxy, and a path becomes the URL of its database whatever is in it."""

import os
import sqlite3
import subprocess
import sys
import urllib.request
from pathlib import Path

import httpx
import pytest
import requests
import sqlalchemy

from bp_lcz.addresses import is_local, keep_loopback_direct, refuse_or_drop_socks, sqlite_url
from bp_lcz.serving.client import Client
from tests.conftest import ROOT
from tests.refusals import refuses
from tests.registry.conftest import server_that_answers

NOWHERE = "http://127.0.0.1:9"
PROXIES = ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever these tests do to the environment is undone."""
    for name in (*PROXIES, "NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_localhost_is_what_no_other_machine_can_reach() -> None:
    assert all(is_local(host) for host in ("127.0.0.1", "127.1.2.3", "::1", "localhost"))
    assert not any(is_local(host) for host in ("0.0.0.0", "::", "192.168.1.2", "team.example.org", "", None))


@pytest.mark.parametrize("name", PROXIES[:2])
@pytest.mark.parametrize(
    "stated",
    [
        "",
        "example.org",
        "[::1]:8080, fd00::/8 ,[fd00::1],2001:db8::1",
        "a:b:c",
        "münchen.de",
        "*",
        "10.0.0.0/8,.local,",
    ],
)
def test_no_library_asks_a_proxy_for_this_machine(monkeypatch: pytest.MonkeyPatch, name: str, stated: str) -> None:
    monkeypatch.setenv(name, NOWHERE)
    monkeypatch.setenv("NO_PROXY", stated)
    keep_loopback_direct()
    with server_that_answers(200, "here") as url:
        with urllib.request.urlopen(url.replace("me:hidden@", "")) as answer:
            assert answer.read() == b"here"
        assert httpx.get(url).text == "here"
        assert requests.get(url, timeout=5).text == "here"


def test_other_machines_are_still_reached_as_the_user_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", NOWHERE)
    monkeypatch.setenv("no_proxy", "one.example.org")
    keep_loopback_direct()
    assert urllib.request.getproxies()["http"] == NOWHERE
    assert urllib.request.proxy_bypass("one.example.org")
    assert not urllib.request.proxy_bypass("two.example.org")
    assert os.environ["no_proxy"] == os.environ["NO_PROXY"] == "one.example.org,localhost,127.0.0.1,::1"


def test_the_client_of_a_local_server_asks_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", NOWHERE)
    with server_that_answers(200) as url:
        assert Client(url.replace("me:hidden@", "")).is_healthy()


@pytest.mark.parametrize("url", [None, "http://127.0.0.1:4200/api"])
def test_a_socks_proxy_is_no_matter_for_a_server_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, url: str | None
) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5h://127.0.0.1:9")
    refuse_or_drop_socks(url)
    httpx.Client().close()


def test_a_socks_proxy_that_cannot_be_used_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "SOCKS5://127.0.0.1:9")
    with refuses("all_proxy", "team.example.org", "`pip install socksio`") as caught:
        refuse_or_drop_socks("http://me:hidden@team.example.org:4200/api")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_the_flows_settle_proxies_before_prefect_is_loaded(proxy: str) -> None:
    script = "import flows, httpx; httpx.Client().close(); print('made')"
    environment = os.environ | {"ALL_PROXY": proxy, "HTTP_PROXY": proxy, "NO_PROXY": "[::1]"}
    command = [sys.executable, "-W", "ignore", "-c", script]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "made\n", done.stderr


@pytest.mark.parametrize("name", ["plain", "a b", "100%", "%41", "why?", "no #1", "ü", "a?mode=ro&x=%23"])
def test_a_database_lies_where_its_path_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    url = sqlite_url(folder / "x.db")
    engine = sqlalchemy.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("CREATE TABLE here (x)"))
    engine.dispose()
    with sqlite3.connect(folder / "x.db") as database:
        assert database.execute("SELECT name FROM sqlite_master").fetchall() == [("here",)]
    monkeypatch.chdir(tmp_path)
    Path(url.removeprefix("sqlite:///")).parent.mkdir(exist_ok=True)  # as MLflow does
    assert list(tmp_path.iterdir()) == [folder]
