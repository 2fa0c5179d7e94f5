"""Failures of the engine that say nothing about the original: another attempt may succeed.

EngineFailed
├── EngineCrashed   the child died, or gave up for a reason that is not the original's
├── EngineTimeout   the child was killed: too long, or no progress
└── EngineUnready   the child gave up before it met the original: this machine is not fit for the job now

The permanent failure is `services.transcode.source.RejectedSource`. Errors of the caller's `ByteSource` and
sink pass through `probe` and `execute` unchanged.
"""


class EngineFailed(Exception):
    """The attempt failed. `detail` holds the end of the child's diagnostics: for logs, not for owners."""

    def __init__(self, message: str, detail: str = "") -> None:
        super().__init__(message, detail)
        self.message = message
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.message}: {self.detail}" if self.detail else self.message


class EngineCrashed(EngineFailed):
    """The child ended without an answer: a signal, an exit code, memory, or a fault of the engine itself."""


class EngineTimeout(EngineFailed):
    """The child was killed by the wall clock or because it stalled."""


class EngineUnready(EngineFailed):
    """The child could not get ready, for instance since all sessions of an encoder in hardware are taken.

    Nothing of the original was read: neither it nor its task is to blame.
    """
