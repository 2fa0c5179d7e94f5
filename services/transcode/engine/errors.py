"""Failures of the engine that say nothing about the original: another attempt may succeed.

EngineFailed
├── EngineCrashed   the child died, or gave up for a reason that is not the original's
├── EngineTimeout   the child was killed: too long, or no progress
└── EngineUnready   no child can be had, or none gets ready: this machine is not fit for the job now

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
    """No child could be forked, or it could not get ready, or all of them ended with the process that they come from.

    One that does not get ready may have found all sessions of an encoder in hardware taken. Neither the original nor
    its task is to blame.
    """
