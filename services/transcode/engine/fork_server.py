"""The warm process that children are forked from: it has imported what they need, and touches nothing of an original.

An interpreter with the media libraries costs a third of a second of processor time to start, more than most images cost
to scale; a fork of one that has them costs a few milliseconds. Every job still has a process of its own, forked for it
alone, which shuts its own sandbox behind itself: what a hostile file does to one child never reaches the next. This
process runs one thread and holds neither credentials nor, in its children, a descriptor but theirs.

Started as `python -m services.transcode.engine.fork_server <control socket> <parent's pid>`. A message on the control
socket carries three descriptors: the child's socket, where its standard output and error go, and its life. Over its
life the parent is told the child's pid and then, once it has ended and was reaped, its exit code (negative: the signal
that ended it), 32 bits each. Whoever closes their end of a life has the child killed: by descriptor, so that a pid that
was given anew is never hit. This process ends with its parent, its children with it.
"""

import errno
import gc
import os
import resource
import selectors
import signal
import socket
import sys
import traceback
from contextlib import suppress
from dataclasses import dataclass
from typing import NoReturn

from services.transcode.engine import child, sandbox
from services.transcode.engine.wire import LIFE_NUMBER

DESCRIPTORS = 3
"""That come with a request, in the order that the module's docstring names."""

_CHILD_SOCKET_FD = 3
_OPEN_FILES = 65_536
"""Two a child, and in a child all of them may have to be closed one by one."""


@dataclass(frozen=True, slots=True)
class _Forked:
    """A child that was not reaped yet."""

    pid: int
    pid_fd: int
    life_fd: int


def main() -> None:
    """Serves until the parent closes the control socket or ends."""
    control_fd, parent_pid = int(sys.argv[1]), int(sys.argv[2])
    sandbox.die_with_parent(parent_pid)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, _OPEN_FILES)), hard))
    child.warm_up()
    # What is here now stays for good: collections in children neither look at it nor copy its pages.
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=control_fd) as control, selectors.DefaultSelector() as selector:
        _serve(control, selector)


def _serve(control: socket.socket, selector: selectors.BaseSelector) -> None:
    selector.register(control, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            forked: _Forked | None = key.data
            if selector.get_map().get(key.fd) is not key:
                continue  # reaped a moment ago
            if forked is None:
                message, descriptors, _, _ = socket.recv_fds(control, 1, DESCRIPTORS)
                if not message:
                    return
                _begin(descriptors, selector)
            elif key.fd == forked.pid_fd:
                _reap(forked, selector)
            elif not _is_open(forked.life_fd):
                signal.pidfd_send_signal(forked.pid_fd, signal.SIGKILL)
                selector.unregister(forked.life_fd)


def _begin(descriptors: list[int], selector: selectors.BaseSelector) -> None:
    """Forks a child; where the kernel refuses, the life that ends without a pid says so."""
    try:
        forked = _fork(descriptors)
    except OSError:
        traceback.print_exc()
    else:
        descriptors.remove(forked.life_fd)
        selector.register(forked.pid_fd, selectors.EVENT_READ, forked)
        selector.register(forked.life_fd, selectors.EVENT_READ, forked)
        _tell(forked.life_fd, forked.pid)
    for descriptor in descriptors:
        os.close(descriptor)


def _fork(descriptors: list[int]) -> _Forked:
    """Forks, or leaves nothing behind.

    Raises:
        OSError: the kernel refuses a process or a descriptor, perhaps one of those that came.
    """
    if len(descriptors) < DESCRIPTORS:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
    socket_fd, noise_fd, life_fd = descriptors
    own_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        _be_child(own_pid, socket_fd, noise_fd)
    try:
        return _Forked(pid, os.pidfd_open(pid), life_fd)
    except OSError:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise


def _be_child(server_pid: int, socket_fd: int, noise_fd: int) -> NoReturn:
    """From here on, a child: alone with its socket, and gone without a word to what it was forked from."""
    code = 1
    try:
        os.setsid()  # a ^C at the terminal is the parent's to handle
        os.dup2(noise_fd, sys.stdout.fileno())  # what libraries print never meets the protocol
        os.dup2(noise_fd, sys.stderr.fileno())
        os.dup2(socket_fd, _CHILD_SOCKET_FD)
        os.closerange(_CHILD_SOCKET_FD + 1, os.sysconf("SC_OPEN_MAX"))
        child.serve(_CHILD_SOCKET_FD, server_pid)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        os._exit(code)


def _reap(forked: _Forked, selector: selectors.BaseSelector) -> None:
    _, status = os.waitpid(forked.pid, 0)
    selector.unregister(forked.pid_fd)
    os.close(forked.pid_fd)
    if forked.life_fd in selector.get_map():
        selector.unregister(forked.life_fd)
    _tell(forked.life_fd, os.waitstatus_to_exitcode(status))
    os.close(forked.life_fd)


def _tell(life_fd: int, number: int) -> None:
    with suppress(BrokenPipeError):  # where nobody asks any more, the closed end has the child killed
        os.write(life_fd, LIFE_NUMBER.pack(number))


def _is_open(life_fd: int) -> bool:
    try:
        return bool(os.read(life_fd, 1))
    except ConnectionError:
        return False


if __name__ == "__main__":
    main()
