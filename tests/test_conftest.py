"""The tests' own rules: no network but loopback, in this process and in those it starts."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import conftest as root

CHILD = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=1)
except RuntimeError as error:
    print(error)
"""


@pytest.fixture(autouse=True)
def own_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    log = tmp_path / "log"
    monkeypatch.setenv(root.guard.LOG, str(log))
    return log


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "example.org", b"example.org"])
def test_other_hosts_are_not_local(host: str | bytes) -> None:
    assert not root.guard.local(host)


@pytest.mark.parametrize("host", [None, "", "localhost", "127.0.0.1", "127.8.9.1", "::1"])
def test_loopback_is_local(host: str | None) -> None:
    assert root.guard.local(host)


def test_connecting_out_raises_and_is_logged(own_log: Path) -> None:
    with (
        socket.socket() as client,
        pytest.raises(RuntimeError, match=r"loopback only.*192\.0\.2\.1"),
    ):
        client.connect(("192.0.2.1", 80))
    assert own_log.read_text() == "192.0.2.1\n"


def test_a_datagram_out_raises() -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as client,
        pytest.raises(RuntimeError, match="loopback only"),
    ):
        client.sendto(b"x", ("192.0.2.1", 9))


def test_resolving_names_raises() -> None:
    with pytest.raises(RuntimeError, match=r"example\.org"):
        socket.getaddrinfo("example.org", 443)


def test_loopback_works() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname(), timeout=5)
        client.close()


def test_local_sockets_work(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(str(tmp_path / "s"))
        server.listen()
        client.connect(str(tmp_path / "s"))


def test_child_processes_inherit_the_rule() -> None:
    done = subprocess.run(
        [sys.executable, "-c", CHILD], capture_output=True, text=True, check=True, timeout=60
    )
    assert "tests may use loopback only" in done.stdout


def test_threads_are_set_for_children() -> None:
    assert 1 <= int(os.environ["OMP_NUM_THREADS"]) <= (os.cpu_count() or 1)
