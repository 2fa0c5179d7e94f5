import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ATTEMPTS = """
import ctypes, fcntl, json, os, signal, socket, struct, subprocess, sys, threading
from services.transcode.engine import sandbox

libc = sandbox._libc()


def outlive_the_parent():
    if libc.prctl(1, 0, 0, 0, 0):  # PR_SET_PDEATHSIG
        raise OSError(ctypes.get_errno(), "prctl")


def have_a_signal_sent():
    fcntl.fcntl(0, 10, signal.SIGKILL)  # F_SETSIG
    fcntl.fcntl(0, 8, os.getppid())  # F_SETOWN


def read_where_the_sandbox_was_not_entered():
    is_shut.set()
    before.join()
    if "earlier thread" not in outcomes:
        raise PermissionError


outcomes, is_shut = {}, threading.Event()


def wait_and_read():
    is_shut.wait()
    with open("/etc/passwd"):
        outcomes["earlier thread"] = "allowed"


threading.excepthook = lambda _: None
before = threading.Thread(target=wait_and_read)
before.start()
states = sandbox.enter(1 << 30, 60)
attempts = {
    "read a file": lambda: open("/etc/passwd"),
    "write a file": lambda: open("/tmp/millrace-escape", "w"),
    "list a directory": lambda: os.listdir("/"),
    "remove a file": lambda: os.unlink("/tmp/millrace-escape"),
    "make a socket": lambda: socket.socket(),
    "make a local socket": lambda: socket.socketpair(),
    "run a program": lambda: os.execv("/bin/true", ["true"]),
    "run a command": lambda: subprocess.run(["/bin/true"]),
    "fork": os.fork,
    "signal the parent": lambda: os.kill(os.getppid(), 0),
    "outlive the parent": outlive_the_parent,
    "have a signal sent": have_a_signal_sent,
    "have the owner of a descriptor set": lambda: fcntl.fcntl(0, 15, struct.pack("ii", 1, os.getppid())),
    "have the group of a descriptor set": lambda: fcntl.ioctl(0, 0x8901, struct.pack("i", os.getppid())),
    "read a file in a thread that was there before": read_where_the_sandbox_was_not_entered,
    "take all memory": lambda: bytearray(2 << 30),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except (OSError, MemoryError) as error:
        outcomes[name] = type(error).__name__
    else:
        outcomes[name] = "allowed"
thread = threading.Thread(target=lambda: outcomes.update(thread="ran"))
thread.start()
thread.join()
print(json.dumps({"states": states, "outcomes": outcomes}), flush=True)
"""


ONE_LAYER = """
import sys
from services.transcode.engine import sandbox

libc = sandbox._libc()
libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
state = getattr(sandbox, sys.argv[1])(libc)
try:
    open("/etc/passwd")
except PermissionError:
    print(state, "denied")
else:
    print(state, "allowed")
"""


def printed_by(*command: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", *command],
        capture_output=True,
        check=True,
        timeout=30,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    ).stdout


@pytest.fixture(scope="module")
def report() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = json.loads(printed_by(ATTEMPTS))
    return found


def test_every_layer_says_its_state(report: dict[str, dict[str, str]]) -> None:
    assert set(report["states"]) == {"rlimits", "no_new_privs", "landlock", "seccomp"}
    assert report["states"]["rlimits"] == report["states"]["no_new_privs"] == "on"
    assert all(state.startswith(("on", "missing: ")) for state in report["states"].values())


def test_nothing_gets_out(report: dict[str, dict[str, str]]) -> None:
    if not report["states"]["seccomp"].startswith("on"):
        pytest.skip(f"this kernel has no seccomp filters: {report['states']['seccomp']}")
    outcomes = dict(report["outcomes"])
    assert outcomes.pop("thread") == "ran"
    assert outcomes.pop("take all memory") == "MemoryError"
    assert set(outcomes.values()) == {"PermissionError"}, outcomes


@pytest.mark.parametrize("layer", ["_shut_landlock", "_filter_syscalls"])
def test_each_layer_alone_keeps_files_closed(layer: str) -> None:
    printed = printed_by(ONE_LAYER, layer).strip()
    if printed.startswith("missing"):
        pytest.skip(f"this kernel lacks {layer}: {printed}")
    assert printed.endswith("denied")
