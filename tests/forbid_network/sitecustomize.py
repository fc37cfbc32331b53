"""Let this Python process talk to its own machine only.

On PYTHONPATH this file is what Python imports at its start, so every kernel and every command
that a test starts is held to the same rule as the test. Local (AF_UNIX) sockets are untouched.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable
from typing import Any

LOG = "ENHANCELIB_NETWORK_LOG"  # a file that collects what was tried, also where it was swallowed
_LOCAL_NAMES = {"", "localhost", "ip6-localhost", "0.0.0.0", "::"}


class NetworkForbidden(RuntimeError):
    """Something tried to leave this machine.

    Not an OSError, so that code which expects a flaky network does not swallow it.
    """


def local(host: object) -> bool:
    """Whether a host name or address is this machine's loopback (or nothing at all)."""
    if isinstance(host, (bytes, bytearray)):
        host = host.decode("ascii", "replace")
    if host is None or (isinstance(host, str) and host in _LOCAL_NAMES):
        return True
    try:
        return ipaddress.ip_address(str(host).partition("%")[0]).is_loopback
    except ValueError:
        return str(host) == socket.gethostname()


def refuse(host: object) -> None:
    """Note the attempt and raise."""
    if path := os.environ.get(LOG):
        with open(path, "a", encoding="utf-8") as stream:
            stream.write(f"{host}\n")
    raise NetworkForbidden(f"tests may use loopback only, and something asked for {host!r}")


def _guard_method(name: str, *, address_at: int) -> None:
    plain = getattr(socket.socket, name)

    def guarded(self: socket.socket, *args: Any) -> Any:
        address = args[address_at] if len(args) >= -address_at else None
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and isinstance(address, tuple) and not local(address[0]):
            refuse(address[0])
        return plain(self, *args)

    setattr(socket.socket, name, guarded)


def _guard_function(name: str) -> None:
    plain: Callable[..., Any] = getattr(socket, name)

    def guarded(host: Any, *args: Any, **options: Any) -> Any:
        if not local(host):
            refuse(host)
        return plain(host, *args, **options)

    setattr(socket, name, guarded)


def forbid() -> None:
    """Patch this process, once."""
    if getattr(socket, "_loopback_only", False):
        return
    socket._loopback_only = True  # type: ignore[attr-defined]
    for name in ("connect", "connect_ex", "sendto"):
        _guard_method(name, address_at=-1)
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        _guard_function(name)


if __name__ == "sitecustomize":
    forbid()
