"""The embedded stack as one thing: up, down, and what tests do to it in between."""

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.local import edge, identity, parts, seaweedfs, services
from deploy.local.errors import ConfigurationError, NotReadyError, NotRunningError, StackError
from deploy.local.home import Home
from deploy.local.ledger import write_private
from deploy.local.program import Program
from deploy.local.supervisor import ProcessState, Supervisor
from deploy.provision import ProvisionSettings, provision

ALL: Final[Sequence[str]] = services.ALL

_READY_WITHIN_S = 30.0
_ALIVE_WITHIN_S = 6.0  # for a program that dies at once whenever it is started
_POLL_S = 0.05
_LOG_TAIL_LINES = 15


class Stack:
    """Every server of Millrace on this machine, with its data in one folder.

    As a context manager it is up inside the block and leaves no process after it; the data stays.
    """

    def __init__(
        self,
        directory: Path,
        services: Sequence[str] = ALL,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        """Describe a stack; nothing starts yet.

        Args:
            directory: the data folder; made when it does not exist, kept by :meth:`down`.
            services: which of the project's own processes to start beside the servers.
            overrides: ``MILLRACE_…`` settings that win over the stack's own. A server whose URL is among
                them is the user's and is not started here.

        Raises:
            ConfigurationError: a service of that name does not exist.
        """
        if unknown := set(services) - set(ALL):
            raise ConfigurationError(f"no such service: {', '.join(sorted(unknown))}; there are {', '.join(ALL)}")
        self._home = Home.at(directory)
        self._services = tuple(name for name in ALL if name in services)
        self._overrides = dict(overrides or {})
        self._supervisor = Supervisor(self._home)

    @property
    def directory(self) -> Path:
        """The data folder."""
        return self._home.directory

    @property
    def settings(self) -> dict[str, str]:
        """Every ``MILLRACE_…`` setting of this stack; valid from the first :meth:`up` on."""
        values = {**self._own_settings(), **self._foreign_settings()}
        return {"MILLRACE_UPLOAD_ORIGINS": services.upload_origins(values), **values}

    @property
    def programs(self) -> list[Program]:
        """What runs when the stack is up, in the order of starting."""
        settings = self.settings
        servers = [part.program(self._home, settings) for part in parts.ALL if not self._is_replaced(part)]
        return [*servers, *(services.program(name, settings) for name in self._services)]

    @property
    def replaced(self) -> list[parts.Part]:
        """The parts in whose place the user named a server of their own."""
        return [part for part in parts.ALL if self._is_replaced(part)]

    def up(self) -> None:
        """Start what is not running, wait until all of it answers, and provision; returns when ready.

        Idempotent: data, ports and secrets of earlier starts are kept, running programs are left alone.

        Raises:
            NotReadyError: a program did not become ready in time.
            StackError: another reason why it cannot start; nothing that ran before is ended.
        """
        with self._locked():
            if not self._supervisor.is_running():
                self._supervisor.shutdown()
                self._home.ledger.forget_taken_ports()
                edge.clear_cache(self._home)
            identity.ensure_key_pair(self._home)
            programs = self.programs
            self._supervisor.run(programs)
            self._start([program for program in programs if program.name not in self._services])
            self._provision()
            self._start([program for program in programs if program.name in self._services])
            self._write_settings()

    def down(self) -> None:
        """End every process of the stack, even those that a killed supervisor left behind; data stays."""
        with self._locked():
            with contextlib.suppress(NotRunningError):
                # Those who depend on others first, so that they end in peace.
                self._supervisor.stop(services.ALL)
                self._supervisor.stop(("edge",))
            self._supervisor.shutdown()
            seaweedfs.remove_sockets(self._home)

    def states(self) -> list[ProcessState]:
        """What the supervisor says of each program.

        Raises:
            NotRunningError: the stack is not up.
        """
        return self._supervisor.states()

    def pid(self, name: str) -> int:
        """The process id of a program.

        Raises:
            NotRunningError: there is no such process now.
        """
        for state in self.states():
            if state.name == name and state.pid:
                return state.pid
        raise NotRunningError(f"{name} has no process")

    def kill(self, name: str) -> None:
        """SIGKILL a program's process; the supervisor starts it again by itself."""
        os.kill(self.pid(name), signal.SIGKILL)

    def stop(self, name: str) -> None:
        """End one program and keep it ended until :meth:`start`."""
        self._supervisor.stop((name,))

    def start(self, name: str) -> None:
        """Start one program and wait until it is ready."""
        self._start([self._program(name)])

    def wait_ready(self, name: str) -> None:
        """Wait until a program answers (again), for instance after :meth:`kill`."""
        self._wait([self._program(name)])

    def log(self, name: str) -> Path:
        """The log file of a program."""
        return self._home.log(name)

    def token(self, user: str = identity.DEVELOPER) -> str:
        """A bearer token for ``user``, valid for 12 hours."""
        return identity.mint(self._home, user)

    def __enter__(self) -> Self:
        try:
            self.up()
        except BaseException:
            self.down()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down()

    # -- settings -----------------------------------------------------------------------------------------

    def _own_settings(self) -> dict[str, str]:
        values = {
            "MILLRACE_S3_REGION": "us-east-1",
            "MILLRACE_S3_ORIGINALS_BUCKET": "originals",
            "MILLRACE_S3_DELIVERY_BUCKET": "delivery",
        }
        for part in parts.ALL:
            if not self._is_replaced(part):
                values |= part.settings(self._home)
        if "MILLRACE_JWKS_URL" not in self._overrides:
            values |= identity.settings(self._home)
        return values | services.settings(self._home)

    def _foreign_settings(self) -> dict[str, str]:
        return {name: value for name, value in self._overrides.items() if name.startswith("MILLRACE_")}

    def _is_replaced(self, part: parts.Part) -> bool:
        """Whether the user named a server of their own (and not ours, from a settings file of this stack)."""
        given = self._overrides.get(part.replaced_by)
        return given is not None and given != part.settings(self._home)[part.replaced_by]

    def _provision(self) -> None:
        try:
            provision(self._provision_settings())
        except Exception as error:
            given = ", ".join(part.replaced_by for part in self.replaced)
            theirs = f" (on servers named by {given})" if given else ""
            raise StackError(f"provisioning failed{theirs}: {error}") from error

    def _provision_settings(self) -> ProvisionSettings:
        values = {name.removeprefix("MILLRACE_").lower(): value for name, value in self.settings.items()}
        known = {name: value for name, value in values.items() if name in ProvisionSettings.model_fields}
        return ProvisionSettings.model_validate(known)

    def _write_settings(self) -> None:
        lines = [f"{name}={value}\n" for name, value in sorted(self.settings.items())]
        write_private(self._home.directory / "env", "".join(lines))
        write_private(self._home.directory / "token", self.token() + "\n")

    # -- processes ----------------------------------------------------------------------------------------

    def _program(self, name: str) -> Program:
        for program in self.programs:
            if program.name == name:
                return program
        raise ConfigurationError(f"this stack has no program {name!r}")

    def _start(self, programs: Sequence[Program]) -> None:
        self._supervisor.start(program.name for program in programs)
        self._wait(programs)

    def _wait(self, programs: Iterable[Program]) -> None:
        waiting = list(programs)
        began = time.monotonic()
        while waiting := [program for program in waiting if not program.ready()]:
            states = {state.name: state for state in self.states()}
            for program in waiting:
                state = states[program.name]
                patience_s = _ALIVE_WITHIN_S if state.state in ("BACKOFF", "FATAL") else _READY_WITHIN_S
                if time.monotonic() - began > patience_s:
                    raise NotReadyError(f"{program.name} is not ready ({state.state})\n{self._tail(program.name)}")
            time.sleep(_POLL_S)

    def _tail(self, name: str) -> str:
        path = self._home.log(name)
        lines = path.read_text(errors="replace").splitlines() if path.exists() else []
        return "\n".join([f"last lines of {path}:", *lines[-_LOG_TAIL_LINES:]])

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Let one ``up`` or ``down`` at a time work on a data folder."""
        # Made again for a `down` after somebody removed the folder under running servers.
        with (self._home.folder("run") / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
