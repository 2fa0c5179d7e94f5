"""Children as the parent holds them: forked for one job, watched, killed and reaped, however their job ends."""

import asyncio
import atexit
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from services.transcode.engine import wire
from services.transcode.engine.errors import EngineCrashed, EngineFailed, EngineTimeout, EngineUnready
from services.transcode.engine.limits import Limits
from services.transcode.engine.wire import LIFE_NUMBER, Frame

_BUFFERED_BYTES = 1 << 20
"""What the parent buffers unread: twice this, and the child's writes block until the sink has caught up."""
_STDERR_TAIL_BYTES = 8 << 10
_PACKAGE_ROOT = Path(__file__).resolve().parents[3]
_ENVIRONMENT = {
    "PYTHONPATH": str(_PACKAGE_ROOT),
    "LC_ALL": "C.UTF-8",
    # A process is forked safely only while it has one thread.
    "OPENBLAS_NUM_THREADS": "1",
    # SVT-AV1 prints its settings unless told to speak of errors alone: the tail is for those.
    "SVT_LOG": "1",
    # SVT-AV1 has dozens of threads, and glibc gives each an arena of 64 MiB of address space where there are many
    # cores: more than a child may have.
    "MALLOC_ARENA_MAX": "2",
}
_SERVERS_TRIED = 2
_REAPED_WITHIN_S = 10.0
"""A child that was killed is gone in milliseconds, the memory of a large one in some more."""


@dataclass(slots=True)
class Child:
    """A running child: frames in, frames out, and why it ended; up to `is_ready`, through no fault of its job's."""

    started_unix_ns: int
    stall_s: float
    life: "_Life"
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    tail: "_Tail"
    is_ready: bool = False
    waited_s: float = 0.0

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.life.pid

    async def send(self, frame: Frame) -> None:
        """Sends one frame. A child that has gone is noticed by `receive`.

        Raises:
            EngineTimeout: it takes too long to read it.
        """
        async with self._patience():
            with suppress(ConnectionError):
                self.writer.write(wire.encode(frame))
                if frame.body:
                    self.writer.write(frame.body)
                await self.writer.drain()

    async def receive(self) -> Frame:
        """The child's next frame.

        Raises:
            EngineCrashed: it ended.
            EngineUnready: all children ended.
            EngineTimeout: it has been waited for without progress for too long, for its end too.
            WireError: it broke the protocol.
        """
        async with self._patience():
            frame = await wire.read_frame(self.reader)
        if frame is None:
            async with self._patience():
                raise await self._end()
        return frame

    @asynccontextmanager
    async def _patience(self) -> AsyncIterator[None]:
        """Waits for the child, in all no longer than `stall_s` between two signs of progress."""
        began_s = time.monotonic()
        stall = asyncio.timeout(max(0.0, self.stall_s - self.waited_s))
        try:
            async with stall:
                yield
        except TimeoutError as error:
            if not stall.expired():
                raise
            failure = EngineTimeout if self.is_ready else EngineUnready
            raise failure(f"the child made no progress for {self.stall_s:g} s", self.tail.text) from error
        self.waited_s += time.monotonic() - began_s

    def progressed(self) -> None:
        """Starts the stall clock anew."""
        self.waited_s = 0.0

    async def _end(self) -> EngineFailed:
        code = await self.life.exit_code()
        if code is None:
            return EngineUnready("the process that children are forked from has ended, and the child with it")
        failure = EngineCrashed if self.is_ready else EngineUnready
        if code >= 0:
            return failure(f"the child exited with code {code}", self.tail.text)
        name = signal.Signals(-code).name
        hint = " (out of memory, perhaps)" if name == "SIGKILL" else ""
        return failure(f"the child was ended by {name}{hint}", self.tail.text)


@asynccontextmanager
async def forked(limits: Limits) -> AsyncIterator[Child]:
    """Starts a child; on leaving, however that comes about, it is killed and reaped.

    Raises:
        EngineUnready: there can be none.
    """
    async with AsyncExitStack() as stack:
        try:
            child = await _begun(stack, limits)
        except OSError as error:  # of descriptors or processes, none is left
            raise EngineUnready(f"no child can be had: {error}") from error
        yield child


