"""The process supervisor of one stack: supervisord, told what to run and asked over a unix socket.

Everything it starts carries ``MILLRACE_STACK_DIR`` in its environment, which is how processes are found and
ended even after supervisord itself was killed.
"""

import contextlib
import http.client
import os
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from deploy.local.errors import ConfigurationError, NotRunningError, StackError
from deploy.local.home import MARKER, Home
from deploy.local.ledger import write_private
from deploy.local.program import Program

# sockaddr_un holds 108 bytes; supervisord first binds a name with its pid appended.
_LONGEST_SOCKET_PATH = 90
_RPC_TIMEOUT_S = 10.0
_POLL_S = 0.05
_UP = ("STARTING", "RUNNING", "BACKOFF")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """What the supervisor says of one program.

    Attributes:
        name: the program.
        state: supervisord's word: RUNNING, STOPPED, BACKOFF, FATAL…
        pid: 0 when there is no process.
        description: uptime, or why there is none.
    """

    name: str
    state: str
    pid: int
    description: str


class Supervisor:
    """Starts, watches and ends the processes of one data folder."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._configuration = home.directory / "run" / "supervisord.conf"
        self._socket_note = home.directory / "run" / "socket"

    def is_running(self) -> bool:
        """Whether supervisord answers."""
        try:
            with self._rpc() as rpc:
                rpc.supervisor.getState()
        except (NotRunningError, OSError, xmlrpc.client.Error, http.client.HTTPException):
            return False
        return True

    def run(self, programs: Sequence[Program]) -> None:
        """Make supervisord know exactly these programs, starting it if need be.

        Programs that are new or described otherwise than before are (re)started by :meth:`start`; those no
        longer listed are ended; the others go on undisturbed.
        """
        running = self.is_running()
        socket_path = self._socket_path() if running else self._new_socket_path()
        write_private(self._configuration, _render(self._home, socket_path, programs))
        if running:
            self._reload()
        else:
            self._launch()

    def start(self, names: Iterable[str]) -> None:
        """Start those of the programs that are not up; returns without waiting for readiness."""
        states = {state.name: state for state in self.states()}
        with self._rpc() as rpc:
            for name in names:
                if states[name].state not in _UP:
                    rpc.supervisor.startProcess(name, False)

    def stop(self, names: Iterable[str]) -> None:
        """Ask the programs to end, all at once, and wait until they have (SIGKILL after their patience)."""
        wanted = set(names)
        waiting = {state.name for state in self.states() if state.name in wanted and state.state in _UP}
        with self._rpc() as rpc:
            for name in waiting:
                rpc.supervisor.stopProcess(name, False)
        while waiting:
            time.sleep(_POLL_S)
            waiting &= {state.name for state in self.states() if state.pid}

    def states(self) -> list[ProcessState]:
        """What is known of every program, by name.

        Raises:
            NotRunningError: supervisord does not answer.
        """
        with self._rpc() as rpc:
            answer: Any = rpc.supervisor.getAllProcessInfo()
        return [ProcessState(info["name"], info["statename"], int(info["pid"]), info["description"]) for info in answer]

    def shutdown(self) -> None:
        """End supervisord and every process that carries this stack's marker; never fails for none."""
        if self.is_running():
            with contextlib.suppress(OSError, xmlrpc.client.Error, http.client.HTTPException):
                self.stop(state.name for state in self.states())
                with self._rpc() as rpc:
                    pid: Any = rpc.supervisor.getPID()
                    rpc.supervisor.shutdown()
                with contextlib.suppress(psutil.NoSuchProcess, psutil.TimeoutExpired):
                    psutil.Process(int(pid)).wait(timeout=10)
        self.sweep()
        self._remove_socket()

    def sweep(self) -> None:
        """End every process that carries this stack's marker, and all their children."""
        left = marked_processes(self._home.directory)
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
        _, left = psutil.wait_procs(left, timeout=3) if left else ([], [])
        while left:
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(left, timeout=5)
            left = marked_processes(self._home.directory)

    # -- supervisord itself -------------------------------------------------------------------------------

    def _launch(self) -> None:
        done = subprocess.run(
            (sys.executable, "-m", "supervisor.supervisord", "-c", str(self._configuration)),
            env={**_minimal_environment(), MARKER: str(self._home.directory)},
            cwd=self._home.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise StackError(f"supervisord did not start:\n{done.stdout}{done.stderr}")
        deadline = time.monotonic() + _RPC_TIMEOUT_S
        while not self.is_running():
            if time.monotonic() > deadline:
                raise StackError(f"supervisord does not answer; see {self._home.log('supervisord')}")
            time.sleep(_POLL_S)

    def _reload(self) -> None:
        with self._rpc() as rpc:
            answer: Any = rpc.supervisor.reloadConfig()
        added, changed, removed = answer[0]
        self.stop([*changed, *removed])
        with self._rpc() as rpc:
            for name in (*changed, *removed):
                rpc.supervisor.removeProcessGroup(name)
            for name in (*added, *changed):
                rpc.supervisor.addProcessGroup(name)

    @contextlib.contextmanager
    def _rpc(self) -> Iterator[Any]:
        proxy = xmlrpc.client.ServerProxy(
            "http://127.0.0.1", transport=_UnixTransport(self._socket_path()), allow_none=True
        )
        try:
            with proxy as rpc:
                yield rpc
        except (FileNotFoundError, ConnectionRefusedError) as error:
            raise NotRunningError("the stack is not up") from error

    # -- its socket ---------------------------------------------------------------------------------------

    def _socket_path(self) -> Path:
        try:
            return Path(self._socket_note.read_text())
        except FileNotFoundError as error:
            raise NotRunningError("the stack is not up") from error

    def _new_socket_path(self) -> Path:
        self._remove_socket()
        path = self._home.directory / "run" / "supervisor.sock"
        if len(os.fsencode(path)) > _LONGEST_SOCKET_PATH:
            path = Path(tempfile.mkdtemp(prefix="millrace-")) / "supervisor.sock"
        write_private(self._socket_note, str(path))
        return path

    def _remove_socket(self) -> None:
        with contextlib.suppress(NotRunningError):
            path = self._socket_path()
            path.unlink(missing_ok=True)
            if not path.is_relative_to(self._home.directory):
                shutil.rmtree(path.parent, ignore_errors=True)
            self._socket_note.unlink()


def marked_processes(directory: Path) -> list[psutil.Process]:
    """Every process whose environment marks it as part of the stack in ``directory``, with its children.

    Children are listed apart because PostgreSQL's write their titles over their environment.
    """
    found: dict[int, psutil.Process] = {}
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if process.environ().get(MARKER) == str(directory) and process.status() != psutil.STATUS_ZOMBIE:
                for one in (process, *process.children(recursive=True)):
                    found[one.pid] = one
    found.pop(os.getpid(), None)
    return list(found.values())


class _UnixTransport(xmlrpc.client.Transport):
    """XML-RPC over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        # Kept where the base class looks for it, to use it again and to close it.
        connection = self._connection[1] or _UnixConnection(self._path)
        self._connection = host, connection
        return connection


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_RPC_TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            client.settimeout(_RPC_TIMEOUT_S)
            client.connect(str(self._path))
        except OSError:
            client.close()
            raise
        self.sock = client


def _minimal_environment() -> dict[str, str]:
    """What a server needs of the shell that started it; nothing else of it may change how servers behave."""
    kept = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONHOME")
    return {name: os.environ[name] for name in kept if name in os.environ}


def _render(home: Home, socket_path: Path, programs: Sequence[Program]) -> str:
    sections: dict[str, dict[str, str]] = {
        "supervisord": {
            "logfile": _escape(str(home.log("supervisord"))),
            "pidfile": _escape(str(home.directory / "run" / "supervisord.pid")),
            "childlogdir": _escape(str(home.directory / "log")),
            "directory": _escape(str(home.directory)),
            **({"user": "root"} if os.geteuid() == 0 else {}),
        },
        "unix_http_server": {"file": _escape(str(socket_path)), "chmod": "0700"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
    }
    for program in programs:
        sections[f"program:{program.name}"] = {
            "command": _escape(shlex.join(program.command)),
            "environment": _environment(program.environment),
            "directory": _escape(str(program.directory)),
            "autostart": "false",
            "autorestart": "true",
            # A server that dies over and over is tried again, less and less often, for about ten minutes.
            "startsecs": "1",
            "startretries": "35",
            "stopsignal": program.stop_signal,
            "stopwaitsecs": str(program.stop_wait_s),
            "killasgroup": "true",
            "redirect_stderr": "true",
            # Twice, because supervisord expands this one twice.
            "stdout_logfile": _escape(_escape(str(home.log(program.name)))),
            "stdout_logfile_maxbytes": "10MB",
            "stdout_logfile_backups": "1",
            **({"user": str(program.uid)} if program.uid is not None else {}),
        }
    lines = []
    for title, values in sections.items():
        lines += [f"[{title}]", *(f"{key}={value}" for key, value in values.items()), ""]
    return "\n".join(lines)


def _environment(values: Mapping[str, str]) -> str:
    pairs = []
    for name, value in values.items():
        quote = "'" if '"' in value else '"'
        if quote in value or "\n" in value:
            raise ConfigurationError(f"{name} holds quotes or line breaks that cannot be passed on")
        pairs.append(f"{name}={quote}{_escape(value)}{quote}")
    return ",".join(pairs)


def _escape(value: str) -> str:
    # supervisord expands %(name)s in every value.
    return value.replace("%", "%%")
