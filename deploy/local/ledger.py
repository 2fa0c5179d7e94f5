"""What one data folder remembers between starts: its ports and the secrets made up for it."""

import json
import os
import random
import secrets
import socket
from collections.abc import Iterable
from pathlib import Path

HOST = "127.0.0.1"
GRPC_OFFSET = 10_000  # SeaweedFS: a port's gRPC twin lies this far above it

# Below Linux's ephemeral range (32768 to 60999) even after the offset, so that no outgoing connection takes a
# remembered port while the stack is down.
_LOWEST_PORT = 18_000
_HIGHEST_PORT = 32_767 - GRPC_OFFSET


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of the loopback address now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections in TIME_WAIT do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Ledger:
    """Ports and secrets of one data folder, kept in a file that only the owner can read."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._ports: dict[str, int] = {}
        self._secrets: dict[str, str] = {}
        if path.exists():
            stored = json.loads(path.read_text())
            self._ports = stored["ports"]
            self._secrets = stored["secrets"]

    def port(self, name: str) -> int:
        """The port of ``name``: the remembered one, else a free one chosen now and remembered.

        Every port is chosen with a free twin ``GRPC_OFFSET`` above it.
        """
        if name not in self._ports:
            self._ports[name] = self._choose()
            self._save()
        return self._ports[name]

    def secret(self, name: str) -> str:
        """The secret of ``name``, 32 URL-safe characters, made at the first call."""
        if name not in self._secrets:
            self._secrets[name] = secrets.token_urlsafe(24)
            self._save()
        return self._secrets[name]

    def forget_taken_ports(self) -> None:
        """Give up ports that somebody else listens on; call it while nothing of the stack runs."""
        free = {name: port for name, port in self._ports.items() if _pair_is_free(port)}
        if free != self._ports:
            self._ports = free
            self._save()

    def ports(self) -> Iterable[int]:
        """All ports chosen so far."""
        return self._ports.values()

    def _choose(self) -> int:
        for _ in range(1000):
            port = random.randint(_LOWEST_PORT, _HIGHEST_PORT)  # noqa: S311 - spreads stacks, hides nothing
            if port not in self._ports.values() and _pair_is_free(port):
                return port
        raise OSError("no free port on the loopback address")

    def _save(self) -> None:
        text = json.dumps({"ports": self._ports, "secrets": self._secrets}, indent=2)
        write_private(self._path, text)


def write_private(path: Path, text: str) -> None:
    """Replace ``path`` atomically by ``text``, readable by the owner alone."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _pair_is_free(port: int) -> bool:
    return is_free(port) and is_free(port + GRPC_OFFSET)