async def _begun(stack: AsyncExitStack, limits: Limits) -> Child:
    loop = asyncio.get_running_loop()
    started_unix_ns = time.time_ns()
    ours, theirs = socket.socketpair()
    stack.callback(theirs.close)
    reader, writer = await asyncio.open_connection(sock=ours, limit=_BUFFERED_BYTES)
    stack.push_async_callback(_close, writer)
    tail_fd, noise_fd = os.pipe()
    noise = stack.enter_context(os.fdopen(noise_fd, "wb", buffering=0))
    tail_transport, tail = await loop.connect_read_pipe(_Tail, os.fdopen(tail_fd, "rb", buffering=0))
    stack.callback(tail_transport.close)
    life = await _life(stack, limits, theirs.fileno(), noise.fileno())
    # The child's ends live on in the child alone: its end is then the end of what can be read here.
    theirs.close()
    noise.close()
    return Child(started_unix_ns, limits.stall_s, life, reader, writer, tail)


async def _life(stack: AsyncExitStack, limits: Limits, socket_fd: int, noise_fd: int) -> "_Life":
    for _ in range(_SERVERS_TRIED):
        ours, theirs = socket.socketpair()
        with theirs:
            life = _Life(*await asyncio.open_connection(sock=ours))
            stack.push_async_callback(life.end)
            life.server = _server.fork(socket_fd, noise_fd, theirs.fileno())
        try:
            async with asyncio.timeout(limits.stall_s):
                if await life.begin():
                    return life
        except TimeoutError:
            _server.give_up_on(life.server)
    raise EngineUnready("no child can be forked")


class _Life:
    """The way to the process that forked a child: what the child's pid is, how it ended, and the order to end it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.pid = 0
        self.server: subprocess.Popen[bytes] | None = None
        self._reader = reader
        self._writer = writer

    async def begin(self) -> bool:
        """Waits for the child's pid; False where the server has gone or cannot fork."""
        pid = await self._number()
        self.pid = pid or 0
        return pid is not None

    async def exit_code(self) -> int | None:
        """Waits for the child's end; None where the server ended too."""
        return await self._number()

    async def end(self) -> None:
        """Has the child killed, unless it has ended, and waits until it is reaped.

        A server that does not do so in time is ended, and the kernel kills its children with it: no job waits longer.
        """
        try:
            async with asyncio.timeout(_REAPED_WITHIN_S):
                with suppress(ConnectionError, OSError):
                    self._writer.write_eof()
                    await self._reader.read()
        except TimeoutError:
            _server.give_up_on(self.server)
        await _close(self._writer)

    async def _number(self) -> int | None:
        try:
            number: int = LIFE_NUMBER.unpack(await self._reader.readexactly(LIFE_NUMBER.size))[0]
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return number


class _Server:
    """The fork server of this process, started when it is first needed, and again should it have ended."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def fork(self, *descriptors: int) -> subprocess.Popen[bytes]:
        """Asks for a child with these descriptors; whether there is one is told by its life. Returns who was asked."""
        if self._control is None or self._process is None or self._process.poll() is not None:
            self._start()
        assert self._control is not None
        assert self._process is not None
        with suppress(ConnectionError):
            socket.send_fds(self._control, [b"f"], descriptors)
        return self._process

    def _start(self) -> None:
        self.stop()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # Not by the event loop: uvloop runs Python's at-fork hooks between fork and exec, and with the threads of gRPC
        # and of the trace exporter that ended every fourth child by SIGSEGV. Nor in a thread: the kernel ends a process
        # that asked to die with its parent when the thread ends that started it.
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-s", "-m", "services.transcode.engine.fork_server"),
                    *(str(theirs.fileno()), str(os.getpid())),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env=_ENVIRONMENT,
                start_new_session=True,  # a ^C at the terminal is the parent's to handle
            )
        self._control = ours

    def give_up_on(self, process: subprocess.Popen[bytes] | None) -> None:
        """Ends this one, unless it has been followed by another."""
        if process is self._process:
            self.stop()

    def stop(self) -> None:
        """Ends it, and with it every child; a no-op where there is none."""
        if self._control is not None:
            self._control.close()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._control = self._process = None


_server = _Server()
atexit.register(_server.stop)


class _Tail(asyncio.Protocol):
    """Keeps the end of what the child prints, so that noise neither blocks it nor fills memory."""

    def __init__(self) -> None:
        self._kept = bytearray()

    def data_received(self, data: bytes) -> None:
        """Appends, and forgets all but the last few KiB."""
        self._kept += data
        del self._kept[:-_STDERR_TAIL_BYTES]

    @property
    def text(self) -> str:
        """What is kept."""
        return self._kept.decode(errors="replace").strip()


async def _close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(ConnectionError):
        await writer.wait_closed()
