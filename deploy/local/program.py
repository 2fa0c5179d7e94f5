"""One program of the stack: how it is started, stopped, and known to be ready."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Program:
    """A long-running process that the supervisor keeps alive.

    Attributes:
        name: unique in the stack; also the name of its log file.
        command: executable and arguments, never passed through a shell.
        address: where people find it, printed by ``up`` and ``status``.
        ready: answers whether the program does its work now, by asking it over its own protocol.
            Must return within about 2 s and not raise for a server that is still starting.
        environment: variables beside the minimal ones every program gets.
        directory: working directory.
        stop_signal: asks for an orderly end; SIGKILL follows after ``stop_wait_s`` seconds.
        uid: the user to run as when the stack is started by root; None keeps the user.
    """

    name: str
    command: tuple[str, ...]
    address: str
    ready: Callable[[], bool]
    environment: Mapping[str, str] = field(default_factory=dict)
    directory: Path = Path("/")
    stop_signal: str = "TERM"
    stop_wait_s: int = 5
    uid: int | None = None
