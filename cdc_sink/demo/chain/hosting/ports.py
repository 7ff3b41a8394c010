"""Ports for the chain: on 127.0.0.1, free, and the same again when a work folder is used again."""

from __future__ import annotations

import json
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

from cdc_sink.errors import ConfigError

HOST = "127.0.0.1"
# Below the range from which the kernel takes ports for outgoing connections (32768 and up): a
# killed server must find its port free when it comes back.
_FIRST, _COUNT = 15000, 17000


def choose_ports(names: Iterable[str], kept_in: Path) -> dict[str, int]:
    """Give each name a free port, those written in `kept_in` first; write them there.

    Raises: ConfigError when a port that was kept (or set by hand there) is in use.
    """
    ports = _read_kept(kept_in)
    for name in names:
        if name not in ports:
            ports[name] = _free_port(set(ports.values()))
        elif not is_free(ports[name]):
            raise ConfigError(
                f"chain: {name}",
                f"port {ports[name]}, kept in {kept_in}, is in use",
                data="nothing was started",
                remedy="stop the program that uses it, or use another work folder",
            )
    kept_in.write_text(json.dumps(ports, indent=1) + "\n", encoding="utf-8")
    return ports


def is_free(port: int) -> bool:
    """True when a server could listen on the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the servers do
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


def is_listening(port: int) -> bool:
    """True when somebody accepts connections on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0


def _read_kept(kept_in: Path) -> dict[str, int]:
    if not kept_in.exists():
        return {}
    try:
        return {name: int(port) for name, port in json.loads(kept_in.read_text()).items()}
    except (ValueError, TypeError, AttributeError) as cause:
        raise ConfigError(
            str(kept_in),
            "it is not a JSON object of names and ports",
            data="nothing was started",
            remedy="delete it to have ports chosen anew",
        ) from cause


def _free_port(taken: set[int]) -> int:
    while True:
        port = _FIRST + secrets.randbelow(_COUNT)
        if port not in taken and is_free(port):
            return port
